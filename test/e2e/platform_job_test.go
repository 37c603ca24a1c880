package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"credential-rotator/test/lambda"
	"credential-rotator/test/moto"
	"credential-rotator/test/sandbox"
)

// isAskedByACIJob lets svc-billing's own pipeline rotate: the job includes ours, gets the
// role of the module for what the role's trust policy says, and invokes the alias of the
// module. moto asks for the permission; the built function then serves.
func (p *platform) isAskedByACIJob(t *testing.T) {
	for _, tool := range []string{"gitlab-ci-local", "rsync", "aws", "jq", "git"} {
		moto.Require(t, tool)
	}
	outer := p.t
	p.t = t
	defer func() { p.t = outer }()
	service := p.services[p.user]
	first := p.published()
	f := p.start(runTimeout, first, alias(p.user))
	a := &adhoc{stage: p.stage, function: f, dir: t.TempDir(), arn: service.InvokeAliasARN, role: service.InvokeRoleARN, wait: 4, pause: 1}
	a.line = newLine(t, f.URL())
	a.inputs = "      audience: https://gitlab.com"
	a.jobID = p.gitlab.RunningJob(projectID, sandbox.JobSpec{Name: "rotate-aws-key"}, time.Minute)
	a.settings = map[string]string{
		"CI_PROJECT_ID":           strconv.Itoa(projectID),
		"CI_JOB_ID":               strconv.FormatInt(a.jobID, 10),
		"GITLAB_OIDC_TOKEN":       idTokenOf(gitlabCom, "main"),
		"AWS_ACCESS_KEY_ID":       first,
		"AWS_SECRET_ACCESS_KEY":   p.variable("AWS_SECRET_ACCESS_KEY"),
		"AWS_ENDPOINT_URL_STS":    p.wire.AWS(t, p.cloud.URL),
		"AWS_ENDPOINT_URL_LAMBDA": p.door(a.line.url),
	}
	a.ends(a.press(), 0, "rotated: key "+first, "  deployment   pipeline ")
	p.isRotatedFrom(first)
	p.ids = append(p.ids, p.published())
	p.tell("a CI job of its project, without a stored key, has had it rotated: as %s", service.InvokeRoleARN)
}

// gitlabCom is the GitLab of the example.
const gitlabCom = "https://gitlab.com"

// jobIsDenied makes every call that the role of such a job must not.
func (p *platform) jobIsDenied() {
	p.t.Helper()
	form := url.Values{"RoleArn": {p.services[p.user].InvokeRoleARN}, "RoleSessionName": {"job"}, "WebIdentityToken": {idTokenOf(gitlabCom, "main")}}
	answer := p.cloud.Ask(p.t, moto.Call{Service: "sts", Action: "AssumeRoleWithWebIdentity", Body: form.Encode()})
	job := aws.Credentials{AccessKeyID: element(answer, "AccessKeyId"), SecretAccessKey: element(answer, "SecretAccessKey"), SessionToken: element(answer, "SessionToken")}
	p.wire.Remember(job.SecretAccessKey)
	p.wire.Remember(job.SessionToken)
	for _, r := range jobRefusals {
		p.refuses(job, r)
	}
	p.tell("denied: %d calls to the role of such a job, which may invoke the function as %s and nothing else", len(jobRefusals), alias(p.user))
}

// element is the text of an XML element that has no others in it.
func element(answer, name string) string {
	found := regexp.MustCompile("<" + name + ">([^<]*)<").FindStringSubmatch(answer)
	if found == nil {
		return ""
	}
	return found[1]
}

// door is Lambda's: moto looks at the signature and at the policy, and who is let in goes
// on to the function that runs here, by the name that it has here.
func (p *platform) door(inside string) string {
	p.t.Helper()
	aws, err := url.Parse(p.cloud.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		asked, err := forward(r, aws, body)
		if err != nil || asked.status > 299 {
			rw.WriteHeader(asked.status)
			_, _ = rw.Write(asked.body)
			return
		}
		path := strings.ReplaceAll(r.URL.Path, functionARN(p.config.FunctionName), lambda.ARN)
		out, err := http.NewRequestWithContext(r.Context(), r.Method, inside+path, bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		out.Header = r.Header.Clone()
		got, err := http.DefaultClient.Do(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = got.Body.Close() }()
		for name, values := range got.Header {
			rw.Header()[name] = values
		}
		rw.WriteHeader(got.StatusCode)
		_, _ = io.Copy(rw, got.Body)
	}))
	p.t.Cleanup(server.Close)
	return server.URL
}

func functionARN(name string) string {
	return "arn:aws:lambda:" + moto.Region + ":" + moto.Account + ":function:" + name
}
