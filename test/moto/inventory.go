package moto

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// listings are calls that list what an account has, by the service that they are for: a
// path, or the name of an action in the service's protocol.
const listings = `
monitoring GraniteServiceVersion20100801.DescribeAlarms
monitoring GraniteServiceVersion20100801.ListDashboards
dynamodb DynamoDB_20120810.ListTables
events AWSEvents.ListRules
iam ListPolicies
iam ListRoles
iam ListUsers
lambda /2015-03-31/functions/
logs Logs_20140328.DescribeLogGroups
scheduler /schedules
secretsmanager secretsmanager.ListSecrets
sns ListSubscriptions
sns ListTopics
sqs AmazonSQS.ListQueues
ssm AmazonSSM.DescribeParameters
`

// Inventory is what there is in this moto, in the services' own words, by the call that
// lists it: the same before and after means that nothing was left. It works while
// authentication is off.
func (s *Server) Inventory(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, listing := range strings.Split(strings.TrimSpace(listings), "\n") {
		found[listing] = s.list(t, listing)
	}
	return found
}

// list calls an action with no parameters.
func (s *Server) list(t testing.TB, listing string) string {
	t.Helper()
	service, action, _ := strings.Cut(listing, " ")
	var text string
	switch {
	case strings.HasPrefix(action, "/"):
		text = s.unsigned(t, call{service: service, method: http.MethodGet, path: action})
	case strings.Contains(action, "."):
		text = s.unsigned(t, call{service: service, method: http.MethodPost, path: "/", target: action, contentType: "application/x-amz-json-1.0", body: "{}"})
	default:
		text = s.Query(t, service, url.Values{"Action": {action}})
	}
	return regexp.MustCompile(`(?i)<RequestId>[^<]*</RequestId>`).ReplaceAllString(text, "")
}

// Query calls a service whose SDK we do not have, in the protocol of IAM, SNS and the
// like, and returns the answer. It works while authentication is off.
func (s *Server) Query(t testing.TB, service string, form url.Values) string {
	t.Helper()
	return s.unsigned(t, call{service: service, method: http.MethodPost, path: "/", contentType: "application/x-www-form-urlencoded", body: form.Encode()})
}

type call struct{ service, method, path, target, contentType, body string }

func (s *Server) unsigned(t testing.TB, c call) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatalf("calling %s: %v", c.service, err)
	}
	// moto takes the service from the signature, which it does not check now.
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/"+Region+"/"+c.service+"/aws4_request, SignedHeaders=host, Signature=none")
	req.Header.Set("Content-Type", c.contentType)
	if c.target != "" {
		req.Header.Set("X-Amz-Target", c.target)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("calling %s: %v", c.service, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("calling %s (%s %s %s): %s %v\n%s", c.service, c.path, c.target, c.body, resp.Status, err, text)
	}
	return string(text)
}
