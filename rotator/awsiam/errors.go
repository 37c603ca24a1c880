package awsiam

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"unicode"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"credential-rotator/rotator"
)

// codeNoSuchEntity is IAM's error code for a user, and for a key, that does not exist.
const codeNoSuchEntity = "NoSuchEntity"

// refusal is what AWS said when it turned a call down.
type refusal struct {
	text  string
	marks []error // rotator.ErrNotFound, rotator.ErrRefused
}

func (r *refusal) Error() string   { return r.text }
func (r *refusal) Unwrap() []error { return r.marks }

// failed says in words what went wrong with a call and marks what the rotation must
// know: rotator.ErrNotFound, and rotator.ErrRefused for a write that was not applied.
func (c *call) failed(err error) error {
	api, answer := answered(err)
	if api == nil {
		return unanswered(c.doing, err)
	}
	r := &refusal{text: c.doing + ": " + said(api, answer) + c.advice(api.ErrorCode())}
	if api.ErrorCode() == codeNoSuchEntity {
		r.marks = append(r.marks, rotator.ErrNotFound)
	}
	if c.write && c.sent == 1 && definite(answer.HTTPStatusCode()) {
		r.marks = append(r.marks, rotator.ErrRefused)
	}
	return r
}

// unanswered says what to do when AWS was not reached, or not asked at all.
func unanswered(doing string, err error) error {
	var network *net.OpError
	var answer *awshttp.ResponseError
	switch {
	case errors.As(err, &answer) && answer.Response != nil && answer.HTTPStatusCode() != 0:
		// Not quoted: a broken reply of CreateAccessKey is one that holds a secret.
		return fmt.Errorf("%s: what answered for IAM did not speak like it (HTTP %d): is a proxy in between, or AWS_ENDPOINT_URL wrong?", doing, answer.HTTPStatusCode())
	case strings.Contains(err.Error(), "get credentials: "): // the SDK has no type for it
		return fmt.Errorf("%s: this machine has no AWS credentials that work: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in (%w)", doing, innermost(err))
	case errors.As(err, &network):
		return fmt.Errorf("%s: AWS cannot be reached (%w): check the network, AWS_REGION and AWS_ENDPOINT_URL", doing, network)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// innermost is the error that all others only wrap.
func innermost(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err
}

// unlessGone is failed for the calls whose work is done when the key is gone. IAM has
// the same code for a user that is gone, and then so are the keys.
func (c *call) unlessGone(err error) error {
	if err == nil {
		return nil
	}
	if api, _ := answered(err); api != nil && api.ErrorCode() == codeNoSuchEntity {
		return nil
	}
	return c.failed(err)
}

// advice tells what a person can do about an error of IAM.
func (c *call) advice(code string) string {
	switch code {
	case "AccessDenied", "AccessDeniedException":
		return "; grant " + c.action + " on the user to the identity that the rotator runs as"
	case "InvalidClientTokenId", "ExpiredToken", "SignatureDoesNotMatch", "MissingAuthenticationToken", "IncompleteSignature":
		return "; the AWS credentials that the rotator itself runs with do not work: renew them, and check this machine's clock"
	case codeNoSuchEntity:
		return "; is the name right, and is this the right AWS account?"
	}
	return ""
}

// answered finds the error that AWS itself sent. Both are nil when there was no
// answer, or one that did not come from AWS (a proxy's page has no code).
func answered(err error) (smithy.APIError, *awshttp.ResponseError) {
	var api smithy.APIError
	var answer *awshttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &answer) || answer.Response == nil {
		return nil, nil
	}
	if code := api.ErrorCode(); code == "" || code == "UnknownError" {
		return nil, nil
	}
	return api, answer
}

// definite tells whether a status says that the service turned the call down, rather
// than that it failed in the middle of it or never got all of it.
func definite(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout
}

// maxMessage is enough for every message that helps; the first line of AWS's longest.
const maxMessage = 400

// said is AWS's error in one line. What it says about a signature is left out: that
// message quotes the request, session token included.
func said(api smithy.APIError, answer *awshttp.ResponseError) string {
	message, _, _ := strings.Cut(api.ErrorMessage(), "\n")
	if api.ErrorCode() == "SignatureDoesNotMatch" {
		message = ""
	}
	if message != "" {
		message = ": " + message
	}
	return fmt.Sprintf("%s (HTTP %d, request %s)", printable(api.ErrorCode()+message), answer.HTTPStatusCode(), printable(answer.ServiceRequestID()))
}

// printable makes one short line of what somebody else wrote.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > maxMessage {
		s = string(runes[:maxMessage]) + "…"
	}
	return s
}
