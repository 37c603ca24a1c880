package moto_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"credential-rotator/test/moto"
)

// What launcher.py patches, seen from the outside: should a new moto make a patch
// void, this fails, and not a rotation's test somewhere for an obscure reason.
func TestMotoBehavesLikeAWS(t *testing.T) {
	s := moto.Start(t)
	admin := iam.NewFromConfig(s.Admin())
	key := user(t, admin, "svc-moto", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iam:ListAccessKeys","Resource":"`+moto.UserARN("svc-moto")+`"}]}`)
	user(t, admin, "svc-other", "")
	s.EnforceAuth(true)
	cfg := s.Config(*key.AccessKeyId, *key.SecretAccessKey)

	t.Run("the administrator may do everything while authentication is on", func(t *testing.T) {
		if _, err := admin.ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: aws.String("svc-other")}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a policy on one user allows that user and denies another", func(t *testing.T) {
		client := iam.NewFromConfig(cfg)
		if _, err := client.ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: aws.String("svc-moto")}); err != nil {
			t.Error(err)
		}
		_, err := client.ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: aws.String("svc-other")})
		wantCode(t, err, "AccessDenied")
	})
	t.Run("a service that speaks JSON says so when it denies", func(t *testing.T) {
		_, err := dynamodb.NewFromConfig(cfg).ListTables(t.Context(), &dynamodb.ListTablesInput{})
		wantCode(t, err, "AccessDeniedException")
	})
	t.Run("what is sent is what has to be signed", func(t *testing.T) {
		s.Inventory(t) // all protocols, GETs too
		forged := aws.Credentials{AccessKeyID: *key.AccessKeyId, SecretAccessKey: "forged"}
		for _, call := range []moto.Call{{Service: "iam", Action: "ListUsers"}, {Service: "events", Action: "AWSEvents.ListRules"}, {Service: "scheduler", Action: "GET /schedules"}} {
			if status, answer, err := s.Do(t.Context(), forged, call); err != nil || !strings.Contains(answer, "Signature") {
				t.Errorf("%s %s, signed with another secret: %d %v\n%s", call.Service, call.Action, status, err, answer)
			}
		}
	})
	t.Run("an inactive key does not authenticate", func(t *testing.T) {
		if _, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{
			UserName: aws.String("svc-moto"), AccessKeyId: key.AccessKeyId, Status: iamtypes.StatusTypeInactive,
		}); err != nil {
			t.Fatal(err)
		}
		_, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), nil)
		wantCode(t, err, "InvalidClientTokenId")
	})
	t.Run("an event does not trigger a schedule", func(t *testing.T) {
		events := eventbridge.NewFromConfig(s.Admin())
		if _, err := events.PutRule(t.Context(), &eventbridge.PutRuleInput{
			Name: aws.String("daily"), ScheduleExpression: aws.String("rate(1 day)"),
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := events.PutTargets(t.Context(), &eventbridge.PutTargetsInput{
			Rule: aws.String("daily"), Targets: []eventtypes.Target{{Id: aws.String("f"), Arn: aws.String("arn:aws:lambda:" + moto.Region + ":" + moto.Account + ":function:f")}},
		}); err != nil {
			t.Fatal(err)
		}
		out, err := events.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{
			Source: aws.String("test"), DetailType: aws.String("Test"), Detail: aws.String("{}"),
		}}})
		if err != nil || out.FailedEntryCount != 0 {
			t.Error(out, err)
		}
	})
}

// user makes a user with a key and an inline policy.
func user(t *testing.T, admin *iam.Client, name, policy string) *iamtypes.AccessKey {
	t.Helper()
	if _, err := admin.CreateUser(t.Context(), &iam.CreateUserInput{UserName: &name}); err != nil {
		t.Fatal(err)
	}
	if policy != "" {
		if _, err := admin.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{
			UserName: &name, PolicyName: aws.String("p"), PolicyDocument: &policy,
		}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := admin.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		t.Fatal(err)
	}
	return out.AccessKey
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("got %v, want an error with code %s", err, code)
	}
}
