// Package awsiam implements rotator.Users and rotator.Keys on IAM, and
// rotator.Prober on STS.
//
// It sees the two secrets of this product that AWS makes: a new key's, in the reply
// of CreateAccessKey, and again when the Prober signs with it. Neither the secret nor
// anything signed with it is ever part of an error: what IAM says is passed on, what
// STS says about a bad signature is not, and no reply that holds a secret is logged,
// whatever log mode the configuration asks for.
package awsiam

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"credential-rotator/rotator"
)

var (
	_ rotator.Users  = (*IAM)(nil)
	_ rotator.Keys   = (*IAM)(nil)
	_ rotator.Prober = (*Prober)(nil)
)

// IAM is rotator.Users and rotator.Keys on AWS Identity and Access Management. It is
// safe for concurrent use.
type IAM struct{ client *iam.Client }

// New returns an IAM that calls with cfg. It calls nothing itself. IAM is one
// endpoint per partition: cfg's region only says which partition.
func New(cfg aws.Config) *IAM {
	return &IAM{iam.NewFromConfig(cfg, func(o *iam.Options) { o.APIOptions = append(o.APIOptions, fromIAM) })}
}

// fromIAM makes an error of a success that did not come from IAM, such as the page of
// a proxy: the SDK does not read the reply of an action that returns nothing, and takes
// an empty one for an empty list. Every reply of AWS names its request.
func fromIAM(stack *middleware.Stack) error {
	return stack.Deserialize.Insert(middleware.DeserializeMiddlewareFunc("FromIAM",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			reply, _ := out.RawResponse.(*smithyhttp.Response)
			if err == nil && (reply == nil || reply.Header.Get("X-Amzn-Requestid") == "") {
				err = errors.New("what answered for IAM did not speak like it: is a proxy in between, or AWS_ENDPOINT_URL wrong?")
			}
			return out, metadata, err
		}), "OperationDeserializer", middleware.Before)
}

// call is one call on its way: what it is for, and how often it was sent.
type call struct {
	doing  string // "listing keys of svc-billing"
	action string // "iam:ListAccessKeys"; what to grant when it is denied
	write  bool
	sent   int
}

// counted makes the SDK count the attempts of this call, because a refusal of a
// second attempt does not tell that a first, whose reply was lost, was refused too.
func (c *call) counted(o *iam.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("CountAttempts",
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				c.sent++
				return next.HandleFinalize(ctx, in)
			}), "Retry", middleware.After)
	})
}
