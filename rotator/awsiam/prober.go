package awsiam

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"credential-rotator/rotator"
)

// probeTimeout bounds one question to one region. STS answers within a second; a
// region that does not answer in ten has failed the probe, and the next one is due.
const probeTimeout = 10 * time.Second

// ProberOptions are the choices of a Prober.
type ProberOptions struct {
	// Regions are all asked; empty: the configuration's region. A key spreads region
	// by region, so these should be the ones in which the service uses it.
	Regions []string
}

// Prober is rotator.Prober on the regional endpoints of STS. Its question,
// GetCallerIdentity, needs no permission and cannot be denied by a policy. It is safe
// for concurrent use.
type Prober struct {
	regions []string
	clients []*sts.Client // one a region
}

// NewProber returns a Prober that reaches STS as cfg says (endpoint, proxy,
// certificates), and signs with nothing but the pair that it is given.
//
// Hosts remember for seconds that a key was invalid, so every question goes out on a
// connection of its own. An HTTP client that is neither the SDK's nor on
// *http.Transport is used as it is.
func NewProber(cfg aws.Config, opts ProberOptions) *Prober {
	p := &Prober{regions: opts.Regions}
	if len(p.regions) == 0 && cfg.Region != "" {
		p.regions = []string{cfg.Region}
	}
	fresh := withoutKeepAlive(cfg.HTTPClient)
	for _, region := range p.regions {
		// The client outlives the probe because it learns how far this machine's clock
		// is off: without that, a wrong clock would look like a key that never works.
		p.clients = append(p.clients, sts.NewFromConfig(cfg, func(o *sts.Options) {
			o.Region = region
			o.HTTPClient = fresh
			o.Credentials = aws.AnonymousCredentials{} // each probe brings its own
			o.Retryer = aws.NopRetryer{}               // the rotation decides when to ask again
			o.RetryMaxAttempts = 0
			o.ClientLogMode = 0 // a signature is nobody's business
		}))
	}
	return p
}

// Probe asks every region in turn, once, for at most ten seconds each, and stops at
// the first that does not know the pair. They must agree on who it is.
func (p *Prober) Probe(ctx context.Context, pair rotator.KeyPair) (rotator.Identity, error) {
	if len(p.regions) == 0 {
		return rotator.Identity{}, errors.New("proving " + pair.ID + ": no region is configured; set AWS_REGION or PROBE_REGIONS")
	}
	var id rotator.Identity
	for i, client := range p.clients {
		arn, err := ask(ctx, client, pair)
		if err != nil {
			return rotator.Identity{}, fmt.Errorf("proving %s in %s: %w", pair.ID, p.regions[i], err)
		}
		if i > 0 && arn != id.ARN {
			return rotator.Identity{}, fmt.Errorf("proving %s: %s says that it is %s, %s that it is %s", pair.ID, p.regions[0], id.ARN, p.regions[i], arn)
		}
		id.ARN = arn
	}
	return id, nil
}

// ask sends one GetCallerIdentity, signed with the pair, and returns the ARN.
func ask(ctx context.Context, client *sts.Client, pair rotator.KeyPair) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: pair.ID, SecretAccessKey: pair.Secret.Reveal()}, nil
		})
	})
	if err != nil {
		return "", presentable(ctx, err)
	}
	if aws.ToString(out.Arn) == "" {
		return "", errors.New("STS answered without saying who the key is")
	}
	return *out.Arn, nil
}

// presentable keeps of an error what is known to hold nothing of the request: STS's
// code, or how the connection failed. A reply that cannot be read is not quoted, as it
// may be an echo of what was sent.
func presentable(ctx context.Context, err error) error {
	if api, answer := answered(err); api != nil {
		return fmt.Errorf("STS does not accept the key: %s (HTTP %d, request %s)", printable(api.ErrorCode()), answer.HTTPStatusCode(), printable(answer.ServiceRequestID()))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("STS did not answer in time: %w", ctx.Err())
	}
	var dial *net.OpError
	var name *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dial):
		return fmt.Errorf("STS cannot be reached: %w", dial)
	case errors.As(err, &name):
		return fmt.Errorf("STS cannot be reached: %w", name)
	case errors.As(err, &cert):
		return fmt.Errorf("STS's certificate is not trusted (AWS_CA_BUNDLE): %w", cert)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("STS closed the connection without an answer")
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() != 0 {
		return fmt.Errorf("what answered for STS did not speak like it (HTTP %d): is a proxy in between, or AWS_ENDPOINT_URL wrong?", answer.HTTPStatusCode())
	}
	return errors.New("STS could not be asked: the endpoint (AWS_REGION, PROBE_REGIONS, AWS_ENDPOINT_URL) or the proxy is wrong")
}

// withoutKeepAlive is client, with its proxy and certificates, on fresh connections.
func withoutKeepAlive(client aws.HTTPClient) aws.HTTPClient {
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	if sdk, ok := client.(*awshttp.BuildableClient); ok {
		return sdk.WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	}
	std, ok := client.(*http.Client)
	if !ok {
		return client
	}
	inner := std.Transport
	if inner == nil {
		inner = http.DefaultTransport
	}
	transport, ok := inner.(*http.Transport)
	if !ok {
		return client
	}
	fresh, own := *std, transport.Clone()
	own.DisableKeepAlives = true
	fresh.Transport = own
	return &fresh
}
