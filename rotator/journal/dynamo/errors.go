package dynamo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"credential-rotator/rotator"
)

// call is one call on its way: what it is for, and how often it was sent.
type call struct {
	doing  string // "saving the record of svc-billing"
	action string // "dynamodb:PutItem"; what to grant when it is denied
	table  string
	sent   int
}

func (j *Journal) call(doing, action string) *call {
	return &call{doing: fmt.Sprintf("%s in table %s", doing, j.table), action: action, table: j.table}
}

// counted makes the SDK count the attempts of this call, because a refusal of a
// second attempt does not tell that a first, whose reply was lost, was refused too.
func (c *call) counted(o *dynamodb.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("CountAttempts",
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				c.sent++
				return next.HandleFinalize(ctx, in)
			}), "Retry", middleware.After)
	})
}

// failed says in words what went wrong, and what to do when it is the table that is
// not as it must be. A write that was certainly not applied wraps rotator.ErrRefused.
func (c *call) failed(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("%s: %w", c.doing, err)
	}
	// The first line only: what follows it in a message about a signature quotes the
	// request, session token included.
	message, _, _ := strings.Cut(api.ErrorMessage(), "\n")
	text := fmt.Sprintf("%s: %s: %s%s", c.doing, api.ErrorCode(), message, c.advice(api))
	if c.action == "dynamodb:PutItem" && c.sent == 1 && definite(err) {
		return &refusal{text}
	}
	return errors.New(text)
}

// advice tells what a person can do about an error of DynamoDB.
func (c *call) advice(api smithy.APIError) string {
	message := strings.ToLower(api.ErrorMessage())
	switch code := api.ErrorCode(); {
	case strings.Contains(message, "index") && (code == "ValidationException" || code == "ResourceNotFoundException"):
		return "; the table needs the index " + indexInFlight + " (partition key in_flight, sort key user, both strings, projection ALL): let the Terraform module credential-rotator make it"
	case strings.Contains(message, "key") && code == "ValidationException":
		return "; the table must have the partition key user and the sort key item, both strings: let the Terraform module credential-rotator make it, or set JOURNAL to the table that it made"
	case code == "ResourceNotFoundException":
		return "; there is no such table in this account and region: make it with the Terraform module credential-rotator, or set JOURNAL to the name that it has"
	case code == "AccessDeniedException":
		on := "on the table " + c.table
		if c.action == "dynamodb:Query" {
			on = "on the index " + indexInFlight + " of the table " + c.table
		}
		return "; grant " + c.action + " " + on + " to the identity that the rotator runs as"
	case slices.Contains([]string{"UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException", "MissingAuthenticationTokenException"}, code):
		return "; the AWS credentials that the rotator itself runs with do not work: renew them, and check this machine's clock"
	}
	return ""
}

// refusal is what DynamoDB said when it turned a write down.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return rotator.ErrRefused }

// definite tells whether DynamoDB itself turned the call down.
func definite(err error) bool {
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil {
		return false
	}
	status := answer.HTTPStatusCode()
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout
}
