package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"credential-rotator/test/sandbox"
)

// authority is an authority of one's own, as companies have them.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example Corp Root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err = x509.ParseCertificate(der)
	return &authority{root, key}, err
}

// file writes the authority's certificate to a file of a directory.
func (a *authority) file(dir string) (string, error) {
	path := filepath.Join(dir, "ca.pem")
	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600)
}

// signs makes the certificate of a host.
func (a *authority) signs(host string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// proxy is a forward proxy that tunnels (CONNECT), to one server whatever the name is:
// it has a name server of its own.
type proxy struct {
	server string // HOST:PORT behind it
	status int    // of the refusals; 0 lets everybody through
	// password is the user and password that it wants, in base64; "" for none.
	password string
	passed   atomic.Int64
}

func (p *proxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	wants := p.password != "" && r.Header.Get("Proxy-Authorization") != "Basic "+p.password
	switch {
	case r.Method != http.MethodConnect:
		http.Error(rw, "only CONNECT", http.StatusBadRequest)
		return
	case wants:
		rw.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		refuse(rw, http.StatusProxyAuthRequired)
		return
	case p.status != 0:
		refuse(rw, p.status)
		return
	}
	behind, err := new(net.Dialer).DialContext(r.Context(), "tcp", p.server)
	if err != nil {
		refuse(rw, http.StatusBadGateway)
		return
	}
	defer behind.Close()
	front, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer front.Close()
	p.passed.Add(1)
	_, _ = fmt.Fprint(front, "HTTP/1.1 200 Connection established\r\n\r\n")
	tunnel(front, buffered, behind)
}

func refuse(rw http.ResponseWriter, status int) {
	rw.Header().Set("Content-Type", "text/html")
	rw.WriteHeader(status)
	_, _ = fmt.Fprint(rw, "<html><title>Squid</title>ERR_ACCESS_DENIED</html>")
}

// tunnel carries bytes both ways until one side has had enough.
func tunnel(front net.Conn, buffered *bufio.ReadWriter, behind net.Conn) {
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(behind, buffered); done <- struct{}{} }()
	go func() { _, _ = io.Copy(front, behind); done <- struct{}{} }()
	<-done
}

// self-hosted [below=/PATH] [version=V] [tls=HOST] [proxy=open|password|forbids|broken|gone]:
// GITLAB_URL is a front of the world like that. $CA is the file of its authority.
// The proxy is in HTTPS_PROXY, and $PROXY its HOST:PORT.
func selfHosted(ts *testscript.TestScript, s *stage, args []string) error {
	h := s.GitLab()
	path, host, via := "", "", ""
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "below":
			path, h = value, sandbox.GitLabBelow(value, h)
		case "version":
			h = sandbox.OldGitLab(value, h)
		case "tls":
			host = value
		case "proxy":
			via = value
		default:
			return fmt.Errorf("unknown %s", name)
		}
	}
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	ts.Defer(server.Close)
	if host == "" {
		server.Start()
		ts.Setenv("GITLAB_URL", server.URL+path)
		return nil
	}
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	cert, err := ca.signs(host)
	if err != nil {
		return err
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	file, err := ca.file(s.dir)
	if err != nil {
		return err
	}
	ts.Setenv("CA", file)
	ts.Setenv("GITLAB_URL", "https://"+host+path)
	if net.ParseIP(host) != nil {
		ts.Setenv("GITLAB_URL", "https://"+server.Listener.Addr().String()+path)
	}
	return behindProxy(ts, server.Listener.Addr().String(), via)
}

func behindProxy(ts *testscript.TestScript, server, via string) error {
	p := &proxy{server: server}
	switch via {
	case "", "open":
	case "password":
		p.password = "bWU6aHVudGVyMg==" // me:hunter2
	case "forbids":
		p.status = http.StatusForbidden
	case "broken":
		p.status = http.StatusBadGateway
	case "gone":
	default:
		return fmt.Errorf("unknown proxy %s", via)
	}
	if via == "" {
		return nil
	}
	front := httptest.NewServer(p)
	ts.Defer(front.Close)
	if via == "gone" {
		front.Close()
	}
	ts.Setenv("PROXY", front.Listener.Addr().String())
	ts.Setenv("HTTPS_PROXY", front.URL)
	return nil
}

func TestAnAuthorityThatCannotBeUsedIsAFaultOfTheConfiguration(t *testing.T) {
	t.Parallel()
	ca, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	good, err := ca.file(dir)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ value, says string }{
		"missing":          {filepath.Join(dir, "none.pem"), "GITLAB_CA_FILE cannot be read: \"" + filepath.Join(dir, "none.pem") + `": no such file or directory`},
		"a directory":      {dir, "is a directory"},
		"empty":            {write("empty.pem", ""), "has none"},
		"no PEM":           {write("der.crt", "\x30\x82\x01"), `GITLAB_CA_FILE must hold certificates in PEM ("-----BEGIN CERTIFICATE-----")`},
		"a private key":    {write("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "must hold certificates only, and"},
		"a broken one":     {write("broken.pem", string(data)+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "number 2 of"},
		"the certificates": {string(data), "must be the path of a file with certificates (PEM), not the certificates"},
	} {
		_, err := loadConfig(least("GITLAB_CA_FILE=" + c.value))
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, value := range map[string]string{"one": good, "several, with words between": write("two.pem", "Root:\n"+string(data)+"Another:\n"+string(data)), "not set": ""} {
		if c, err := loadConfig(least("GITLAB_CA_FILE=" + value)); err != nil || (len(c.gitLabCAs) > 0) != (value != "") {
			t.Errorf("%s: %d bytes, %v", name, len(c.gitLabCAs), err)
		}
	}
}
