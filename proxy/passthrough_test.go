package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/preamble"
	"podlane.dev/podlane/router"
)

// secretPod is a Pod that does TLS itself, with a certificate that only roots vouches for.
type secretPod struct {
	addr  string
	roots *x509.CertPool
	conns atomic.Int64
}

// newSecretPod returns a Pod for the given names, which answers requests with what it was told of the client by the PROXY protocol.
func newSecretPod(t testing.TB, headers bool, names ...string) *secretPod {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := &secretPod{roots: x509.NewCertPool()}
	p.roots.AddCert(leaf)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%s %s %d", q.Proto, q.RemoteAddr, len(b))
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Listener = &announcedListener{Listener: s.Listener, pod: p, headers: headers}
	s.StartTLS()
	t.Cleanup(s.Close)
	p.addr = s.Listener.Addr().String()
	return p
}

// announcedListener counts connections, and reads the header of the PROXY protocol that each begins with.
type announcedListener struct {
	net.Listener
	pod     *secretPod
	headers bool
}

func (l *announcedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.pod.conns.Add(1)
	if !l.headers {
		return c, nil
	}
	var b []byte
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, one); err != nil {
			_ = c.Close()
			return l.Accept()
		}
		b = append(b, one...)
		h, _, err := preamble.ParseHeader(b)
		switch {
		case err == nil:
			return announcedConn{c, h}, nil
		case !errors.Is(err, preamble.ErrShort):
			return nil, err
		}
	}
}

type announcedConn struct {
	net.Conn
	h preamble.Header
}

func (c announcedConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.h.Source) }

// through makes TLS for host pass through to the given Pods.
func (r *rig) through(host string, v uint8, addrs ...string) {
	r.t.Helper()
	r.table(host, &router.Passthrough{On: true, ProxyHeader: v}, addrs...)
}

// table publishes one route for host; p may be nil.
func (r *rig) table(host string, p *router.Passthrough, addrs ...string) {
	r.t.Helper()
	r.publishSecret(secretRoute(host, p), addrs...)
}

func secretRoute(host string, p *router.Passthrough) *router.Route {
	route := &router.Route{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: host, Path: "/"},
		Backends: []router.Backend{{Service: router.ServicePort{Namespace: "default", Name: "secret"}, Weight: 1}},
	}
	if p != nil {
		route.Passthrough = *p
	}
	return route
}

func (r *rig) publishSecret(route *router.Route, addrs ...string) {
	t := router.NewTable([]*router.Route{route}, nil)
	r.engine.Prepare(t)
	var as []router.Address
	for i, a := range addrs {
		as = append(as, router.Address{AddrPort: netip.MustParseAddrPort(a), UID: fmt.Sprint("u", i), Pod: fmt.Sprint("pod-", i), Ready: true, Serving: true})
	}
	r.engine.SetAddresses(route.Backends[0].Service.Service(), map[string][]router.Address{"": as})
	r.engine.Publish(t)
}

// visit asks the host at the other end of c, which must have the Pod's certificate.
func (p *secretPod) visit(c net.Conn, host string) (string, error) {
	tc := tls.Client(c, &tls.Config{ServerName: host, RootCAs: p.roots})
	if err := tc.Handshake(); err != nil {
		return "", err
	}
	return ask(tc)
}

// The client sees the Pod's certificate and nobody else's, over every version and protocol.
func TestPassthrough(t *testing.T) {
	pod := newSecretPod(t, false, "a.test")
	d := newDoors(t, proxy.Options{})
	d.through("a.test", 0, pod.addr)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, h2 := range []bool{false, true} {
			tr := &http.Transport{
				ForceAttemptHTTP2: h2, DisableCompression: true,
				TLSClientConfig: &tls.Config{ServerName: "a.test", RootCAs: pod.roots, MaxVersion: version},
				DialContext:     func(context.Context, string, string) (net.Conn, error) { return d.dial(d.tls), nil },
			}
			want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]
			for _, size := range []int{0, 10, 3 << 20} {
				res, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Post("https://a.test/", "", io.LimitReader(zeros{}, int64(size)))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				if !strings.HasPrefix(string(b), want) || !strings.HasSuffix(string(b), fmt.Sprint(" ", size)) || err != nil {
					t.Errorf("%s %s: %q %v", tls.VersionName(version), want, b, err)
				}
			}
			tr.CloseIdleConnections()
		}
	}
	if got, err := pod.visit(d.dial(d.tls), "A.TEST"); err != nil {
		t.Errorf("in capitals: %q %v", got, err)
	}
	waitFor(t, "all to be over", func() bool { return d.engine.Requests() == 0 && d.engine.Connections() == 0 })
	if n := d.count("podlane_requests_total", "2xx"); n != 5 {
		t.Errorf("%d connections are counted, want 5", n)
	}
}

// A Pod that is unready for a moment, while a connection to it is made, has not failed: as for requests.
func TestPassthroughToPodThatLeavesAndComesBack(t *testing.T) {
	pod := newSecretPod(t, false, "a.test")
	var d *doors
	var dials atomic.Int64
	o := proxy.Options{}
	o.Upstream.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		if dials.Add(1) == 1 {
			service := secretRoute("a.test", nil).Backends[0].Service.Service()
			d.engine.SetAddresses(service, map[string][]router.Address{"": {{AddrPort: addr, UID: "u0"}}})
			<-ctx.Done()
			d.engine.SetAddresses(service, map[string][]router.Address{"": {{AddrPort: addr, UID: "u0", Ready: true, Serving: true}}})
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	}
	d = newDoors(t, o)
	d.through("a.test", 0, pod.addr)
	if got, err := pod.visit(d.dial(d.tls), "a.test"); err != nil || dials.Load() != 2 {
		t.Errorf("%q %v after %d connects, want an answer after 2", got, err, dials.Load())
	}
}

// helloFragments sends a client's first records in fragments of size bytes, and pieces, each when the engine has read the one before.
type helloFragments struct {
	*watchingClient
	t     *testing.T
	size  int
	split bool // between fragments, and in the header of each
	begun bool
}

func (c *helloFragments) Write(p []byte) (int, error) {
	if c.begun {
		return c.watchingClient.Write(p)
	}
	c.begun = true
	var pieces []string
	for part := range slices.Chunk(p[5:], c.size) {
		record := binary.BigEndian.AppendUint16(bytes.Clone(p[:3]), uint16(len(part)))
		record = append(record, part...)
		if c.split {
			pieces = append(pieces, string(record[:4]), string(record[4:]))
		} else {
			pieces = append(pieces, string(record))
		}
	}
	if !c.split {
		pieces = []string{strings.Join(pieces, "")}
	}
	send(c.t, c.watchingClient, pieces...)
	return len(p), nil
}

// A ClientHello in fragments is as good as one in one record, for the Pod as for ourselves.
func TestPassthroughOfFragments(t *testing.T) {
	pod := newSecretPod(t, false, "a.test")
	d := newDoors(t, proxy.Options{})
	d.through("a.test", 0, pod.addr)
	for _, size := range []int{1, 7, 100, 1000} {
		for _, split := range []bool{false, true} {
			if got, err := pod.visit(&helloFragments{watchingClient: d.dial(d.tls), t: t, size: size, split: split}, "a.test"); err != nil {
				t.Errorf("fragments of %d bytes to the Pod: %q %v", size, got, err)
			}
			tc := tls.Client(&helloFragments{watchingClient: d.dial(d.tls), t: t, size: size, split: split}, &tls.Config{ServerName: "b.test", InsecureSkipVerify: true})
			if got, err := ask(tc); got != "421" || err != nil { // the request is for a.test
				t.Errorf("fragments of %d bytes to us: %q %v", size, got, err)
			}
		}
	}
}

// Names that do not pass through meet our own certificate and routes.
func TestNoPassthrough(t *testing.T) {
	pod := newSecretPod(t, false, "a.test", "x.wild.test")
	d := newDoors(t, proxy.Options{})
	visit := func(name string) (string, bool) {
		t.Helper()
		tc := tls.Client(d.dial(d.tls), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		got, err := ask(tc)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		_, err = tc.ConnectionState().PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pod.roots})
		return got, err == nil
	}
	for _, c := range []struct {
		host  string
		names map[string]bool // whether it passes through
	}{
		{"a.test", map[string]bool{"a.test": true, "b.test": false, "": false, "x.a.test": false, "test": false, strings.Repeat("a.", 120) + "a.test": false}},
		{"*.wild.test", map[string]bool{"x.wild.test": true, "y.wild.test": true, "wild.test": false, "x.y.wild.test": false, "a.test": false}},
	} {
		d.through(c.host, 0, pod.addr)
		for name, want := range c.names {
			got, passed := visit(name)
			if passed != want || want && !strings.HasPrefix(got, "HTTP/1.1") {
				t.Errorf("host %q, name %q: %q, passed through: %v", c.host, name, got, passed)
			}
		}
	}
	d.table("a.test", &router.Passthrough{}, okPod(t))
	if got, passed := visit("a.test"); got != "ok" || passed {
		t.Errorf("off: %q, passed through: %v", got, passed)
	}
	d.table("a.test", nil, okPod(t))
	if got, passed := visit("a.test"); got != "ok" || passed {
		t.Errorf("no annotation: %q, passed through: %v", got, passed)
	}
}

// What is no ClientHello ends there, and nobody else is asked what to make of it.
func TestPassthroughOfGarbage(t *testing.T) {
	pod := newSecretPod(t, false, "a.test")
	d := newDoors(t, proxy.Options{})
	d.through("a.test", 0, pod.addr)
	garbage := []string{
		request, "\x80\x2e\x01\x03\x01", "\x15\x03\x01\x00\x02\x01\x00", "\x16\x03\x01\x00\x00", "\x16\x03\x01\x40\x01", "\x16\x03\x01\x00\x04\x02\x00\x00\x00",
		"\x16\x03\x01\x00\x04\x01\x00\x00\x00", "\x16\x03\x01\x00\x04\x01\xff\xff\xff", strings.Repeat("\x16\x03\x01\x00\x01\x01", 20_000),
	}
	for _, text := range garbage {
		c := d.dial(d.tls)
		go func() { _, _ = io.WriteString(c, text) }()
		if err := closedSilently(c); err != nil {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	waitFor(t, "all to be counted", func() bool {
		return d.count("podlane_connections_closed_total", "client-hello-invalid") == len(garbage)
	})
	if n := pod.conns.Load(); n != 0 {
		t.Errorf("the Pod has %d connections", n)
	}
}

// A client that takes its time with the ClientHello is cut, however often a byte comes.
func TestPassthroughHelloTimeout(t *testing.T) {
	d := newDoors(t, proxy.Options{Timeouts: proxy.Timeouts{Hello: 200 * time.Millisecond, FirstByte: -1, Header: -1}})
	d.through("a.test", 0, closedPort(t))
	for _, text := range []string{"", "\x16", "\x16\x03\x01\x01\x00\x01\x00"} {
		c := d.dial(d.tls)
		send(t, c, text)
		if err := closedSilently(c); err != nil {
			t.Errorf("%q and nothing more: %v", text, err)
		}
	}
	c := d.dial(d.tls)
	text := "\x16\x03\x01\x01\x00\x01\x00" + strings.Repeat("x", 80)
	sent := 0
	for ; sent < len(text); sent++ {
		if _, err := io.WriteString(c, text[sent:sent+1]); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if sent == len(text) {
		t.Error("each byte puts the end off")
	}
	waitFor(t, "all to be counted", func() bool {
		return d.count("podlane_connections_closed_total", "client-hello-timeout") == 4
	})
}

// Where nothing passes through, no ClientHello is waited for: the handshake begins with the connection, as it does without the option.
func TestNothingIsSniffedWithoutPassthrough(t *testing.T) {
	d := newDoors(t, proxy.Options{})
	begun, inner := make(chan struct{}, 1), handshakerOf(t)
	addr := d.listen(func(c net.Conn) (*tls.Conn, error) {
		begun <- struct{}{}
		return inner(c)
	})
	for _, c := range []struct {
		story   string
		publish func()
		sniffed bool
	}{
		{"no route", func() {}, false},
		{"another family", func() { d.table("a.test", nil, okPod(t)) }, false},
		{"on", func() { d.through("a.test", 0, okPod(t)) }, true},
		{"false", func() { d.table("a.test", &router.Passthrough{}, okPod(t)) }, false},
		{"on again", func() { d.through("a.test", 0, okPod(t)) }, true},
		{"removed", func() { d.table("a.test", nil, okPod(t)) }, false},
	} {
		c.publish()
		nc := d.dial(addr)
		hello := helloFor(t, "b.test")
		if c.sniffed {
			if send(t, nc, hello[:100]); !nc.awaitRead() || len(begun) > 0 {
				t.Errorf("%s: the handshake does not wait for the ClientHello", c.story)
			}
			send(t, nc, hello[100:])
		}
		select {
		case <-begun:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the handshake does not begin", c.story)
		}
		_ = nc.Close()
	}
}

// Endpoints that refuse are passed over; where all do, the client's connection ends, and it is counted and logged as a failure.
func TestPassthroughToPodsThatAreDown(t *testing.T) {
	pod := newSecretPod(t, false, "a.test")
	path := filepath.Join(t.TempDir(), "access.log")
	access, err := observe.OpenAccessLog(observe.AccessLogOptions{Destination: path})
	if err != nil {
		t.Fatal(err)
	}
	d := newDoors(t, proxy.Options{AccessLog: access})
	d.through("a.test", 0, closedPort(t), pod.addr, closedPort(t))
	for range 10 {
		if got, err := pod.visit(d.dial(d.tls), "a.test"); err != nil {
			t.Fatalf("%q %v", got, err)
		}
	}
	waitFor(t, "all to be over", func() bool { return d.engine.Requests() == 0 }) // and so logged
	for _, c := range []struct {
		why   string
		addrs []string
	}{{"connect-failed", []string{closedPort(t)}}, {"no-endpoint", nil}} {
		d.through("a.test", 0, c.addrs...)
		if got, err := pod.visit(d.dial(d.tls), "a.test"); err == nil {
			t.Errorf("%s: %q", c.why, got)
		}
		waitFor(t, "it to be counted", func() bool { return d.count("podlane_requests_rejected_total", c.why) == 1 })
	}
	waitFor(t, "all to be over", func() bool { return d.engine.Requests() == 0 })
	if err := access.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 12 {
		t.Fatalf("%d lines:\n%s", len(lines), b)
	}
	for i, want := range map[int]map[string]any{
		0:  {"host": "a.test", "protocol": "TLS", "scheme": "https", "status": 200.0, "namespace": "default", "ingress": "ing", "route": "/", "service": "secret", "pod": "pod-1", "endpoint": pod.addr},
		10: {"host": "a.test", "protocol": "TLS", "status": 502.0, "reason": "connect-failed", "tries": 1.0, "bytes_in": 0.0},
		11: {"host": "a.test", "protocol": "TLS", "status": 503.0, "reason": "no-endpoint", "bytes_out": 0.0},
	} {
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
			t.Fatal(err)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("line %d: %s is %v, want %v:\n%s", i, key, got[key], value, lines[i])
			}
		}
		if in, _ := got["bytes_in"].(float64); i == 0 && in < 200 {
			t.Errorf("line %d: too few bytes from the client:\n%s", i, lines[i])
		}
	}
}

// The Pod is told who the client is where it asks for that: by its own socket, or by what a load balancer said.
func TestPassthroughWithAHeaderToThePod(t *testing.T) {
	for _, v := range []uint8{1, 2} {
		pod := newSecretPod(t, true, "a.test")
		for story, o := range map[string]proxy.Options{"own": {}, "announced": announce} {
			d := newDoors(t, o)
			d.through("a.test", v, pod.addr)
			c := d.dial(d.tls)
			want := c.LocalAddr().String()
			if story == "announced" {
				send(t, c, headerText(preamble.V2, from6))
				want = from6.Source.String()
			}
			if got, err := pod.visit(c, "a.test"); got != "HTTP/1.1 "+want+" 0" || err != nil {
				t.Errorf("version %d, %s: %q %v, want %q", v, story, got, err, want)
			}
		}
	}
}

// Either side may end its half first, and what the other still has to say arrives.
func TestPassthroughHalfClose(t *testing.T) {
	heard := make(chan []byte, 1)
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		b, _ := io.ReadAll(br)
		heard <- b
		_, _ = io.WriteString(c, "goodbye")
	})
	d := newDoors(t, proxy.Options{})
	d.through("a.test", 0, pod)
	hello := helloFor(t, "a.test")
	c := d.dial(d.tls)
	send(t, c, hello, "and more")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "goodbye" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if got := <-heard; string(got) != hello+"and more" {
		t.Errorf("the Pod heard %d bytes, want %d", len(got), len(hello)+len("and more"))
	}
}

// helloFor returns what a client begins with.
func helloFor(t testing.TB, name string) string {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		_ = tls.Client(a, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		_ = a.Close()
	}()
	defer b.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(b, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(b, body); err != nil {
		t.Fatal(err)
	}
	return string(head) + string(body)
}

// parrotPod sends back what it gets, from the first byte of the ClientHello on.
func parrotPod(t testing.TB) string {
	t.Helper()
	return fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) { _, _ = io.Copy(c, br) })
}

// openPassed returns a connection that is passed through to a parrotPod.
func (d *doors) openPassed() *caller {
	d.t.Helper()
	c, err := net.Dial("tcp", d.tls)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	p := &caller{d.t, c, bufio.NewReader(c)}
	p.echo(helloFor(d.t, "a.test"))
	return p
}

// A connection through which nothing passes holds no buffer, and ends when it has been silent for the time of a tunnel.
func TestIdlePassthrough(t *testing.T) {
	d := newDoors(t, proxy.Options{})
	d.through("a.test", 0, parrotPod(t))
	d.openPassed().echo("warm")
	const tunnels = 100
	before := heapInUse()
	open := make([]*caller, tunnels)
	for i := range open {
		open[i] = d.openPassed()
	}
	// The test's own ends are in it too, two readers of 4 KiB for each; one buffer more would be 16 KiB.
	const budget = 28 << 10
	each := (heapInUse() - before) / tunnels
	t.Logf("%d bytes of heap for each idle connection, both ends of the test in it", each)
	if each > budget && !raceEnabled {
		t.Errorf("%d bytes of heap for each idle connection", each)
	}
	for _, c := range open {
		c.echo("still there")
	}
}

func TestPassthroughTimeout(t *testing.T) {
	d := newDoors(t, proxy.Options{Timeouts: proxy.Timeouts{Tunnel: 2 * time.Second}})
	d.through("a.test", 0, parrotPod(t))
	c := d.openPassed()
	for start := time.Now(); time.Since(start) < 3*time.Second; {
		time.Sleep(200 * time.Millisecond)
		c.echo("still there")
	}
	if !c.ended() {
		t.Error("it is open")
	}
	waitFor(t, "both legs to end", func() bool { return d.engine.Connections() == 0 && podConnections(d.rig) == 0 })
}

// Draining leaves such connections alone, as it does WebSockets, and Shutdown cuts them when its time is over.
func TestPassthroughAndShutdown(t *testing.T) {
	d := newDoors(t, proxy.Options{})
	d.through("a.test", 0, parrotPod(t))
	c := d.openPassed()
	d.engine.Drain()
	c.echo("still there")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := d.engine.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	if !c.ended() {
		t.Error("it is open")
	}
}

// Connections outlive the table that let them through, and none of those that come while tables change is lost: each ends at the Pod, or
// here, and then the Pod hears plain HTTP on the port of its TLS.
func TestPassthroughWhileTablesChange(t *testing.T) {
	pod := newSecretPod(t, false, "a.test")
	d := newDoors(t, proxy.Options{})
	d.through("a.test", 0, parrotPod(t))
	old := d.openPassed()
	d.through("a.test", 0, pod.addr)
	stop := make(chan struct{})
	var publisher, clients sync.WaitGroup
	publisher.Go(func() {
		for on := false; ; on = !on {
			select {
			case <-stop:
				return
			default:
				d.table("a.test", &router.Passthrough{On: on}, pod.addr)
			}
		}
	})
	var atThePod, here atomic.Int64
	for range 4 {
		clients.Go(func() {
			for range 25 {
				tc := tls.Client(d.dial(d.tls), &tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
				got, err := ask(tc)
				switch {
				case err == nil && strings.HasPrefix(got, "HTTP/1.1"):
					atThePod.Add(1)
				case err == nil && (got == "400" || got == "421"): // where it passes through again by the time of the request
					here.Add(1)
				default:
					t.Errorf("%q %v", got, err)
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	publisher.Wait()
	t.Logf("%d ended at the Pod, %d here", atThePod.Load(), here.Load())
	old.echo("still there")
	d.through("a.test", 0, pod.addr)
	if got, err := pod.visit(d.dial(d.tls), "a.test"); err != nil {
		t.Errorf("%q %v", got, err)
	}
}

// A request for the host that came by another name's handshake is not for us: its client has not met the Pod.
func TestPassthroughHostByAnotherName(t *testing.T) {
	d := newDoors(t, proxy.Options{})
	asked := make(chan struct{}, 10)
	d.through("a.test", 0, backend(t, func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	for _, name := range []string{"b.test", ""} {
		if got, err := ask(tls.Client(d.dial(d.tls), &tls.Config{ServerName: name, InsecureSkipVerify: true})); got != "421" || err != nil {
			t.Errorf("by %q: %q %v, want 421", name, got, err)
		}
	}
	if len(asked) > 0 {
		t.Error("the Pod was asked")
	}
	c := d.dial(d.plain)
	send(t, c, request)
	if got, err := answer(c); got != "" || err != nil || len(asked) != 1 {
		t.Errorf("plain HTTP: %q %v, %d at the Pod", got, err, len(asked))
	}
}

// Once it is joined with its Pod, a connection does not count against the limits of requests in flight.
func TestPassthroughAndTheLimitOfRequests(t *testing.T) {
	o := proxy.Options{}
	o.Upstream.EndpointLimit, o.Upstream.ServiceLimit = 1, 1
	d := newDoors(t, o)
	d.through("a.test", 0, parrotPod(t))
	first, second := d.openPassed(), d.openPassed()
	first.echo("first")
	second.echo("second")
}

// What stands in the way of requests stands in the way of such connections: a lack of memory, and a route that is denied.
func TestPassthroughRefused(t *testing.T) {
	pod := newSecretPod(t, false, "a.test")
	for why, c := range map[string]struct {
		memory float64
		change func(*router.Route)
	}{
		"overload":        {0.95, func(*router.Route) {}},
		"route-denied":    {0, func(r *router.Route) { r.Denied = "a policy" }},
		"backend-missing": {0, func(r *router.Route) { r.Backends[0].Unavailable = router.ServiceNotFound }},
	} {
		d := newDoors(t, proxy.Options{Memory: func() float64 { return c.memory }})
		r := secretRoute("a.test", &router.Passthrough{On: true})
		c.change(r)
		d.publishSecret(r, pod.addr)
		waitFor(t, why, func() bool {
			got, err := pod.visit(d.dial(d.tls), "a.test")
			if err == nil && why != "overload" { // which takes a moment to be noticed
				t.Fatalf("%s: %q", why, got)
			}
			return err != nil
		})
		waitFor(t, "it to be counted", func() bool { return d.count("podlane_requests_rejected_total", why) == 1 })
	}
}

// A panic ends its connection without a word of HTTP, and everything is given back.
func TestPassthroughPanic(t *testing.T) {
	var panics atomic.Int64
	o := proxy.Options{Panicked: func(any, []byte) { panics.Add(1) }}
	o.Upstream.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { panic("a bug") }
	d := newDoors(t, o)
	d.through("a.test", 0, closedPort(t))
	c := d.dial(d.tls)
	send(t, c, helloFor(t, "a.test"))
	if err := closedSilently(c); err != nil {
		t.Error(err)
	}
	waitFor(t, "all to be over", func() bool { return d.engine.Requests() == 0 && d.engine.Connections() == 0 })
	if panics.Load() != 1 || d.count("podlane_requests_rejected_total", "internal") != 1 {
		t.Errorf("%d panics were told of, %d counted", panics.Load(), d.count("podlane_requests_rejected_total", "internal"))
	}
}

// Much data passes whole both ways at once.
func TestPassthroughOfMuch(t *testing.T) {
	d := newDoors(t, proxy.Options{})
	d.through("a.test", 0, parrotPod(t))
	c := d.openPassed()
	const size = 48 << 20
	sent, got := sha256.New(), sha256.New()
	go func() {
		piece := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
		for i := 0; i < size; i += len(piece) {
			piece[i%len(piece)]++
			_, _ = sent.Write(piece)
			if _, err := c.nc.Write(piece); err != nil {
				t.Error(err)
				return
			}
		}
		_ = c.nc.(*net.TCPConn).CloseWrite()
	}()
	start := time.Now()
	n, err := io.Copy(got, c.br)
	if n != size || err != nil || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("%d of %d bytes, %v", n, size, err)
	}
	t.Logf("%.0f MB/s both ways", size/time.Since(start).Seconds()/1e6)
}
