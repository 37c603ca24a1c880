package gitlab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"credential-rotator/rotator"
)

// network is how GitLab is reached: like everything else on this machine, with
// HTTPS_PROXY and NO_PROXY, but that authorities are trusted besides the system's, and
// that a proxy that lets nobody through is told from GitLab.
func network(authorities []byte) (http.RoundTripper, error) {
	t := &http.Transport{}
	if usual, ok := http.DefaultTransport.(*http.Transport); ok {
		t = usual.Clone()
	}
	t.Proxy = proxyOf
	t.OnProxyConnectResponse = connected
	if len(authorities) == 0 {
		return t, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without any
	}
	if !roots.AppendCertsFromPEM(authorities) {
		return nil, errors.New("making a GitLab client: GITLAB_CA_FILE holds no certificate (PEM)")
	}
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return t, nil
}

// proxyOf is the proxy for a request, by the environment. The error of one that is no
// URL would show it, and with it perhaps a password; some that are none are read as
// http://http://… all the same.
func proxyOf(req *http.Request) (*url.URL, error) {
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil || proxy != nil && strings.HasPrefix(proxy.Path, "//") {
		return nil, &proxyError{}
	}
	return proxy, nil
}

// connected looks at what a proxy answers to CONNECT: without a 200 nothing was sent to
// GitLab.
func connected(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{host: proxy.Host, status: resp.StatusCode}
}

// proxyError: a proxy did not let a request through. Without a host, there is no saying
// which one it would be.
type proxyError struct {
	host   string
	status int
}

func (e *proxyError) Error() string {
	if e.host == "" {
		return "HTTPS_PROXY is no URL"
	}
	return fmt.Sprintf("the proxy %s answered %d", e.host, e.status)
}

// about is the sentence about a request to GitLab's host.
func (e *proxyError) about(host string) string {
	said := fmt.Sprintf("the proxy %s (HTTPS_PROXY) answered %s, before anything reached %s", e.host, status(&http.Response{StatusCode: e.status}), host)
	around := ", or name " + hostname(host) + " in NO_PROXY"
	switch {
	case e.host == "":
		return "HTTPS_PROXY is not like http://proxy.example.com:3128: correct it" + around
	case e.status == http.StatusProxyAuthRequired:
		return said + ": put its user and password into HTTPS_PROXY (http://USER:PASSWORD@" + e.host + ")" + around
	case e.status >= 500:
		return said + ": it does not reach that host; check GITLAB_URL" + around
	}
	return said + ": it does not let requests through to that host; let it be allowed there" + around
}

// hostname is a host without its port, as NO_PROXY wants it.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// trustAdvice is what to do about a certificate that is not trusted.
func (c *Client) trustAdvice(err error) string {
	var (
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &name):
		return "check GITLAB_URL, which must have a name that the certificate is for"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew it, or set this machine's clock"
	case c.trusts:
		return "GITLAB_CA_FILE does not hold the authority that signed it, with those in between; ask who runs GitLab, or the proxy that reads along"
	}
	return "check GITLAB_URL; if the authority is your own, set GITLAB_CA_FILE to a file with its certificate (PEM), or in Lambda ca_layer_arn of the module to a layer with it (SSL_CERT_DIR=/opt/certs)"
}

// isPage tells whether a reply is a web page.
func isPage(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
}

// moved is what to do about a redirect, which is never followed: it would take the token
// to whatever host it names, and turn a POST into a GET. One that leads to the same call
// elsewhere tells where GitLab is now.
func moved(resp *http.Response, secrets []rotator.Secret) string {
	const api = "/api/v4/"
	to, err := resp.Location()
	if err == nil && resp.Request != nil {
		base, call, found := strings.Cut(to.Path, api)
		_, asked, _ := strings.Cut(resp.Request.URL.Path, api)
		if found && call == asked && (to.Scheme == "https" || to.Scheme == "http") {
			return "it is not followed, because it would take the token along; if that is your GitLab, set GITLAB_URL to " + printable(to.Scheme+"://"+to.Host+base, secrets)
		}
	}
	return "check GITLAB_URL, which must name GitLab itself, with https:// if it has that"
}
