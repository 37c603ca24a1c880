package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// keeper plays Secrets Manager and Parameter Store: it answers everything the same,
// and remembers what it was asked.
type keeper struct {
	status int
	body   string
	target string
	asked  map[string]any
	calls  int
}

func (k *keeper) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	k.calls++
	k.target = r.Header.Get("X-Amz-Target")
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &k.asked)
	rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
	rw.WriteHeader(max(k.status, http.StatusOK))
	_, _ = io.WriteString(rw, k.body)
}

// tokenFrom is what app.token makes of what the keeper says.
func tokenFrom(t *testing.T, k *keeper, c config) (string, error) {
	t.Helper()
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	a := &app{config: c, aws: aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIAROTATORROTATOR00", "CANARY/of-the-rotator", ""),
	}}
	token, err := a.token(t.Context())
	return token.Reveal(), err
}

func secretSaying(value any) *keeper {
	body, _ := json.Marshal(map[string]any{"Name": "gitlab/token", "SecretString": value})
	return &keeper{body: string(body)}
}

func parameterSaying(value any) *keeper {
	body, _ := json.Marshal(map[string]any{"Parameter": map[string]any{"Name": "/gitlab/token", "Type": "SecureString", "Value": value}})
	return &keeper{body: string(body)}
}

var (
	inSecret    = config{GitLabTokenSecret: "gitlab/token"}
	inParameter = config{GitLabTokenParameter: "/gitlab/token"}
)

func TestTheTokenIsReadFromWhereItIsKept(t *testing.T) {
	t.Parallel()
	const token = "glpat-CANARY-token"
	for name, is := range map[string]struct {
		keeper *keeper
		config config
	}{
		"a secret":                           {secretSaying(token), inSecret},
		"a secret with a line end":           {secretSaying(token + "\n"), inSecret},
		"a secret of JSON":                   {secretSaying(`{"token":"` + token + `"}`), inSecret},
		"a secret of JSON with other fields": {secretSaying(` {"user":"bot","token":"` + token + `","n":1}`), inSecret},
		"a parameter":                        {parameterSaying(token), inParameter},
		"a parameter with a line end":        {parameterSaying(" " + token + "\n"), inParameter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := tokenFrom(t, is.keeper, is.config); err != nil || got != token {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestTheCurrentVersionIsAskedForDecrypted(t *testing.T) {
	t.Parallel()
	k := secretSaying("x")
	if _, err := tokenFrom(t, k, inSecret); err != nil {
		t.Fatal(err)
	}
	if k.target != "secretsmanager.GetSecretValue" || k.asked["SecretId"] != "gitlab/token" || k.asked["VersionStage"] != "AWSCURRENT" {
		t.Errorf("asked %s for %v", k.target, k.asked)
	}
	k = parameterSaying("x")
	if _, err := tokenFrom(t, k, inParameter); err != nil {
		t.Fatal(err)
	}
	if k.target != "AmazonSSM.GetParameter" || k.asked["Name"] != "/gitlab/token" || k.asked["WithDecryption"] != true {
		t.Errorf("asked %s for %v", k.target, k.asked)
	}
}

func TestATokenOfTheEnvironmentNeedsNobody(t *testing.T) {
	t.Parallel()
	c, err := loadConfig(least())
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	if got, err := tokenFrom(t, k, c); err != nil || got != "glpat-something" || k.calls > 0 {
		t.Errorf("got %q, %v after %d calls", got, err, k.calls)
	}
}

func TestATokenThatCannotBeReadIsToldWithoutIt(t *testing.T) {
	t.Parallel()
	missing := func(code string) *keeper {
		return &keeper{status: http.StatusBadRequest, body: fmt.Sprintf(`{"__type":%q,"message":"not for you"}`, code)}
	}
	unsigned := &keeper{status: http.StatusBadRequest, body: `{"__type":"InvalidSignatureException","message":"The signature does not match.\n\nThe Canonical String for this request should have been\n'POST\nx-amz-security-token:CANARY\n'"}`}
	for name, is := range map[string]struct {
		keeper *keeper
		config config
		want   []string
	}{
		"a request that AWS quotes":      {unsigned, inSecret, []string{"gitlab/token", "The signature does not match.", "check GITLAB_TOKEN_SECRET"}},
		"another that AWS quotes":        {unsigned, inParameter, []string{"/gitlab/token", "The signature does not match.", "check GITLAB_TOKEN_PARAMETER"}},
		"an empty secret":                {secretSaying(""), inSecret, []string{"gitlab/token is empty", "put the GitLab token there"}},
		"a blank secret":                 {secretSaying(" \n"), inSecret, []string{"gitlab/token is empty"}},
		"a binary secret":                {&keeper{body: `{"SecretBinary":"Z2xwYXQtQ0FOQVJZ"}`}, inSecret, []string{"gitlab/token is binary"}},
		"JSON without the field":         {secretSaying(`{"Token":7,"other":"glpat-CANARY"}`), inSecret, []string{`holds JSON without a text field "token"`}},
		"JSON with an empty field":       {secretSaying(`{"token":"","other":"glpat-CANARY"}`), inSecret, []string{`holds JSON without a text field "token"`}},
		"JSON with a number":             {secretSaying(`{"token":12345,"other":"glpat-CANARY"}`), inSecret, []string{`holds JSON without a text field "token"`}},
		"JSON that ends too soon":        {secretSaying(`{"token":"glpat-CANARY`), inSecret, []string{`holds JSON without a text field "token"`}},
		"JSON with a blank field":        {secretSaying(`{"token":" "}`), inSecret, []string{"gitlab/token"}},
		"no secret":                      {missing("ResourceNotFoundException"), inSecret, []string{"gitlab/token", "check GITLAB_TOKEN_SECRET"}},
		"a secret that is denied":        {missing("AccessDeniedException"), inSecret, []string{"gitlab/token", "secretsmanager:GetSecretValue"}},
		"an empty parameter":             {parameterSaying(""), inParameter, []string{"/gitlab/token is empty"}},
		"a parameter without a value":    {&keeper{body: `{}`}, inParameter, []string{"/gitlab/token has no value"}},
		"no parameter":                   {missing("ParameterNotFound"), inParameter, []string{"/gitlab/token", "check GITLAB_TOKEN_PARAMETER"}},
		"a parameter that is denied":     {missing("AccessDeniedException"), inParameter, []string{"/gitlab/token", "ssm:GetParameter", "kms:Decrypt"}},
		"a page instead of the service":  {&keeper{body: "<html>Sign in, glpat-CANARY</html>"}, inSecret, []string{"gitlab/token"}},
		"a page instead of the services": {&keeper{body: "<html>Sign in, glpat-CANARY</html>"}, inParameter, []string{"/gitlab/token"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token, err := tokenFrom(t, is.keeper, is.config)
			if err == nil || token != "" {
				t.Fatalf("got a token, and %v", err)
			}
			for _, want := range is.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error shows what was read, or is more than a line: %v", err)
			}
		})
	}
}

func TestReadingATokenEndsWithTheRun(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.CloseClientConnections)
	a := &app{config: inSecret, aws: aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("x", "x", ""),
	}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.token(ctx); err == nil {
		t.Error("it did not end")
	}
}
