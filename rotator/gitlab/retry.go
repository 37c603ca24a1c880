package gitlab

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// maxRetries bounds what one call sends: four attempts ride out the restart of
	// a web server and, at maxPause each, the minute that GitLab counts requests in.
	maxRetries = 3
	// maxPause bounds one wait, whatever the headers of a 429 ask for.
	maxPause = 30 * time.Second
	// firstPause doubles with each attempt: 0.5, 1 and 2 s.
	firstPause = 500 * time.Millisecond
)

// sendAgain says whether a request may be sent again. A read may, when it failed on
// the way; a write may only when GitLab says that it was too much (429): then it was
// not applied. Status 0 and 999 are what some load balancers invent.
func sendAgain(ctx context.Context, resp *http.Response, err error) (bool, error) {
	switch {
	case err != nil:
		return isRead(err) && mayPass(err) && !isOver(ctx), nil
	case resp.StatusCode == http.StatusTooManyRequests:
		deadline, bounded := ctx.Deadline()
		return !bounded || time.Until(deadline) > askedPause(resp), nil
	case resp.StatusCode == http.StatusNotImplemented:
		return false, nil
	}
	return (resp.StatusCode >= 500 || resp.StatusCode == 0) && resp.Request != nil && resp.Request.Method == http.MethodGet, nil
}

func isOver(ctx context.Context) bool { return ctx.Err() != nil }

// isRead tells by the error of http.Client, which names the method, whether the
// request that failed was a read.
func isRead(err error) bool {
	var failed *url.Error
	return errors.As(err, &failed) && failed.Op == "Get"
}

// mayPass tells whether an error may be gone in a moment. What is wrong with a
// name, a certificate or a token stays wrong.
func mayPass(err error) bool {
	var (
		token  *tokenError
		proxy  *proxyError
		name   *net.DNSError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &proxy):
		return proxy.status >= 500
	case errors.As(err, &token), errors.As(err, &cert), errors.As(err, &record),
		errors.Is(err, http.ErrSchemeMismatch), errors.Is(err, errTooLong):
		return false
	case errors.As(err, &name):
		return !name.IsNotFound
	}
	return true
}

// pause is how long to wait before attempt+2, the attempts counted from one. The
// jitter keeps services that are rotated at the same minute apart.
func (o Options) pause(_, _ time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp != nil && resp.StatusCode == http.StatusTooManyRequests {
		if asked := askedPause(resp); asked > 0 {
			return asked
		}
	}
	first := o.FirstPause
	if first == 0 {
		first = firstPause
	}
	d := first << attempt
	return d + rand.N(d/2)
}

// askedPause is what a 429 asks for: Retry-After in seconds, or RateLimit-Reset, a
// Unix time; at most maxPause. 0 when it asks for nothing.
func askedPause(resp *http.Response) time.Duration {
	var d time.Duration
	if s, err := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 32); err == nil {
		d = time.Duration(s) * time.Second
	} else if unix, err := strconv.ParseInt(resp.Header.Get("RateLimit-Reset"), 10, 64); err == nil {
		d = time.Until(time.Unix(unix, 0))
	}
	return min(max(d, 0), maxPause)
}
