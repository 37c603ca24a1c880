package contract_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"credential-rotator/test/moto"
)

// queue is a queue of SQS, by hand: it is all that this project wants of SQS.
type queue struct {
	config aws.Config
	name   string
	url    string
}

func (q *queue) arn() string {
	return "arn:aws:sqs:" + q.config.Region + ":" + moto.Account + ":" + q.name
}

func (q *queue) create(t testing.TB) {
	t.Helper()
	var out struct {
		QueueURL string `json:"QueueUrl"`
	}
	q.call(t, "CreateQueue", map[string]any{"QueueName": q.name}, &out)
	q.url = out.QueueURL
}

// receive waits for n messages, and returns these and what else is there. A message
// is received once.
func (q *queue) receive(t testing.TB, n int) []string {
	t.Helper()
	var bodies []string
	for end := time.Now().Add(10 * time.Second); len(bodies) < n && time.Now().Before(end); {
		var out struct{ Messages []struct{ Body string } }
		q.call(t, "ReceiveMessage", map[string]any{
			"QueueUrl": q.url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1, "VisibilityTimeout": 3600,
		}, &out)
		for _, m := range out.Messages {
			bodies = append(bodies, m.Body)
		}
	}
	return bodies
}

func (q *queue) call(t testing.TB, action string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	ok(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *q.config.BaseEndpoint+"/", bytes.NewReader(body))
	ok(t, err)
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "AmazonSQS."+action)
	who, err := q.config.Credentials.Retrieve(t.Context())
	ok(t, err)
	hash := sha256.Sum256(body)
	ok(t, v4.NewSigner().SignHTTP(t.Context(), who, req, hex.EncodeToString(hash[:]), "sqs", q.config.Region, time.Now()))
	resp, err := http.DefaultClient.Do(req)
	ok(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	ok(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", action, resp.Status, text)
	}
	ok(t, json.Unmarshal(text, out))
}
