package e2e

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"credential-rotator/test/moto"
)

func TestTheTapNamesEveryCallAndKeepsItsSignatureValid(t *testing.T) {
	server := moto.Start(t)
	server.CreateTable(t, "journal")
	server.EnforceAuth(true)
	wire := &Wire{}
	config := server.Admin()
	config.BaseEndpoint = aws.String(wire.AWS(t, server.URL))
	ctx := t.Context()

	identity := iam.NewFromConfig(config)
	if _, err := identity.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("svc-billing")}); err != nil {
		t.Fatal(err)
	}
	made, err := identity.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("svc-billing")})
	if err != nil {
		t.Fatal(err)
	}
	id, secret := *made.AccessKey.AccessKeyId, *made.AccessKey.SecretAccessKey
	if _, err := sts.NewFromConfig(config).GetCallerIdentity(ctx, nil); err != nil {
		t.Error(err)
	}
	if _, err := identity.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: aws.String("svc-billing"), AccessKeyId: &id, Status: "Inactive"}); err != nil {
		t.Error(err)
	}
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	if _, err := dynamodb.NewFromConfig(config).PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String("journal"), Item: map[string]types.AttributeValue{"user": text("svc-billing"), "item": text("current")},
	}); err != nil {
		t.Error(err)
	}
	if _, err := eventbridge.NewFromConfig(config).PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{
		Source: aws.String("test"), DetailType: aws.String("test"), Detail: aws.String("{}"),
	}}}); err != nil {
		t.Error(err)
	}
	manager := secretsmanager.NewFromConfig(config)
	if _, err := manager.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("gitlab"), SecretString: aws.String(`{"token":"glpat-of-the-test"}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := manager.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("gitlab")}); err != nil {
		t.Error(err)
	}

	var lines []string
	for _, c := range wire.Calls() {
		lines = append(lines, c.Line)
		if c.Status != http.StatusOK {
			t.Errorf("%s: status %d", c.Line, c.Status)
		}
	}
	want := []string{
		"iam CreateUser svc-billing",
		"iam CreateAccessKey svc-billing",
		"sts GetCallerIdentity",
		"iam UpdateAccessKey svc-billing " + id + " Inactive",
		"dynamodb PutItem",
		"events PutEvents",
		"secretsmanager CreateSecret",
		"secretsmanager GetSecretValue",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range []string{secret, "glpat-of-the-test"} {
		if !slices.Contains(wire.Secrets(), s) {
			t.Errorf("a secret passed unnoticed, of %d characters", len(s))
		}
	}
}

// upstream is a service that counts what reaches it.
func upstream(t *testing.T) (url string, reached *atomic.Int32) {
	t.Helper()
	reached = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		w.Header().Set("Date", "Sat, 21 Nov 2026 20:00:00 GMT")
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(server.Close)
	return server.URL, reached
}

func send(t *testing.T, method, url string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"value":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("PRIVATE-TOKEN", "glpat-of-the-test")
	resp, err := http.DefaultClient.Do(r)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func TestTheTapPassesGitLabOnAndKeepsTheReplysClock(t *testing.T) {
	target, _ := upstream(t)
	wire := &Wire{}
	resp, err := send(t, http.MethodPut, wire.GitLab(t, target)+"/api/v4/projects/4711/variables/KEY?filter=x")
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("Date") != "Sat, 21 Nov 2026 20:00:00 GMT" {
		t.Errorf("got %s %v", resp.Status, resp.Header)
	}
	got := wire.Calls()[0]
	if got.Line != "gitlab PUT /projects/4711/variables/KEY" || !got.Write || string(got.Request) != `{"value":"x"}` {
		t.Errorf("got %+v", got)
	}
	if how := wire.Leak("PRIVATE-TOKEN=" + "glpat-of-the-test"); how == "" {
		t.Error("the token is not found")
	}
}

func TestTheProgramDiesAtTheNthWriteOnTheGivenSide(t *testing.T) {
	for when, wantReached := range map[When]int32{Before: 2, After: 3} {
		t.Run(string(when), func(t *testing.T) {
			target, reached := upstream(t)
			wire := &Wire{}
			url := wire.GitLab(t, target)
			var killed atomic.Bool
			wire.KillAt(2, when, func() { killed.Store(true) })
			for i, method := range []string{http.MethodPost, http.MethodGet, http.MethodPut} {
				_, err := send(t, method, url)
				if dies := i == 2; killed.Load() != dies || (err != nil) != dies {
					t.Errorf("%s: killed %t, error %v", method, killed.Load(), err)
				}
			}
			if reached.Load() != wantReached {
				t.Errorf("%d calls reached the service, want %d", reached.Load(), wantReached)
			}
			if got := wire.Died(); !strings.HasPrefix(got, "gitlab PUT ") {
				t.Errorf("died of %q", got)
			}
		})
	}
}

func TestLeaksAreFoundInDisguise(t *testing.T) {
	wire := &Wire{}
	wire.Remember(`wJalr/XUtn+FEMI"K7`)
	wire.Remember("wJalrXUtnF")
	for name, text := range map[string]string{
		"plain":                       `it is wJalr/XUtn+FEMI"K7.`,
		"JSON":                        `{"a":"wJalr/XUtn+FEMI\"K7"}`,
		"URL-encoded":                 `a=wJalr%2FXUtn%2BFEMI%22K7&b`,
		"base64":                      `d0phbHIvWFV0bitGRU1JIks3`,
		"with a line's end behind it": `d0phbHJYVXRuRgo=`,
	} {
		if wire.Leak(text) == "" {
			t.Errorf("%s: not found", name)
		}
	}
	if how := wire.Leak("AKIAEXAMPLE [redacted]"); how != "" {
		t.Errorf("found %s where there is none", how)
	}
}
