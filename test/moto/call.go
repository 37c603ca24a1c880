package moto

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Call is one call of any service in its own protocol: for services whose SDK we do not
// have, and for calls that are to be refused.
type Call struct {
	// Service is its name in a signature, such as "iam".
	Service string
	// Action is "ListUsers" where a service takes forms, the whole target
	// "AWSEvents.ListRules" where it takes JSON, and "GET /schedules" where it has paths.
	Action string
	// Body is a form, or JSON.
	Body string
}

// Do makes a call with a key and returns the HTTP status and the answer.
func (s *Server) Do(ctx context.Context, key aws.Credentials, c Call) (status int, answer string, err error) {
	req, err := c.request(ctx, s.URL)
	if err != nil {
		return 0, "", fmt.Errorf("calling %s %s: %w", c.Service, c.Action, err)
	}
	sent := ""
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return 0, "", fmt.Errorf("calling %s %s: %w", c.Service, c.Action, err)
		}
		sent = string(body)
		req.Body = io.NopCloser(strings.NewReader(sent))
	}
	sum := sha256.Sum256([]byte(sent))
	if err := v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), c.Service, Region, time.Now()); err != nil {
		return 0, "", fmt.Errorf("signing %s %s: %w", c.Service, c.Action, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("calling %s %s: %w", c.Service, c.Action, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", fmt.Errorf("calling %s %s: %w", c.Service, c.Action, err)
	}
	return resp.StatusCode, string(text), nil
}

// request is the call on the wire.
func (c Call) request(ctx context.Context, to string) (*http.Request, error) {
	if method, path, rest := strings.Cut(c.Action, " "); rest {
		return http.NewRequestWithContext(ctx, method, to+path, strings.NewReader(c.Body))
	}
	if strings.Contains(c.Action, ".") {
		body := c.Body
		if body == "" {
			body = "{}"
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
		if err == nil {
			req.Header.Set("X-Amz-Target", c.Action)
			req.Header.Set("Content-Type", "application/x-amz-json-1.0")
		}
		return req, err
	}
	form, err := url.ParseQuery(c.Body)
	if err != nil {
		return nil, err
	}
	form.Set("Action", c.Action)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

// Ask makes a call as the administrator, which has to succeed.
func (s *Server) Ask(t testing.TB, c Call) string {
	t.Helper()
	status, answer, err := s.Do(t.Context(), s.admin, c)
	if err != nil || status < 200 || status > 299 {
		t.Fatalf("%s %s (%s): %d %v\n%s", c.Service, c.Action, c.Body, status, err, answer)
	}
	return answer
}
