package dynamo_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"credential-rotator/rotator"
	"credential-rotator/rotator/journal/dynamo"
	"credential-rotator/test/moto"
)

// The contract is in package contract. Here is what a wrong table is told as.
func TestAWrongTableIsNamedAndExplained(t *testing.T) {
	s := moto.Start(t)
	client := dynamodb.NewFromConfig(s.Admin())
	table(t, client, "other-keys", "id", "")
	table(t, client, "no-index", "user", "item")
	for name, c := range map[string]struct {
		table string
		call  func(*dynamo.Journal) error
		want  []string
	}{
		"a table that does not exist": {"missing", load, []string{"loading the record of svc-a in table missing", "there is no such table", "JOURNAL"}},
		"a save to such a table":      {"missing", save, []string{"saving the record of svc-a in table missing", "there is no such table"}},
		"another key schema":          {"other-keys", load, []string{"partition key user and the sort key item"}},
		"a save to another schema":    {"other-keys", save, []string{"partition key user and the sort key item"}},
		"a table without the index":   {"no-index", list, []string{"needs the index in-flight"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.call(dynamo.New(s.Admin(), c.table))
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
	t.Run("a missing permission is named", func(t *testing.T) {
		s.EnforceAuth(true)
		defer s.EnforceAuth(false)
		cfg := s.Config("AKIANOBODY", "x")
		if err := load(dynamo.New(cfg, "no-index")); err == nil || !strings.Contains(err.Error(), "do not work") {
			t.Errorf("got %v", err)
		}
	})
}

func load(j *dynamo.Journal) error { _, err := j.Load(context.Background(), "svc-a"); return err }
func list(j *dynamo.Journal) error { _, err := j.InFlight(context.Background()); return err }
func save(j *dynamo.Journal) error {
	_, err := j.Save(context.Background(), rotator.Record{User: "svc-a"})
	return err
}

func table(t *testing.T, client *dynamodb.Client, name, hash, sort string) {
	t.Helper()
	in := &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &hash, AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: &hash, KeyType: types.KeyTypeHash}},
	}
	if sort != "" {
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &sort, AttributeType: types.ScalarAttributeTypeS})
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &sort, KeyType: types.KeyTypeRange})
	}
	if _, err := client.CreateTable(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// What is sent, word for word: moto forgives more than DynamoDB.
func TestWhatIsSent(t *testing.T) {
	var sent, action string
	reply, status := `{}`, http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent, action = string(body), r.Header.Get("X-Amz-Target")
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, reply)
	}))
	defer server.Close()
	j := dynamo.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "s"}, nil
		}),
	}, "t")
	wants := func(t *testing.T, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(sent, want) {
				t.Errorf("%s is not in %s", want, sent)
			}
		}
	}
	t.Run("a load is consistent", func(t *testing.T) {
		if err := load(j); err != nil {
			t.Fatal(err)
		}
		wants(t, `"ConsistentRead":true`, `"user":{"S":"svc-a"}`, `"item":{"S":"current"}`)
	})
	t.Run("a first save asks for no item, a later one for the version", func(t *testing.T) {
		if err := save(j); err != nil {
			t.Fatal(err)
		}
		wants(t, `"ConditionExpression":"attribute_not_exists(#key)"`, `"version":{"N":"1"}`, `"ReturnValuesOnConditionCheckFailure":"ALL_OLD"`)
		if strings.Contains(sent, `"in_flight":{`) {
			t.Error("an idle record is in the index")
		}
		r, err := j.Save(t.Context(), rotator.Record{User: "svc-a", Version: 7, Phase: rotator.PhaseSoaking})
		if err != nil || r.Version != 8 {
			t.Fatal(r, err)
		}
		wants(t, `"ConditionExpression":"#version = :prev"`, `":prev":{"N":"7"}`, `"version":{"N":"8"}`, `"in_flight":{"S":"yes"}`)
	})
	t.Run("history ends after 400 days", func(t *testing.T) {
		start := time.Date(2026, 11, 21, 20, 0, 0, 0, time.FixedZone("CET", 3600))
		if err := j.Append(t.Context(), rotator.Entry{User: "svc-a", StartedAt: start}); err != nil {
			t.Fatal(err)
		}
		wants(t, `"item":{"S":"history#2026-11-21T19:00:00.000000000Z"}`, `"expires_at":{"N":"1829847600"}`)
		if action != "DynamoDB_20120810.PutItem" {
			t.Error(action)
		}
	})
	t.Run("a write that was denied was not applied", func(t *testing.T) {
		reply, status = `{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}`, 400
		if err := save(j); !errors.Is(err, rotator.ErrRefused) || !strings.Contains(err.Error(), "grant dynamodb:PutItem on the table t") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an item that is not ours is said to be none", func(t *testing.T) {
		reply, status = `{"Item":{"user":{"S":"svc-a"},"item":{"S":"current"}}}`, 200
		if err := load(j); err == nil || !strings.Contains(err.Error(), "not one of credential-rotator") {
			t.Errorf("got %v", err)
		}
	})
}
