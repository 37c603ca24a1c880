package e2e

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"credential-rotator/test/moto"
)

// theirs is what others have in the account, of each kind that the function has.
const theirs = `
iam CreateUser UserName=outsider&Path=/people/
iam CreateAccessKey UserName=outsider
iam CreateRole RoleName=other&AssumeRolePolicyDocument=%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22AWS%22%3A%22arn%3Aaws%3Aiam%3A%3A123456789012%3Auser%2Fmoto-administrator%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%5D%7D
dynamodb DynamoDB_20120810.CreateTable {"TableName":"other","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"user","AttributeType":"S"}],"KeySchema":[{"AttributeName":"user","KeyType":"HASH"}],"GlobalSecondaryIndexes":[{"IndexName":"in-flight","KeySchema":[{"AttributeName":"user","KeyType":"HASH"}],"Projection":{"ProjectionType":"ALL"}}]}
events AWSEvents.PutRule {"Name":"other","ScheduleExpression":"rate(1 day)"}
events AWSEvents.CreateEventBus {"Name":"other"}
events AWSEvents.PutRule {"Name":"on-other","EventBusName":"other","EventPattern":"{\"source\":[\"x\"]}"}
secretsmanager secretsmanager.CreateSecret {"Name":"other","SecretString":"of somebody else","ClientRequestToken":"11111111-2222-3333-4444-555555555555"}
ssm AmazonSSM.PutParameter {"Name":"/other/token","Value":"of somebody else","Type":"SecureString"}
sqs AmazonSQS.CreateQueue {"QueueName":"chat"}
`

// elsewhere makes it.
func elsewhere(t *testing.T, s *moto.Server) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(theirs)) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 3)
		s.Ask(t, moto.Call{Service: words[0], Action: words[1], Body: words[2]})
	}
}

// refusal is a call that a role may not make. Which one is meant, the permission that
// lacks tells: moto says it.
type refusal struct {
	permission string
	what       string
	call       string // its body, after the path where there is one
	allowed    string // the same on what it may, which has to work; "": the role has no such permission at all
}

// refusals are what the function could do harm with, were its role wider. {outsider} and
// {own} are key ids, the first of another path's user.
var refusals = []refusal{
	{"iam:GetUser", "a user under another path", "UserName=outsider", "UserName=svc-billing"},
	{"iam:ListAccessKeys", "a user under another path", "UserName=outsider", "UserName=svc-billing"},
	{"iam:ListAttachedUserPolicies", "a user under another path", "UserName=outsider", "UserName=svc-billing"},
	{"iam:GetAccessKeyLastUsed", "a key of a user under another path", "AccessKeyId={outsider}", "AccessKeyId={own}"},
	{"iam:CreateAccessKey", "a user under another path", "UserName=outsider", ""},
	{"iam:CreateAccessKey", "the administrator, at the root of the paths", "UserName=moto-administrator", ""},
	{"iam:UpdateAccessKey", "a key of a user under another path", "UserName=outsider&AccessKeyId={outsider}&Status=Inactive", "UserName=svc-billing&AccessKeyId={own}&Status=Active"},
	{"iam:DeleteAccessKey", "a key of a user under another path", "UserName=outsider&AccessKeyId={outsider}", ""},
	{"iam:TagUser", "a user of its own, to another project", "UserName=svc-billing&Tags.member.1.Key=credential-rotator:project-ids&Tags.member.1.Value=4712", ""},
	{"iam:UntagUser", "a user of its own", "UserName=svc-billing&TagKeys.member.1=credential-rotator:project-ids", ""},
	{"iam:AttachUserPolicy", "a user of its own", "UserName=svc-billing&PolicyArn=arn:aws:iam::aws:policy/AdministratorAccess", ""},
	{"iam:PutUserPolicy", "a user of its own", "UserName=svc-billing&PolicyName=all&PolicyDocument={everything}", ""},
	{"iam:CreateLoginProfile", "a user of its own", "UserName=svc-billing&Password=Correct-Horse-1", ""},
	{"iam:UpdateUser", "moving another user below its path", "UserName=outsider&NewPath=/gitlab/", ""},
	{"iam:DeleteUser", "a user of its own", "UserName=svc-search", ""},
	{"iam:CreateUser", "below its path", "UserName=svc-new&Path=/gitlab/", ""},
	{"iam:ListUsers", "all", "", ""},
	{"iam:PutRolePolicy", "its own role", "RoleName=credential-rotator&PolicyName=all&PolicyDocument={everything}", ""},
	{"iam:AttachRolePolicy", "its own role", "RoleName=credential-rotator&PolicyArn=arn:aws:iam::aws:policy/AdministratorAccess", ""},
	{"iam:UpdateAssumeRolePolicy", "its own role", "RoleName=credential-rotator&PolicyDocument={everything}", ""},
	{"iam:CreateRole", "a role", "RoleName=new&AssumeRolePolicyDocument={everything}", ""},
	{"sts:AssumeRole", "another role", "RoleArn=arn:aws:iam::123456789012:role/other&RoleSessionName=session", ""},
	{"sts:AssumeRole", "a service's invoke role", "RoleArn=arn:aws:iam::123456789012:role/rotate-svc-billing-invoke&RoleSessionName=session", ""},

	{"dynamodb:GetItem", "another table", `{"TableName":"other","Key":{"user":{"S":"a"}}}`, `{"TableName":"credential-rotator","Key":{"user":{"S":"svc-billing"},"item":{"S":"current"}}}`},
	{"dynamodb:PutItem", "another table", `{"TableName":"other","Item":{"user":{"S":"a"}}}`, `{"TableName":"credential-rotator","Item":{"user":{"S":"a"},"item":{"S":"denied-test"}}}`},
	{"dynamodb:Query", "the same index of another table", inFlight("other", `,"IndexName":"in-flight"`), inFlight("credential-rotator", `,"IndexName":"in-flight"`)},
	{"dynamodb:Query", "its table, not by the index", `{"TableName":"credential-rotator","KeyConditionExpression":"#u = :u","ExpressionAttributeNames":{"#u":"user"},"ExpressionAttributeValues":{":u":{"S":"a"}}}`, ""},
	{"dynamodb:Scan", "its table", `{"TableName":"credential-rotator"}`, ""},
	{"dynamodb:DeleteItem", "its table", `{"TableName":"credential-rotator","Key":{"user":{"S":"svc-billing"},"item":{"S":"current"}}}`, ""},
	{"dynamodb:UpdateTable", "its table's protection", `{"TableName":"credential-rotator","DeletionProtectionEnabled":false}`, ""},
	{"dynamodb:DeleteTable", "its table", `{"TableName":"credential-rotator"}`, ""},

	{"events:DisableRule", "another rule", `{"Name":"other"}`, `{"Name":"credential-rotator-follow-up"}`},
	{"events:EnableRule", "another rule", `{"Name":"other"}`, ""},
	{"events:DisableRule", "the tick of a service", `{"Name":"rotate-svc-billing"}`, ""},
	{"events:DisableRule", "the rule that tells of failures", `{"Name":"credential-rotator-notifications"}`, ""},
	{"events:DisableRule", "a rule of another bus", `{"Name":"on-other","EventBusName":"other"}`, ""},
	{"events:PutRule", "its own rule", `{"Name":"credential-rotator-follow-up","ScheduleExpression":"rate(1 minute)"}`, ""},
	{"events:PutTargets", "its own rule", `{"Rule":"credential-rotator-follow-up","Targets":[{"Id":"x","Arn":"arn:aws:lambda:eu-central-1:123456789012:function:other"}]}`, ""},
	{"events:PutEvents", "another bus", event("other"), event("default")},

	{"secretsmanager:GetSecretValue", "another secret", `{"SecretId":"other"}`, `{"SecretId":"credential-rotator/gitlab-token"}`},
	{"secretsmanager:PutSecretValue", "its own secret", `{"SecretId":"credential-rotator/gitlab-token","SecretString":"mine","ClientRequestToken":"11111111-2222-3333-4444-666666666666"}`, ""},
	{"ssm:GetParameter", "a parameter", `{"Name":"/other/token","WithDecryption":true}`, ""},

	{"lambda:UpdateFunctionConfiguration", "itself", "PUT /2015-03-31/functions/credential-rotator/configuration " + `{"Timeout":1}`, ""},
	{"lambda:UpdateFunctionCode", "itself", "PUT /2015-03-31/functions/credential-rotator/code " + `{"ZipFile":"UEs="}`, ""},
	{"lambda:AddPermission", "itself", "POST /2015-03-31/functions/credential-rotator/policy " + `{"Action":"lambda:InvokeFunction","StatementId":"all","Principal":"*"}`, ""},
	{"lambda:InvokeFunction", "itself", "POST /2015-03-31/functions/credential-rotator/invocations {}", ""},
	{"scheduler:DeleteSchedule", "the tick of a service", "DELETE /schedules/rotate-svc-search?groupName=default ", ""},
	{"sqs:SendMessage", "another queue", queue("chat", `,"MessageBody":"x"`), queue("credential-rotator-failures", `,"MessageBody":"x"`)},
	{"sqs:PurgeQueue", "the failed events", queue("credential-rotator-failures", ""), ""},
	{"sns:Publish", "its topic", "TopicArn=arn:aws:sns:eu-central-1:123456789012:credential-rotator-notifications&Message=all+is+well", ""},
	{"logs:DeleteLogGroup", "its log", `{"logGroupName":"/aws/lambda/credential-rotator"}`, ""},
}

// jobRefusals are those of the role that jobs of svc-billing's project get.
var jobRefusals = []refusal{
	{"lambda:InvokeFunction", "the function without an alias, which serves all", "POST /2015-03-31/functions/{function}/invocations {}", "POST /2015-03-31/functions/{function}:{alias}/invocations {}"},
	{"lambda:InvokeFunction", "the function by another service's alias", "POST /2015-03-31/functions/{function}:service-0000000000000000/invocations {}", "POST /2015-03-31/functions/{function}/invocations?Qualifier={alias} {}"},
	{"lambda:UpdateAlias", "its alias", "PUT /2015-03-31/functions/credential-rotator/aliases/{alias} " + `{"FunctionVersion":"1"}`, ""},
	{"iam:CreateAccessKey", "its own user", "UserName=svc-billing", ""},
	{"secretsmanager:GetSecretValue", "GitLab's token", `{"SecretId":"credential-rotator/gitlab-token"}`, ""},
}

func inFlight(table, index string) string {
	return fmt.Sprintf(`{"TableName":%q%s,"KeyConditionExpression":"#u = :u","ExpressionAttributeNames":{"#u":%q},"ExpressionAttributeValues":{":u":{"S":"a"}}}`,
		table, index, map[string]string{"other": "user", "credential-rotator": "in_flight"}[table])
}

func event(bus string) string {
	return fmt.Sprintf(`{"Entries":[{"EventBusName":%q,"Source":"credential-rotator","DetailType":"Test","Detail":"{}"}]}`, bus)
}

func queue(name, more string) string {
	return fmt.Sprintf(`{"QueueUrl":"{url}/123456789012/%s"%s}`, name, more)
}

// protocols is what a service's action is called on the wire, before its name.
var protocols = map[string]string{
	"dynamodb": "DynamoDB_20120810.", "events": "AWSEvents.", "secretsmanager": "secretsmanager.",
	"ssm": "AmazonSSM.", "sqs": "AmazonSQS.", "logs": "Logs_20140328.",
}

// call is what a refusal's text means.
func (p *platform) call(permission, text string) moto.Call {
	p.t.Helper()
	text = strings.NewReplacer(
		"{outsider}", p.keyOf("outsider"), "{own}", p.published(), "{url}", p.cloud.URL,
		"{everything}", url.QueryEscape(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`),
		"{alias}", alias(p.user), "{function}", functionARN(p.config.FunctionName),
	).Replace(text)
	service, action, _ := strings.Cut(permission, ":")
	if method, rest, _ := strings.Cut(text, " "); method == "PUT" || method == "POST" || method == "DELETE" {
		path, body, _ := strings.Cut(rest, " ")
		return moto.Call{Service: service, Action: method + " " + path, Body: body}
	}
	return moto.Call{Service: service, Action: protocols[service] + action, Body: text}
}

// keyOf is a user's first key.
func (p *platform) keyOf(user string) string {
	p.t.Helper()
	answer := p.cloud.Ask(p.t, moto.Call{Service: "iam", Action: "ListAccessKeys", Body: "UserName=" + user})
	found := regexp.MustCompile(`<AccessKeyId>([^<]+)<`).FindStringSubmatch(answer)
	if found == nil {
		p.t.Fatalf("%s has no key", user)
	}
	return found[1]
}

// isDenied makes every call that the function must not, as its role.
func (p *platform) isDenied() {
	p.t.Helper()
	narrow := 0
	for _, r := range refusals {
		p.refuses(p.role, r)
		if r.allowed != "" {
			narrow++
		}
	}
	p.tell("denied: %d calls that would do harm, to the function's role; %d of them it may make, on what is its own", len(refusals), narrow)
}

// refuses asserts that a call is denied for want of its permission, and that the same is
// allowed on what the role is for.
func (p *platform) refuses(role aws.Credentials, r refusal) {
	p.t.Helper()
	call := p.call(r.permission, r.call)
	status, answer, err := p.cloud.Do(p.t.Context(), role, call)
	if err != nil || !denies(status, answer) || !strings.Contains(answer, "not authorized to perform: "+r.permission) {
		p.t.Errorf("%s on %s is not denied: %d %v\n%s", r.permission, r.what, status, err, answer)
		return
	}
	p.t.Logf("denied: %-36s %s", r.permission, r.what)
	p.denied = append(p.denied, call)
	if r.allowed == "" {
		return
	}
	status, answer, err = p.cloud.Do(p.t.Context(), role, p.call(r.permission, r.allowed))
	if err != nil || status > 299 {
		p.t.Errorf("%s on its own is not allowed: %d %v\n%s", r.permission, status, err, answer)
	}
}

func denies(status int, answer string) bool {
	return (status == 403 || status == 400) && (strings.Contains(answer, "<Code>AccessDenied</Code>") || strings.Contains(answer, `"AccessDeniedException"`))
}

// denialsWereForNothingElse makes the very calls that were denied once more, as the
// administrator, now that they can do no harm: none is denied, and moto knows each.
func (p *platform) denialsWereForNothingElse() {
	p.t.Helper()
	for _, call := range p.denied {
		status, answer, err := p.cloud.Do(p.t.Context(), p.admin(), call)
		if err != nil || status >= 500 || strings.Contains(answer, "AccessDenied") || strings.Contains(answer, "Signature") {
			p.t.Errorf("%s %s is wrong in itself: %d %v\n%s", call.Service, call.Action, status, err, answer)
		}
	}
	p.tell("the same %d calls, made by the administrator now that they do no harm, are not denied", len(p.denied))
}

func (p *platform) admin() aws.Credentials {
	p.t.Helper()
	key, err := p.cloud.Admin().Credentials.Retrieve(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}
