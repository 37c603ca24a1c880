package gitlab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// problem is why a call brought no answer, as a sentence that tells what to do. It
// never holds a token, a value or a body.
type problem struct {
	status int    // of GitLab's reply; 0: there was none
	said   string // GitLab's own message; "" without one that can be shown
	text   string
	// foreign: something answered that is not GitLab's API.
	foreign bool
	cause   error // what a caller may ask for, such as the end of the run
}

func (p *problem) Error() string { return p.text }
func (p *problem) Unwrap() error { return p.cause }

// notFound tells whether GitLab itself said that something does not exist, or that
// the token cannot see it, which GitLab does not tell apart.
func (p *problem) notFound() bool { return p.status == http.StatusNotFound && !p.foreign }

// untold tells whether GitLab does not answer a question to this token's user, or to
// nobody: it has no such page, and whoever says so may not be GitLab itself.
func (p *problem) untold() bool {
	return p.status == http.StatusNotFound || p.status == http.StatusForbidden && !p.foreign
}

// explain makes a problem of what client-go returned. secrets are what the request
// carried beside the token.
func (c *Client) explain(resp *gitlab.Response, err error, secrets ...rotator.Secret) *problem {
	secrets = append(secrets, c.tokens.last())
	if resp == nil || resp.Response == nil {
		return c.unanswered(err, secrets)
	}
	said, parsed := message(body(resp.Response), secrets)
	p := &problem{status: resp.StatusCode, said: said}
	p.foreign = !parsed && p.status != http.StatusTooManyRequests && p.status < 500
	p.text = c.answered(resp.Response, p, secrets)
	return p
}

// refusal marks a problem of a write as rotator.ErrRefused when GitLab's reply says
// that the write was not applied. That a variable is already there is no refusal:
// an earlier attempt of ours may have made it.
func refusal(p *problem) error {
	definite := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests,
	}
	if !slices.Contains(definite, p.status) || strings.Contains(p.said, "has already been taken") {
		return p
	}
	return refused(p)
}

func refused(err error) error { return fmt.Errorf("%w: %w", rotator.ErrRefused, err) }

// answered is the sentence about a reply.
func (c *Client) answered(resp *http.Response, p *problem, secrets []rotator.Secret) string {
	switch {
	case p.status == http.StatusProxyAuthRequired:
		return fmt.Sprintf("a proxy in front of %s answered %s: put its user and password into HTTPS_PROXY, or name %s in NO_PROXY", c.host, status(resp), hostname(c.host))
	case p.status >= 300 && p.status < 400:
		return fmt.Sprintf("%s redirects to %s: %s", c.host, target(resp, secrets), moved(resp, secrets))
	case p.status >= 500 && isPage(resp):
		return fmt.Sprintf("%s answered %s with a web page%s, which is not of GitLab's API but of a proxy or load balancer in front of it: GitLab is down or overloaded behind it; try again later", c.host, status(resp), kind(resp, secrets))
	case p.status < 300, p.foreign:
		return fmt.Sprintf("%s answered %s, but not as GitLab's API does%s: check GITLAB_URL, and that no sign-in page or proxy is in the way", c.host, status(resp), kind(resp, secrets))
	}
	text := c.host + " answered " + status(resp)
	if p.said != "" && !strings.EqualFold(p.said, status(resp)) {
		text += fmt.Sprintf(" (%s)", p.said)
	}
	return text + ": " + advice(p)
}

func advice(p *problem) string {
	const renew = "; make a new one (scope api, role Maintainer) and put it where the old one is kept"
	switch p.status {
	case http.StatusUnauthorized:
		switch {
		case strings.Contains(p.said, "expired"):
			return "the GitLab token has expired" + renew
		case strings.Contains(p.said, "revoked"):
			return "the GitLab token was revoked" + renew
		}
		return "it does not know the GitLab token" + renew
	case http.StatusForbidden:
		if strings.Contains(p.said, "scope") || strings.Contains(p.said, "privileges") {
			return "the GitLab token lacks the scope api" + renew
		}
		return "the GitLab token needs the scope api, and its user the role Maintainer in the project"
	case http.StatusNotFound:
		return "it does not exist, or the GitLab token cannot see it"
	case http.StatusTooManyRequests:
		return "it allows no more requests for now; try again in some minutes"
	}
	if p.status >= 500 {
		return "GitLab is down or overloaded; try again later"
	}
	return "GitLab does not accept this"
}

// unanswered is about a call without a reply.
func (c *Client) unanswered(err error, secrets []rotator.Secret) *problem {
	var (
		token *tokenError
		slow  *timeoutError
		sent  *url.Error
	)
	switch {
	case errors.As(err, &token):
		return &problem{text: token.Error(), cause: token.err}
	case errors.Is(err, errEndless), errors.Is(err, errTooLong):
		return &problem{text: fmt.Sprintf("%s did not answer as GitLab's API does (%v): check GITLAB_URL", c.host, err)}
	case errors.As(err, &slow):
		return &problem{text: fmt.Sprintf("%s gave %s: check GITLAB_URL, and that the network lets requests through", c.host, slow)}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &problem{text: fmt.Sprintf("the run ended before %s answered", c.host), cause: err}
	case errors.As(err, &sent):
		err = sent.Err // without the URL, which the host stands for
	}
	return &problem{text: c.unreachable(err, secrets)}
}

// unreachable is the sentence about a connection that did not come about, or broke.
func (c *Client) unreachable(err error, secrets []rotator.Secret) string {
	var (
		proxy  *proxyError
		name   *net.DNSError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		op     *net.OpError
	)
	said := printable(err.Error(), secrets)
	switch {
	case errors.As(err, &proxy):
		return proxy.about(c.host)
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return fmt.Sprintf("the proxy for %s cannot be used (%s): check HTTPS_PROXY, or name %s in NO_PROXY", c.host, said, hostname(c.host))
	case errors.As(err, &name):
		return fmt.Sprintf("%s is not found (%s): check GITLAB_URL", c.host, said)
	case errors.As(err, &cert):
		return fmt.Sprintf("the certificate of %s is not trusted (%s): %s", c.host, printable(cert.Err.Error(), secrets), c.trustAdvice(cert.Err))
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s does not speak TLS here: check GITLAB_URL, its https:// and its port", c.host)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Sprintf("%s cannot be reached (%s): check GITLAB_URL, and that the network lets requests through", c.host, said)
	}
	return fmt.Sprintf("the connection to %s broke before it had answered (%s)", c.host, said)
}
