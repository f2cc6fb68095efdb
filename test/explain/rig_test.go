package explain_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// rig is an engine with a listener in clear and an encrypted one, and two Pods for each Service.
type rig struct {
	engine  *proxy.Engine
	store   *certs.Store
	log     *observe.AccessLog
	logFile string
	plain   string
	secure  string
	tls     *tls.Config
	// shown are the certificates of clients, by their names.
	shown map[string]tls.Certificate
	pods  map[string][]router.Address
}

// got is what a Pod says that it got.
type got struct {
	Service, Method, Target, Host string
	Header                        http.Header
}

// podField is in every answer of a Pod.
const podField = "X-Test-Pod"

// authField is what a client has the authentication service answer, and refusedField is in what stands for an answer where there was no handshake.
const (
	authField    = "X-Auth-Answer"
	refusedField = "X-Test-Refused"
)

func newRig(t *testing.T, m material) *rig {
	t.Helper()
	r := &rig{logFile: filepath.Join(t.TempDir(), "access.log"), pods: map[string][]router.Address{}, shown: newShown(t, m)}
	var err error
	if r.log, err = observe.OpenAccessLog(observe.AccessLogOptions{Destination: r.logFile}); err != nil {
		t.Fatal(err)
	}
	if r.store, err = certs.NewStore(certs.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range services {
		if name == "missing" || name == "empty" {
			continue
		}
		for i := range 2 {
			s := httptest.NewServer(pod(name))
			t.Cleanup(s.Close)
			id := name + "-" + strconv.Itoa(i)
			r.pods[name] = append(r.pods[name], router.Address{AddrPort: netip.MustParseAddrPort(s.Listener.Addr().String()), UID: id, Pod: id, Ready: true, Serving: true})
		}
	}
	r.engine = proxy.New(proxy.Options{
		Policies: config.Policies(), AccessLog: r.log, MaxRequests: 1 << 30, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, H2C: true,
		Upstream: upstream.Options{External: upstream.External{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
	})
	r.tls, err = server.NewConfig(r.store, server.Options{Table: r.engine.Table, Protocols: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	shaker := server.NewHandshaker(server.HandshakerOptions{})
	r.plain = r.serve(t, &proxy.Listener{})
	r.secure = r.serve(t, &proxy.Listener{
		Handshake: func(nc net.Conn) (*tls.Conn, error) {
			c := shaker.Server(nc, r.tls)
			return c, shaker.Handshake(context.Background(), c)
		},
		Credentials: func(c *tls.Conn) exchange.Credentials {
			if shown := server.CredentialsOf(c); shown != nil {
				return shown
			}
			return nil
		},
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := r.engine.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return r
}

// serve opens a listener, and returns its port.
func (r *rig) serve(t *testing.T, l *proxy.Listener) string {
	t.Helper()
	var err error
	if l.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	served := make(chan error, 1)
	go func() { served <- r.engine.Serve(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return port
}

// publish makes a table live.
func (r *rig) publish(t *router.Table, s ingress.Snapshot) {
	r.engine.Prepare(t)
	for _, svc := range s.Services {
		r.engine.SetAddresses(router.Service{Namespace: svc.Namespace, Name: svc.Name}, map[string][]router.Address{"": r.pods[svc.Name]})
	}
	r.store.Publish(t.Certificates(), t.DefaultCertificate())
	r.engine.Publish(t)
}

// pod says what it got.
func pod(service string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		text, err := json.Marshal(got{service, r.Method, r.RequestURI, r.Host, r.Header})
		if err != nil {
			return
		}
		w.Header().Set(podField, string(text))
		w.WriteHeader(http.StatusOK)
	}
}

// lines are connections on which requests go one after the other, by the listener and the server name.
type lines struct {
	rig   *rig
	conns map[string]*line
}

type line struct {
	net.Conn
	*bufio.Reader
	streams *streams // nil for HTTP/1.1
}

// send sends a request and reads the answer to its end.
func (l *line) send(q *request) (*http.Response, error) {
	if l.streams != nil {
		return l.streams.send(q)
	}
	if _, err := l.Write(q.wire()); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(l.Reader, &http.Request{Method: q.method})
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
	}
	return res, err
}

// Read reads what is buffered first.
func (l *line) Read(p []byte) (int, error) { return l.Reader.Read(p) }

func (l *lines) close() {
	for key, c := range l.conns {
		_ = c.Close()
		delete(l.conns, key)
	}
}

// send sends a request over a connection that was not used since a table changed, and returns the answer.
func (l *lines) send(t *testing.T, q *request) *http.Response {
	t.Helper()
	key := fmt.Sprint(q.scheme, " ", q.serverName, " ", q.version == exchange.HTTP2, " ", q.hello)
	c := l.conns[key]
	fresh := c == nil
	if fresh {
		var err error
		if c, err = l.dial(t, q); err != nil {
			return &http.Response{Header: http.Header{refusedField: {err.Error()}}}
		}
		l.conns[key] = c
	}
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	res, err := c.send(q)
	if err != nil || res.Close {
		_ = c.Close()
		delete(l.conns, key)
	}
	switch {
	case err != nil && !fresh:
		return l.send(t, q) // the proxy has closed the connection meanwhile
	case err != nil:
		t.Fatalf("no answer to\n%s\n%v", q.wire(), err)
	}
	return res
}

// dial returns a connection for q. The error is that its handshake fails.
func (l *lines) dial(t *testing.T, q *request) (*line, error) {
	t.Helper()
	port := l.rig.plain
	if q.scheme == "https" {
		port = l.rig.secure
	}
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	if q.scheme == "https" {
		secure, err := l.rig.secured(c, q)
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		c = secure
	}
	made := &line{Conn: c, Reader: bufio.NewReader(c)}
	if q.version == exchange.HTTP2 {
		if made.streams, err = newStreams(made); err != nil {
			t.Fatal(err)
		}
	}
	return made, nil
}
