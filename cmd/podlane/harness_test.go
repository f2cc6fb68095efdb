package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// lockedBuffer is what a command writes to while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// command is a command that runs in this process, as a user would run it.
type command struct {
	t              *testing.T
	stdout, stderr lockedBuffer
	signals        chan os.Signal
	exit           chan int
}

// start runs a command line until the end of the test, at the latest.
func start(t *testing.T, args ...string) *command {
	t.Helper()
	c := &command{t: t, signals: make(chan os.Signal), exit: make(chan int, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{stdout: &c.stdout, stderr: &c.stderr, signals: c.signals, adoptLog: func(logr.Logger) {}}
	go func() { c.exit <- run(ctx, p, args) }()
	t.Cleanup(func() {
		cancel()
		if code, ended := <-c.exit; ended && code != 0 && !t.Failed() {
			t.Errorf("exit %d\n%s", code, c.stderr.String())
		}
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", c.stdout.String(), c.stderr.String())
		}
	})
	return c
}

// wait returns the exit code.
func (c *command) wait() int {
	c.t.Helper()
	select {
	case code := <-c.exit:
		close(c.exit)
		return code
	case <-time.After(time.Minute):
		c.t.Fatal("the command does not end")
		return -1
	}
}

// says waits until stdout has a line that matches, and returns its first group.
func (c *command) says(pattern string) string {
	c.t.Helper()
	expression := regexp.MustCompile(pattern)
	var found string
	eventually(c.t, "stdout has "+pattern, func() bool {
		match := expression.FindStringSubmatch(c.stdout.String())
		if match == nil {
			return false
		}
		found = match[len(match)-1]
		return true
	})
	return found
}

// eventually waits for what happens soon; the limit only tells a failure from a hang.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("does not come true: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// serving is `podlane serve` on free ports.
type serving struct {
	*command
	sockets
	dir, admin string
}

// sockets are where requests are answered.
type sockets struct{ http, https string }

// serve starts `podlane serve` on a folder with the given files.
func serve(t *testing.T, files map[string]string, args ...string) *serving {
	t.Helper()
	s := &serving{dir: t.TempDir()}
	for name, text := range files {
		s.write(t, name, text)
	}
	s.command = start(t, append([]string{
		"serve", "--from", s.dir,
		"--http-address=127.0.0.1:0", "--https-address=127.0.0.1:0", "--admin-address=127.0.0.1:0",
	}, args...)...)
	s.http = s.says(`  http   http://(\S+)`)
	s.https = s.says(`  https  https://(\S+)`)
	s.admin = s.says(`  admin  http://([^/]+)/`)
	s.says(`following changes`)
	return s
}

// write replaces a file as an editor does: never half.
func (s *serving) write(t *testing.T, name, text string) {
	t.Helper()
	temporary := filepath.Join(s.dir, "."+filepath.Base(name)+".tmp")
	write(t, temporary, text)
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(s.dir, name)), 0o755))
	must(t, os.Rename(temporary, filepath.Join(s.dir, name)))
}

// answer is what a client got.
type answer struct {
	status int
	body   string
	header http.Header
	tls    *tls.ConnectionState
}

// ask sends a GET on a connection of its own.
func (s sockets) ask(url string) (answer, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // certificates are looked at by the test
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			to := s.http
			if strings.HasSuffix(address, ":443") {
				to = s.https
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := client.Get(url)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	return answer{r.StatusCode, string(body), r.Header, r.TLS}, err
}

// get is ask for a request that must be answered.
func (s *serving) get(url string) answer {
	s.t.Helper()
	a, err := s.ask(url)
	if err != nil {
		s.t.Fatalf("GET %s: %v", url, err)
	}
	return a
}

// page returns an admin page.
func (s *serving) page(path string) (int, string) {
	s.t.Helper()
	return adminPage(s.t, s.admin, path)
}

func adminPage(t *testing.T, address, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	r, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// pod starts a server that answers with a name, and returns its port.
func pod(t *testing.T, name string) int {
	t.Helper()
	return podOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "this is "+name) }))
}

func podOf(t *testing.T, handler http.Handler) int {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// ingressOf is an Ingress of one rule; extra goes below metadata and spec.
func ingressOf(name, host, path, service string) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: %s
  namespace: default
spec:
  rules:
  - host: %s
    http:
      paths:
      - {path: %s, pathType: Prefix, backend: {service: {name: %s, port: {number: 80}}}}
`, name, host, path, service)
}

// withTLS is ingressOf with a certificate.
func withTLS(name, host, service, secret string) string {
	return ingressOf(name, host, "/", service) + fmt.Sprintf("  tls:\n  - {hosts: [%s], secretName: %s}\n", host, secret)
}

// serviceOf is a Service with one unnamed port, and an EndpointSlice for each given port of this machine.
func serviceOf(name string, ports ...int) string {
	text := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default}\nspec: {ports: [{port: 80, targetPort: 8000}]}\n", name)
	for _, port := range ports {
		text += fmt.Sprintf(`---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s-%d, namespace: default, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
ports: [{name: "", port: %d, protocol: TCP}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
`, name, port, name, port)
	}
	return text
}

// secretOf is a Secret with a new certificate for host, and its serial number.
func secretOf(t *testing.T, name, host string) (manifest string, serial *big.Int) {
	t.Helper()
	return secretUntil(t, name, host, time.Now().Add(time.Hour))
}

// secretUntil is secretOf with a certificate that expires at end.
func secretUntil(t *testing.T, name, host string, end time.Time) (manifest string, serial *big.Int) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	serial, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: default}\ntype: kubernetes.io/tls\ndata:\n  tls.crt: %s\n  tls.key: %s\n",
		name, encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER)), serial
}
