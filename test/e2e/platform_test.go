package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/test/lambda"
	"credential-rotator/test/loud"
	"credential-rotator/test/moto"
	"credential-rotator/test/sandbox"
	"credential-rotator/test/terraform"
)

const (
	// searchID is the project of the second service.
	searchID = 4712
	// dueDays is how many days old a key is that is due.
	dueDays = 84
)

// platform is an account to which the example of both modules has been applied, and
// svc-billing, the service that most of the story is about.
//
// The function runs with the environment that Terraform set and as the role that
// Terraform made, and moto asks for every call whether that role may make it, on the very
// table, rule, bus, secret or user. What moto does not look at is a policy's Condition
// (events:source, and those on KMS): the module's own tests pin them word for word.
type platform struct {
	*stage
	dir  *terraform.Dir
	zip  string          // of the program
	role aws.Credentials // of the function
	ids  []string        // of all keys there have been
	said []string

	started []*lambda.Function
	denied  []moto.Call
	config  struct {
		FunctionName, Role, CodeSha256 string
		Environment                    struct{ Variables map[string]string }
	}
	made struct {
		RoleARN          string `json:"role_arn"`
		TopicARN         string `json:"topic_arn"`
		FollowUpRuleName string `json:"follow_up_rule_name"`
	}
	services map[string]struct {
		RuleARN        string `json:"rule_arn"`
		InvokeRoleARN  string `json:"invoke_role_arn"`
		InvokeAliasARN string `json:"invoke_alias_arn"`
	}
}

func TestBothModulesKeepTheKeysOfTwoServicesYoung(t *testing.T) {
	t.Parallel() // most of it is waiting in Terraform's provider
	moto.Require(t, "terraform")
	c := &cloud{Server: moto.Start(t)}
	elsewhere(t, c.Server)
	before := c.Inventory(t)
	p := newPlatform(t, c)
	p.apply()
	p.subscribe("chat")
	p.becomeTheFunction()

	p.firstKeys()
	p.rotates()
	p.isFollowedUp()
	p.fails("chat")
	p.looksAfterItsToken("chat")
	p.isDenied()
	p.jobIsDenied()
	t.Run("a CI job asks for it", p.isAskedByACIJob)

	p.isUnchanged("after all of it")
	p.holdsNoKey(p.dir.State())
	p.destroy(before)
	p.denialsWereForNothingElse()
	p.holdsNoSecretAnywhere()
	if !t.Failed() {
		loud.Say("%s", p.story())
	}
}

// newPlatform is the example with a token in its secret, and GitLab with the projects.
func newPlatform(t *testing.T, c *cloud) *platform {
	t.Helper()
	p := &platform{stage: &stage{t: t, cloud: c, wire: &Wire{}, user: "svc-billing", others: []rotator.Place{placeOf(searchID, "")}}}
	p.gitlab = sandbox.New(sandbox.Options{Deploy: p.deploy})
	t.Cleanup(p.gitlab.Close)
	deploy := []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}
	p.gitlab.AddProject(sandbox.Project{ID: projectID, Path: "shop/billing", Pipeline: deploy})
	p.gitlab.AddProject(sandbox.Project{ID: searchID, Path: "shop/search", Pipeline: deploy})
	p.dir = terraform.Open(t, "modules/credential-rotator/examples/account", terraform.On(t, c.Server)...)
	return p
}

// tell adds a line to the story, which holds no secret either.
func (p *platform) tell(format string, args ...any) {
	p.t.Helper()
	line := fmt.Sprintf(format, args...)
	p.holdsNoSecret("the story", line)
	p.said = append(p.said, line)
	p.t.Log(line)
}

func (p *platform) story() string {
	return "Terraform and the built program, on an AWS that asks everybody who they are:\n  " + strings.Join(p.said, "\n  ")
}

// apply applies the example as it stands, with the zip of the program that runs here.
func (p *platform) apply() {
	p.t.Helper()
	p.zip = filepath.Join(p.t.TempDir(), "bootstrap.zip")
	pack := exec.CommandContext(p.t.Context(), "go", "run", "credential-rotator/scripts/zip", program(p.t), p.zip)
	if out, err := pack.CombinedOutput(); err != nil {
		p.t.Fatalf("packing the program: %v\n%s", err, out)
	}
	p.dir.Set(map[string]any{"zip_path": p.zip})
	said := regexp.MustCompile(`Resources: (\d+) added`).FindStringSubmatch(p.dir.Apply())
	if said == nil {
		p.t.Fatal("Terraform does not say what it has added")
	}
	p.tell("applied: %s resources", said[1])
	p.isUnchanged("right after")
	p.dir.Output("credential_rotator", &p.made)
	p.dir.Output("services", &p.services)
	p.ask(moto.Call{Service: "lambda", Action: "GET /2015-03-31/functions/credential-rotator/configuration"}, &p.config)
	content, err := os.ReadFile(p.zip)
	if err != nil {
		p.t.Fatal(err)
	}
	if sum := sha256.Sum256(content); base64.StdEncoding.EncodeToString(sum[:]) != p.config.CodeSha256 {
		p.t.Errorf("Lambda has other code (%s) than the zip", p.config.CodeSha256)
	}
}

// ask is a call as the administrator.
func (p *platform) ask(c moto.Call, into any) {
	p.t.Helper()
	answer := p.cloud.Ask(p.t, c)
	if err := json.Unmarshal([]byte(answer), into); err != nil {
		p.t.Fatalf("reading the answer to %s %s: %v\n%s", c.Service, c.Action, err, answer)
	}
}

func (p *platform) isUnchanged(when string) {
	p.t.Helper()
	if plan := p.dir.Plan(); plan != "" {
		p.t.Errorf("%s a plan would change something:\n%s", when, plan)
		return
	}
	p.tell("no drift: a plan %s changes nothing", when)
}

// becomeTheFunction stores the token, as the example says to, and gets credentials of
// the role that Lambda would give the function. From then on moto asks who calls.
//
// moto knows no callers that are services, so the role is assumed while nobody is asked:
// that lambda.amazonaws.com may, and nobody else, the module's own tests pin.
func (p *platform) becomeTheFunction() {
	p.t.Helper()
	token := p.gitlab.AddToken(sandbox.Token{Name: "rotator", Scopes: []string{"api"}, Roles: map[int64]int{projectID: sandbox.Maintainer, searchID: sandbox.Maintainer}})
	p.wire.Remember(token)
	p.cloud.Ask(p.t, moto.Call{Service: "secretsmanager", Action: "secretsmanager.PutSecretValue", Body: fmt.Sprintf(
		`{"SecretId":"credential-rotator/gitlab-token","SecretString":%q,"ClientRequestToken":"11111111-2222-3333-4444-555555555555"}`, token)})
	if p.config.Role != p.made.RoleARN {
		p.t.Errorf("the function's role is %s, the module's %s", p.config.Role, p.made.RoleARN)
	}
	out, err := sts.NewFromConfig(p.cloud.Admin()).AssumeRole(p.t.Context(), &sts.AssumeRoleInput{RoleArn: &p.config.Role, RoleSessionName: &p.config.FunctionName})
	if err != nil {
		p.t.Fatalf("assuming the function's role: %v", err)
	}
	p.role = aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey, SessionToken: *out.Credentials.SessionToken}
	p.wire.Remember(p.role.SecretAccessKey)
	p.wire.Remember(p.role.SessionToken)
	p.cloud.EnforceAuth(true)
}

// start deploys the function as it is in Lambda, with a time that is short and waits that
// are. A key that is named looks old enough to be due.
func (p *platform) start(timeout time.Duration, due string, aliases ...string) function {
	p.t.Helper()
	target := p.cloud.URL
	if due != "" {
		target = aged(p.t, target, due, dueDays)
	}
	front := httptest.NewServer(p.gitlab.GitLab())
	p.t.Cleanup(front.Close)
	var env []string
	for name, value := range p.config.Environment.Variables {
		if name != "GITLAB_URL" {
			env = append(env, name+"="+value)
		}
	}
	// What Lambda itself sets, and what only a test does.
	added := append(
		shortened(),
		"GITLAB_URL="+p.wire.GitLab(p.t, front.URL),
		"AWS_ENDPOINT_URL="+p.wire.AWS(p.t, target),
		"AWS_REGION="+moto.Region,
		"AWS_ACCESS_KEY_ID="+p.role.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+p.role.SecretAccessKey,
		"AWS_SESSION_TOKEN="+p.role.SessionToken,
		"AWS_LAMBDA_FUNCTION_NAME="+p.config.FunctionName,
	)
	for _, v := range added {
		name, _, _ := strings.Cut(v, "=")
		if _, set := p.config.Environment.Variables[name]; set && name != "GITLAB_URL" {
			p.t.Fatalf("Terraform sets %s, and the test would replace it", name)
		}
	}
	f := lambda.Start(p.t, lambda.Options{Bootstrap: program(p.t), Env: append(env, added...), Timeout: timeout, Aliases: aliases})
	p.started = append(p.started, f)
	return function{f, p.stage}
}

// input is what a rule on the default bus sends to the function.
func (p *platform) input(rule string) []byte {
	p.t.Helper()
	out, err := eventbridge.NewFromConfig(p.cloud.Admin()).ListTargetsByRule(p.t.Context(), &eventbridge.ListTargetsByRuleInput{Rule: &rule})
	if err != nil || len(out.Targets) != 1 || out.Targets[0].Input == nil || !strings.HasSuffix(*out.Targets[0].Arn, ":function:"+p.config.FunctionName) {
		p.t.Fatalf("the targets of rule %s are %+v (%v)", rule, out, err)
	}
	return []byte(*out.Targets[0].Input)
}

// tick is what svc-billing's rule sends.
func (p *platform) tick() []byte {
	p.t.Helper()
	_, rule, _ := strings.Cut(p.services[p.user].RuleARN, ":rule/")
	return p.input(rule)
}

func (p *platform) followUp() types.RuleState {
	p.t.Helper()
	out, err := eventbridge.NewFromConfig(p.cloud.Admin()).DescribeRule(p.t.Context(), &eventbridge.DescribeRuleInput{Name: &p.made.FollowUpRuleName})
	if err != nil {
		p.t.Fatalf("looking at rule %s: %v", p.made.FollowUpRuleName, err)
	}
	return out.State
}

// is asserts how a run ended, and tells it. A warning would be a permission that lacks.
func (p *platform) is(a answer, want rotator.Status) {
	p.t.Helper()
	if a.Status != want || len(a.Warnings) > 0 {
		p.t.Fatalf("want %s, got %s\n%s", want, a.raw, p.trace())
	}
	p.tell("%s: %s: %s", want, p.user, a.Reason)
	p.ids = append(p.ids, a.PreviousKeyID, a.CurrentKeyID)
}

// firstKeys are those of users that have none: what the rule sends, and what the schedule
// does, is all that it takes.
func (p *platform) firstKeys() {
	p.t.Helper()
	f := p.start(runTimeout, "")
	p.tell("the rule's input: %s", p.tick())
	p.is(f.run(p.t, p.tick()), rotator.StatusRotated)
	p.isRotatedFrom("")
	p.wire.AfterEach(p.pairWorks)

	var schedule struct{ Target struct{ Input string } }
	p.ask(moto.Call{Service: "scheduler", Action: "GET /schedules/rotate-svc-search?groupName=default"}, &schedule)
	p.tell("the schedule's input: %s", schedule.Target.Input)
	search := *p
	search.stage = &stage{t: p.t, cloud: p.cloud, wire: p.wire, gitlab: p.gitlab, user: "svc-search"}
	search.is(f.run(p.t, []byte(schedule.Target.Input)), rotator.StatusRotated)
	p.said, p.ids = search.said, search.ids
	id, _ := p.gitlab.Variable(searchID, "AWS_ACCESS_KEY_ID", "*")
	secret, _ := p.gitlab.Variable(searchID, "AWS_SECRET_ACCESS_KEY", "*")
	if err := p.cloud.authenticates(p.t.Context(), id.Value, secret.Value); err != nil {
		p.t.Errorf("the pair of svc-search does not work: %v", err)
	}
}

// rotates is the tick at which a key is due.
func (p *platform) rotates() {
	p.t.Helper()
	old := p.published()
	f := p.start(runTimeout, old)
	p.is(f.run(p.t, p.tick()), rotator.StatusRotated)
	p.isRotatedFrom(old)
	p.is(f.run(p.t, p.tick()), rotator.StatusNotDue)
	if got := p.followUp(); got != types.RuleStateDisabled {
		p.t.Errorf("with nothing in flight the follow-up rule is %s", got)
	}
}

// isFollowedUp is a rotation whose pipeline takes longer than an invocation may. The test
// plays the schedule, for as long as its rule is enabled.
func (p *platform) isFollowedUp() {
	p.t.Helper()
	const tooLong = 20 // follow-ups
	old := p.published()
	f := p.start(3*time.Second, old)
	slow := func(d time.Duration) {
		p.gitlab.EditProject(projectID, func(project *sandbox.Project) { project.Pipeline[0].Duration = d })
	}
	slow(7 * time.Second)
	defer slow(0)
	p.is(f.run(p.t, p.tick()), rotator.StatusWaiting)
	if got := p.followUp(); got != types.RuleStateEnabled {
		p.t.Fatalf("with a rotation in flight the follow-up rule is %s\n%s", got, p.trace())
	}
	p.tell("the follow-up rule is ENABLED, its input: %s", p.input(p.made.FollowUpRuleName))
	n := 0
	for ; p.followUp() == types.RuleStateEnabled; n++ {
		a := f.run(p.t, p.input(p.made.FollowUpRuleName))
		if n == tooLong || strings.Contains(a.raw, `"warnings":["`) || !strings.Contains(a.raw, `"waiting"`) && !strings.Contains(a.raw, `"rotated"`) {
			p.t.Fatalf("follow-up %d says %s\n%s", n+1, a.raw, p.trace())
		}
	}
	p.isRotatedFrom(old)
	p.ids = append(p.ids, p.published())
	p.tell("rotated: %s, after %d follow-ups; the rule is %s", p.user, n, p.followUp())
}

// fails is a redeploy that does: somebody is told, in a sentence. The next tick mends it.
func (p *platform) fails(queue string) {
	p.t.Helper()
	old := p.published()
	f := p.start(runTimeout, old)
	p.gitlab.QueueOutcomes(projectID, sandbox.Failed)
	a := f.run(p.t, p.tick())
	if a.Status != rotator.StatusFailed || len(p.keys()) != 2 {
		p.t.Fatalf("a redeploy that fails gives %s, with the keys %s\n%s", a.raw, keyList(p.keys()), p.trace())
	}
	message := p.message(queue)
	p.holdsNoSecret("the message", message)
	if want := `{"message": "Credential Rotation Failed: svc-billing (GitLab project 4711)", "reason": "` + strings.TrimPrefix(a.Reason, "failed: ") + `"}`; message != want || !strings.Contains(message, "both keys work") {
		p.t.Errorf("the topic's subscriber reads %s, want %s", message, want)
	}
	p.tell("told on the topic: %s", message)
	p.is(f.run(p.t, p.tick()), rotator.StatusRotated)
	p.isRotatedFrom(old)
	if more := p.messages(queue); len(more) > 0 {
		p.t.Errorf("messages more than wanted: %q", more)
	}
}

// subscribe makes a queue that gets what the topic is told.
func (p *platform) subscribe(queue string) {
	p.t.Helper()
	form := url.Values{"TopicArn": {p.made.TopicARN}, "Protocol": {"sqs"}, "Endpoint": {"arn:aws:sqs:" + moto.Region + ":" + moto.Account + ":" + queue}}
	p.cloud.Ask(p.t, moto.Call{Service: "sns", Action: "Subscribe", Body: form.Encode()})
}

// message is the one message in a queue. It is then gone.
func (p *platform) message(queue string) string {
	p.t.Helper()
	all := p.messages(queue)
	if len(all) != 1 {
		p.t.Fatalf("in queue %s are %d messages, want one: %q", queue, len(all), all)
	}
	return all[0]
}

func (p *platform) messages(queue string) []string {
	p.t.Helper()
	at := moto.Account + "/" + queue
	var got struct {
		Messages []struct{ Body, ReceiptHandle string }
	}
	p.ask(moto.Call{Service: "sqs", Action: "AmazonSQS.ReceiveMessage", Body: fmt.Sprintf(`{"QueueUrl":"%s/%s","MaxNumberOfMessages":10}`, p.cloud.URL, at)}, &got)
	var all []string
	for _, m := range got.Messages {
		var envelope struct{ Type, Message string }
		if err := json.Unmarshal([]byte(m.Body), &envelope); err != nil || envelope.Type != "Notification" {
			p.t.Fatalf("in queue %s is %s (%v)", queue, m.Body, err)
		}
		all = append(all, envelope.Message)
		p.cloud.Ask(p.t, moto.Call{Service: "sqs", Action: "AmazonSQS.DeleteMessage", Body: fmt.Sprintf(`{"QueueUrl":"%s/%s","ReceiptHandle":%q}`, p.cloud.URL, at, m.ReceiptHandle)})
	}
	return all
}

// holdsNoKey asserts that a state has neither secrets nor key ids of the services.
func (p *platform) holdsNoKey(state string) {
	p.t.Helper()
	if !strings.Contains(state, `"svc-billing"`) {
		p.t.Fatalf("this is no state:\n%.200s", state)
	}
	p.holdsNoSecret("the state", state)
	slices.Sort(p.ids)
	ids := slices.DeleteFunc(slices.Compact(p.ids), func(id string) bool { return id == "" })
	for _, id := range ids {
		if strings.Contains(state, id) {
			p.t.Errorf("the state holds the key id %s", id)
		}
	}
	if made := len(p.madeKeys()); made != len(ids) {
		p.t.Errorf("%d keys were made, and %d looked for: %v", made, len(ids), ids)
	}
	p.tell("the state holds none of the %d keys that there have been, neither id nor secret", len(ids))
}

// holdsNoSecretAnywhere searches all that the function has sent and written.
func (p *platform) holdsNoSecretAnywhere() {
	p.t.Helper()
	p.callsHoldNoSecret()
	for _, f := range p.started {
		p.holdsNoSecret("the function's output", f.Output())
	}
	p.tell("of %d secrets none in a log, a message, an answer, a request to anything but its variable, or the state", len(p.wire.Secrets()))
}

// destroy destroys all that was made, and nothing else.
func (p *platform) destroy(before map[string]string) {
	p.t.Helper()
	p.dir.Set(map[string]any{"zip_path": p.zip, "deletion_protection": false})
	p.dir.Apply()
	said := regexp.MustCompile(`Resources: (\d+) destroyed`).FindStringSubmatch(p.dir.Destroy())
	if said == nil {
		p.t.Fatal("Terraform does not say what it has destroyed")
	}
	if diff := cmp.Diff(before, p.cloud.Inventory(p.t)); diff != "" {
		p.t.Errorf("something is left (+), or of others gone (-), after the destroy:\n%s", diff)
		return
	}
	p.tell("destroyed: %s resources, nothing left, and what others have is as it was", said[1])
}
