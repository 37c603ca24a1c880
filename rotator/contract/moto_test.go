package contract_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.etcd.io/bbolt"

	"credential-rotator/rotator"
	"credential-rotator/rotator/awsiam"
	"credential-rotator/rotator/contract"
	"credential-rotator/rotator/events"
	"credential-rotator/rotator/journal/bolt"
	"credential-rotator/rotator/journal/dynamo"
	"credential-rotator/test/moto"
)

// The adapters hold their contracts on moto, as a user who may do what the package
// comments ask for and nothing else.
func TestTheAdaptersOnMoto(t *testing.T) {
	s := &server{Server: moto.Start(t)}
	s.iam = iam.NewFromConfig(s.Admin())
	s.EnforceAuth(true)
	t.Run("iam", func(t *testing.T) { contract.Keys(t, s.keys) })
	t.Run("sts", func(t *testing.T) { contract.Prober(t, s.prober) })
	t.Run("dynamodb", func(t *testing.T) { contract.Journal(t, s.journal) })
	t.Run("eventbridge", func(t *testing.T) { contract.Notifier(t, s.notifier) })
	t.Run("a rule", func(t *testing.T) { contract.FollowUp(t, s.followUp) })
}

// server is a moto, and the hand of the tests in it.
type server struct {
	*moto.Server
	iam *iam.Client
	n   atomic.Int64
}

// name returns a name that no other test has.
func (s *server) name(what string) string { return fmt.Sprintf("%s-%d", what, s.n.Add(1)) }

// worker is a configuration that may do these actions on these resources only.
func (s *server) worker(t testing.TB, resource string, actions ...string) aws.Config {
	t.Helper()
	name := s.name("worker")
	s.addUser(t, name, nil)
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Effect": "Allow", "Action": actions, "Resource": resource},
	}})
	ok(t, err)
	_, err = s.iam.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{
		UserName: &name, PolicyName: aws.String("work"), PolicyDocument: aws.String(string(policy)),
	})
	ok(t, err)
	pair := s.addKey(t, name)
	return s.Config(pair.ID, pair.Secret.Reveal())
}

func (s *server) keys(t testing.TB) contract.KeysFixture {
	port := awsiam.New(s.worker(t, moto.UserARN("svc-*"), "iam:GetUser", "iam:ListAttachedUserPolicies",
		"iam:ListAccessKeys", "iam:GetAccessKeyLastUsed", "iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey"))
	return contract.KeysFixture{
		Users: port, Keys: port,
		AddUser: s.addUser,
		RemoveUser: func(t testing.TB, name string) {
			_, err := s.iam.DeleteUser(t.Context(), &iam.DeleteUserInput{UserName: &name})
			ok(t, err)
		},
		AttachPolicy: func(t testing.TB, user, policy string) {
			made, err := s.iam.CreatePolicy(t.Context(), &iam.CreatePolicyInput{
				PolicyName: &policy, PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ec2:RunInstances","Resource":"*"}]}`),
			})
			ok(t, err)
			_, err = s.iam.AttachUserPolicy(t.Context(), &iam.AttachUserPolicyInput{UserName: &user, PolicyArn: made.Policy.Arn})
			ok(t, err)
		},
		Use:   func(t testing.TB, pair rotator.KeyPair) { ok(t, s.call(t, pair)) },
		Works: func(t testing.TB, pair rotator.KeyPair) bool { return s.call(t, pair) == nil },
	}
}

func (s *server) prober(testing.TB) contract.ProberFixture {
	return contract.ProberFixture{
		// Moto is every region at once.
		Prober: awsiam.NewProber(s.Config("nobody", "nothing"), awsiam.ProberOptions{Regions: []string{"eu-central-1", "us-east-1"}}),
		AddKey: func(t testing.TB, user string) (rotator.KeyPair, string) {
			s.addUser(t, user, nil)
			return s.addKey(t, user), moto.UserARN(user)
		},
		Deactivate: func(t testing.TB, user string, pair rotator.KeyPair) {
			_, err := s.iam.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{
				UserName: &user, AccessKeyId: &pair.ID, Status: iamtypes.StatusTypeInactive,
			})
			ok(t, err)
		},
		Delete: func(t testing.TB, user string, pair rotator.KeyPair) {
			_, err := s.iam.DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: &pair.ID})
			ok(t, err)
		},
	}
}

func (s *server) addUser(t testing.TB, name string, tags map[string]string) {
	t.Helper()
	in := &iam.CreateUserInput{UserName: &name}
	for key, value := range tags {
		in.Tags = append(in.Tags, iamtypes.Tag{Key: &key, Value: &value})
	}
	_, err := s.iam.CreateUser(t.Context(), in)
	ok(t, err)
}

func (s *server) addKey(t testing.TB, user string) rotator.KeyPair {
	t.Helper()
	out, err := s.iam.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: &user})
	ok(t, err)
	return rotator.KeyPair{ID: *out.AccessKey.AccessKeyId, Secret: rotator.NewSecret(*out.AccessKey.SecretAccessKey)}
}

// call uses a pair for something.
func (s *server) call(t testing.TB, pair rotator.KeyPair) error {
	_, err := sts.NewFromConfig(s.Config(pair.ID, pair.Secret.Reveal())).GetCallerIdentity(t.Context(), nil)
	return err
}

func (s *server) journal(t testing.TB) contract.JournalFixture {
	table := s.name("journal")
	s.CreateTable(t, table)
	cfg := s.worker(t, "*", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query")
	wire := &lossy{}
	cfg.HTTPClient = &http.Client{Transport: wire}
	cfg.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 1 })
	}
	return contract.JournalFixture{
		Journal: dynamo.New(cfg, table),
		History: func(t testing.TB, user string) []rotator.Entry {
			out, err := dynamodb.NewFromConfig(s.Admin()).Query(t.Context(), &dynamodb.QueryInput{
				TableName: &table, KeyConditionExpression: aws.String("#u = :u AND begins_with(#i, :h)"),
				ExpressionAttributeNames: map[string]string{"#u": "user", "#i": "item"},
				ExpressionAttributeValues: map[string]types.AttributeValue{
					":u": &types.AttributeValueMemberS{Value: user}, ":h": &types.AttributeValueMemberS{Value: "history#"},
				},
			})
			ok(t, err)
			var entries []rotator.Entry
			for _, item := range out.Items {
				entries = append(entries, entry(t, []byte(item["record"].(*types.AttributeValueMemberS).Value)))
			}
			return entries
		},
		LoseReply: func(testing.TB) { wire.lose.Store(true) },
	}
}

// lossy is a network that loses a reply when told to.
type lossy struct{ lose atomic.Bool }

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body)) // as package moto does
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && l.lose.CompareAndSwap(true, false) {
		_ = resp.Body.Close()
		return nil, syscall.ECONNRESET
	}
	return resp, err
}

func (s *server) notifier(t testing.TB) contract.NotifierFixture {
	bus, q := s.name("bus"), queue{config: s.Admin(), name: s.name("queue")}
	q.create(t)
	client := eventbridge.NewFromConfig(s.Admin())
	_, err := client.CreateEventBus(t.Context(), &eventbridge.CreateEventBusInput{Name: &bus})
	ok(t, err)
	_, err = client.PutRule(t.Context(), &eventbridge.PutRuleInput{
		Name: aws.String("all"), EventBusName: &bus, EventPattern: aws.String(`{"source":["credential-rotator"]}`),
	})
	ok(t, err)
	_, err = client.PutTargets(t.Context(), &eventbridge.PutTargetsInput{
		Rule: aws.String("all"), EventBusName: &bus, Targets: []eventtypes.Target{{Id: aws.String("q"), Arn: aws.String(q.arn())}},
	})
	ok(t, err)
	return contract.NotifierFixture{
		Notifier: events.New(s.worker(t, "*", "events:PutEvents"), events.Options{Bus: bus}),
		Broken:   events.New(s.worker(t, "*", "events:DescribeRule"), events.Options{Bus: bus}),
		Received: func(t testing.TB, n int) []contract.Received {
			var all []contract.Received
			for _, message := range q.receive(t, n) {
				all = append(all, event(t, message))
			}
			return all
		},
	}
}

// followUp is a rule as Terraform makes it, beside another one.
func (s *server) followUp(t testing.TB) contract.FollowUpFixture {
	client := eventbridge.NewFromConfig(s.Admin())
	rule, other := s.name("follow-up"), s.name("other")
	for _, name := range []string{rule, other} {
		_, err := client.PutRule(t.Context(), &eventbridge.PutRuleInput{
			Name: &name, ScheduleExpression: aws.String("rate(5 minutes)"), State: eventtypes.RuleStateDisabled,
		})
		ok(t, err)
	}
	on := func(t testing.TB, name string) bool {
		out, err := client.DescribeRule(t.Context(), &eventbridge.DescribeRuleInput{Name: &name})
		ok(t, err)
		return out.State == eventtypes.RuleStateEnabled
	}
	worker := s.worker(t, "*", "events:EnableRule", "events:DisableRule")
	return contract.FollowUpFixture{
		FollowUp: events.NewFollowUp(worker, rule),
		Missing:  events.NewFollowUp(worker, s.name("gone")),
		Denied:   events.NewFollowUp(s.worker(t, "*", "events:PutEvents"), rule),
		On: func(t testing.TB) bool {
			if on(t, other) {
				t.Error("another rule was switched on")
			}
			return on(t, rule)
		},
	}
}

// event is an event as a rule's target gets it.
func event(t testing.TB, text string) contract.Received {
	t.Helper()
	var e struct {
		DetailType string         `json:"detail-type"`
		Detail     rotator.Result `json:"detail"`
	}
	ok(t, json.Unmarshal([]byte(text), &e))
	notice, found := strings.CutPrefix(e.DetailType, "Credential Rotation ")
	if !found {
		t.Errorf("the detail-type is %q", e.DetailType)
	}
	return contract.Received{Notice: rotator.Notice(notice), Result: e.Detail, Raw: text}
}

// The journal in a file holds its contract.
func TestTheJournalInAFile(t *testing.T) {
	contract.Journal(t, func(t testing.TB) contract.JournalFixture {
		path := filepath.Join(t.TempDir(), "state", "journal.db")
		return contract.JournalFixture{
			Journal: bolt.New(path),
			History: func(t testing.TB, user string) []rotator.Entry {
				db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
				ok(t, err)
				var entries []rotator.Entry
				ok(t, db.View(func(tx *bbolt.Tx) error {
					return tx.Bucket([]byte("history")).ForEach(func(key, text []byte) error {
						if strings.HasPrefix(string(key), user+"\x00") {
							entries = append(entries, entry(t, text))
						}
						return nil
					})
				}))
				ok(t, db.Close())
				return entries
			},
		}
	})
}

func entry(t testing.TB, text []byte) rotator.Entry {
	t.Helper()
	var e rotator.Entry
	ok(t, json.Unmarshal(text, &e))
	return e
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
