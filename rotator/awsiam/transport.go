package awsiam

import (
	"bytes"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// inMemory hands requests on with a body that stays readable after the reply.
//
// The SDK closes its request body as soon as there is a reply. net/http may then not
// yet have looked whether anything follows the body that it has sent: it finds one
// that answers with an error, closes the connection, and the reply, which was on its
// way in full, is lost (smithy-go 1.28, safeWriteToReadCloser.WriteTo after Close).
// It takes a reply faster than a goroutine's turn, which a throttled Lambda function
// and a server on the same machine both can bring about. For the one reply that must
// not be lost, that is once too often.
type inMemory struct{ client aws.HTTPClient }

func (m inMemory) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return m.client.Do(r)
}
