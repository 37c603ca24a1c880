// Package moto runs moto, a stand-in for AWS, for tests. What it cannot show (eventual
// consistency, lost replies) the sandbox and the adapters' own tests do.
//
// It is moto as installed, with the few patches of launcher.py: without them some of
// our tests would pass for the wrong reason.
package moto

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

//go:embed launcher.py
var launcher string

const (
	// Region is the region that the configurations are for.
	Region = "eu-central-1"
	// Account is the number of the account that moto plays.
	Account = "123456789012"
)

// Server is a running moto. It is safe for concurrent use, but EnforceAuth is for all.
type Server struct {
	// URL is where it listens: every service, http://127.0.0.1:PORT.
	URL string

	t     testing.TB
	admin aws.Credentials
}

// Start starts a moto with nothing in it but the administrator, and without
// authentication (EnforceAuth). It ends with the test. Starting takes about a second
// and a half: share one among the subtests of a test.
//
// The test is skipped where moto is not installed, see Require.
func Start(t testing.TB) *Server {
	t.Helper()
	python := Require(t, "moto_server")
	s := &Server{t: t}
	s.URL = "http://127.0.0.1:" + run(t, python)
	s.admin = s.makeAdmin(t)
	return s
}

// run starts the launcher and returns its port. The launcher ends when its stdin is
// closed, which the kernel does even when the test is killed.
func run(t testing.TB, python string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), python, "-c", launcher)
	cmd.Env = append(os.Environ(), "MOTO_IAM_LOAD_MANAGED_POLICIES=false", "PYTHONDONTWRITEBYTECODE=1")
	ownGroup(cmd)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("starting moto: %v", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("starting moto: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting moto: %v", err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		killGroup(cmd)
		_ = cmd.Wait() // it was killed: that is no news
		if t.Failed() && complaints.Len() > 0 {
			t.Logf("moto says:\n%s", complaints.String())
		}
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		killGroup(cmd)
		_ = cmd.Wait()
		t.Fatalf("starting moto: it ended at once (%v):\n%s", err, complaints.String())
	}
	return strings.TrimSpace(port)
}

// EnforceAuth turns authentication and authorisation on or off, for every call to
// this server from now on. While it is on, only keys that moto has made work, and
// only for what their user's policies allow.
func (s *Server) EnforceAuth(on bool) {
	s.t.Helper()
	unchecked := "inf" // the number of calls to let pass first
	if on {
		unchecked = "0"
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL+"/moto-api/reset-auth", strings.NewReader(unchecked))
	if err != nil {
		s.t.Fatalf("turning authentication of moto to %v: %v", on, err)
	}
	req.Header.Set("Content-Type", "text/plain") // a form would be taken apart
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("turning authentication of moto to %v: %v", on, err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("turning authentication of moto to %v: %s %s %v", on, resp.Status, body, err)
	}
}

// Config is an SDK configuration that calls this server with a key pair. It depends
// on no environment variable.
func (s *Server) Config(accessKeyID, secret string) aws.Config {
	return aws.Config{
		Region:       Region,
		BaseEndpoint: aws.String(s.URL),
		HTTPClient:   inMemory{http.DefaultClient},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secret}, nil
		}),
	}
}

// Admin is a configuration that may do everything, authentication on or off.
func (s *Server) Admin() aws.Config { return s.Config(s.admin.AccessKeyID, s.admin.SecretAccessKey) }

// UserARN is the ARN of a user at the path /.
func UserARN(name string) string { return fmt.Sprintf("arn:aws:iam::%s:user/%s", Account, name) }

// inMemory hands requests on with a body of its own. With the SDK's, net/http loses a
// reply now and then that is as fast as moto's, and the SDK sends the call again (see
// the type of this name in package awsiam).
type inMemory struct{ client *http.Client }

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
