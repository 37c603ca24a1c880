package awsiam_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"credential-rotator/rotator/awsiam"
)

// mostSaid bounds an error of this package, in bytes: AWS's own words, cut to 400
// characters of up to four bytes, and ours around them.
const mostSaid = 3000

// FuzzAnErrorBody: whatever answers for IAM and STS, a call ends as an answer or in an
// error of one short line without a secret. In the bodies SECRET stands for the secret
// of a new key, which a reply may hold; what a request holds is its signature.
func FuzzAnErrorBody(f *testing.F) {
	refusal := "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r-1</RequestId></ErrorResponse>"
	for _, body := range []string{
		fmt.Sprintf(refusal, "AccessDenied", "User is not authorized"), fmt.Sprintf(refusal, "NoSuchEntity", "cannot be found"), fmt.Sprintf(refusal, "", ""),
		fmt.Sprintf(refusal, "Throttling", strings.Repeat("ü", 5000)), fmt.Sprintf(refusal, "SignatureDoesNotMatch", "The canonical string was\nx-amz-security-token:"+sessionToken),
		reply("CreateAccessKey", "<AccessKey><AccessKeyId>AKIANEW</AccessKeyId><SecretAccessKey>SECRET</SecretAccessKey></AccessKey>"),
		reply("CreateAccessKey", "<AccessKey><SecretAccessKey>SECRET</SecretAccessKey></AccessKey>"), reply("CreateAccessKey", "<AccessKey>&SECRET;</AccessKey>"),
		reply("CreateAccessKey", "<SECRET>"), reply("CreateAccessKey", "<AccessKey><CreateDate>SECRET</CreateDate></AccessKey>"),
		reply("ListAccessKeys", "<AccessKeyMetadata><member><AccessKeyId>AKIAOLD</AccessKeyId></member></AccessKeyMetadata><IsTruncated>true</IsTruncated>"),
		reply("GetUser", "<User><UserId>AIDA1</UserId></User>"), reply("GetAccessKeyLastUsed", "<AccessKeyLastUsed><LastUsedDate>never</LastUsedDate></AccessKeyLastUsed>"), identity("arn:u"),
		"", "<", "<html><body>SECRET</body></html>", "\xff\x00\x1b[31m", `{"message":"SECRET"}`, "<?xml version='1.0' encoding='SECRET'?><a/>", "<a>" + strings.Repeat("<b>", 2000),
	} {
		for _, status := range []int{200, 302, 400, 403, 404, 409, 500, 503} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			t.Skip("no final status")
		}
		const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYzzzzzzzzzz"
		s := serve(t, func(w http.ResponseWriter, form url.Values, _ int) {
			w.WriteHeader(status)
			if form.Get("Action") == "CreateAccessKey" { // no other reply holds one
				_, _ = io.WriteString(w, strings.ReplaceAll(body, "SECRET", secret))
				return
			}
			_, _ = io.WriteString(w, body)
		})
		cfg := s.config()
		cfg.RetryMaxAttempts = 1
		for name, err := range everyCall(t.Context(), awsiam.New(cfg), awsiam.NewProber(cfg, awsiam.ProberOptions{})) {
			if err == nil {
				continue
			}
			text := err.Error()
			if len(text) > mostSaid || strings.ContainsAny(text, "\n\r\x1b") || !utf8.ValidString(text) {
				t.Fatalf("%s: %d bytes, not one line of text: %q", name, len(text), text)
			}
			for _, canary := range []string{secret[:8], "rotators-own", "probed-secret", "Signature="} {
				if strings.Contains(text, canary) && !strings.Contains(body, canary) {
					t.Fatalf("%s: the error gives away %s…: %s", name, canary, text)
				}
			}
		}
	})
}

// everyCall asks everything that a rotation asks.
func everyCall(ctx context.Context, keys *awsiam.IAM, prober *awsiam.Prober) map[string]error {
	_, user := keys.User(ctx, "u")
	_, list := keys.List(ctx, "u")
	_, used := keys.LastUsed(ctx, "AKIAOLD")
	_, create := keys.Create(ctx, "u")
	_, probe := prober.Probe(ctx, pair())
	return map[string]error{
		"User": user, "List": list, "LastUsed": used, "Create": create, "Probe": probe,
		"Deactivate": keys.Deactivate(ctx, "u", "AKIAOLD"), "Delete": keys.Delete(ctx, "u", "AKIAOLD"),
	}
}
