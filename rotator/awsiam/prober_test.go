package awsiam_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"credential-rotator/rotator"
	"credential-rotator/rotator/awsiam"
)

func pair() rotator.KeyPair {
	return rotator.KeyPair{ID: "AKIAPROBED", Secret: rotator.NewSecret("probed-secret")}
}

func identity(arn string) string {
	return reply("GetCallerIdentity", "<Arn>"+arn+"</Arn><UserId>AIDA1</UserId><Account>1</Account>")
}

func TestProbe(t *testing.T) {
	t.Run("every question comes on a connection of its own", func(t *testing.T) {
		s := serve(t, func(w http.ResponseWriter, _ url.Values, _ int) { _, _ = io.WriteString(w, identity("arn:u")) })
		for name, client := range map[string]aws.HTTPClient{"the SDK's": nil, "net/http's": &http.Client{Transport: http.DefaultTransport}} {
			s.forget()
			cfg := s.config()
			cfg.HTTPClient = client
			p := awsiam.NewProber(cfg, awsiam.ProberOptions{Regions: []string{"eu-central-1", "eu-west-1"}})
			from := map[string]bool{}
			for range 3 {
				if id, err := p.Probe(t.Context(), pair()); err != nil || id.ARN != "arn:u" {
					t.Fatalf("got %v, %v", id, err)
				}
			}
			for _, c := range s.seen() {
				from[c.from] = true
			}
			if len(s.seen()) != 6 || len(from) != 6 {
				t.Errorf("with %s client 3 probes of 2 regions are %d calls on %d connections", name, len(s.seen()), len(from))
			}
		}
	})
	t.Run("a failure is not tried again and names only its code", func(t *testing.T) {
		for status, code := range map[int]string{403: "InvalidClientTokenId", 503: "ServiceUnavailable", 400: "Throttling"} {
			s := serve(t, func(w http.ResponseWriter, _ url.Values, _ int) {
				refuse(w, status, code, "Credential=AKIAPROBED, Signature=0123 "+sessionToken)
			})
			cfg := s.config()
			cfg.RetryMaxAttempts = 5
			_, err := awsiam.NewProber(cfg, awsiam.ProberOptions{Regions: []string{"eu-west-1"}}).Probe(t.Context(), pair())
			want := fmt.Sprintf("proving AKIAPROBED in eu-west-1: STS does not accept the key: %s (HTTP %d, request r-1)", code, status)
			if err == nil || err.Error() != want || len(s.seen()) != 1 {
				t.Errorf("after %d calls got %v\nwant %s", len(s.seen()), err, want)
			}
			noSecret(t, err)
		}
	})
	t.Run("an echo of the request is not passed on", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = io.WriteString(conn, r.Header.Get("Authorization")+"\r\n\r\n")
			_ = conn.Close()
		}))
		defer server.Close()
		s := service{url: server.URL}
		_, err := awsiam.NewProber(s.config(), awsiam.ProberOptions{}).Probe(t.Context(), pair())
		if err == nil {
			t.Error("there was no error")
		}
		noSecret(t, err)
	})
	t.Run("regions that disagree are an error, and one that refuses is one", func(t *testing.T) {
		s := serve(t, func(w http.ResponseWriter, _ url.Values, n int) {
			switch n {
			case 2:
				_, _ = io.WriteString(w, identity("arn:two"))
			case 4:
				refuse(w, 403, "InvalidClientTokenId", "")
			default:
				_, _ = io.WriteString(w, identity("arn:one"))
			}
		})
		p := awsiam.NewProber(s.config(), awsiam.ProberOptions{Regions: []string{"eu-central-1", "eu-west-1"}})
		for _, want := range []string{"arn:two", "eu-west-1"} {
			if _, err := p.Probe(t.Context(), pair()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, which does not name %s", err, want)
			}
		}
	})
	t.Run("a clock that is wrong is made up for from the second probe on", func(t *testing.T) {
		real := time.Now().Add(40 * 24 * time.Hour).UTC()
		s := serve(t, func(w http.ResponseWriter, _ url.Values, n int) {
			w.Header().Set("Date", real.Format(http.TimeFormat))
			if n == 1 {
				refuse(w, 403, "SignatureDoesNotMatch", "Signature expired")
				return
			}
			_, _ = io.WriteString(w, identity("arn:u"))
		})
		p := awsiam.NewProber(s.config(), awsiam.ProberOptions{})
		_, first := p.Probe(t.Context(), pair())
		_, second := p.Probe(t.Context(), pair())
		if first == nil || second != nil || !strings.HasPrefix(s.seen()[1].date, real.Format("20060102")) {
			t.Errorf("got %v, then %v; the second was signed at %s", first, second, s.seen()[1].date)
		}
	})
	t.Run("without a region it says what to set", func(t *testing.T) {
		_, err := awsiam.NewProber(aws.Config{}, awsiam.ProberOptions{}).Probe(t.Context(), pair())
		if err == nil || !strings.Contains(err.Error(), "PROBE_REGIONS") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nobody there is said as such", func(t *testing.T) {
		s := service{url: "http://127.0.0.1:1"}
		_, err := awsiam.NewProber(s.config(), awsiam.ProberOptions{}).Probe(t.Context(), pair())
		if err == nil || !strings.Contains(err.Error(), "cannot be reached") {
			t.Errorf("got %v", err)
		}
	})
}

// The certificates and the endpoint of the environment count for the probe, too.
func TestProbeObeysTheEnvironment(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, identity("arn:u"))
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // one handshake is to fail
	server.StartTLS()
	defer server.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE": bundle, "AWS_ENDPOINT_URL_STS": server.URL, "AWS_REGION": "eu-central-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id, err := awsiam.NewProber(cfg, awsiam.ProberOptions{}).Probe(t.Context(), pair()); err != nil || id.ARN != "arn:u" {
		t.Errorf("got %v, %v", id, err)
	}
	t.Setenv("AWS_CA_BUNDLE", "")
	cfg, err = config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := awsiam.NewProber(cfg, awsiam.ProberOptions{}).Probe(t.Context(), pair()); err == nil || !strings.Contains(err.Error(), "AWS_CA_BUNDLE") {
		t.Errorf("without the bundle got %v", err)
	}
}
