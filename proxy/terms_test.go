package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router/policy"
)

// Whose word is taken follows the ConfigMap on a connection that stays open, and the flag holds again when the ConfigMap says nothing.
func TestBeliefFollowsTheConfigMap(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprint(w, q.Header.Get("X-Real-IP"), " ", q.Header.Get("True-Client-IP"))
	})
	r := newRig(t, proxy.Options{Policies: answerFamilies()})
	for _, step := range []struct {
		values policy.Values
		want   string
	}{
		{nil, "127.0.0.1 192.0.2.2"},
		{policy.Values{"use-forwarded-headers": "true", "proxy-real-ip-cidr": "127.0.0.1"}, "192.0.2.1 192.0.2.2"},
		{policy.Values{"use-forwarded-headers": "true", "proxy-real-ip-cidr": "127.0.0.1", "forwarded-for-header": "True-Client-IP"}, "192.0.2.2 192.0.2.2"},
		{policy.Values{"use-forwarded-headers": "true", "proxy-real-ip-cidr": "10.0.0.0/8", "forwarded-for-header": "true-client-ip"}, "127.0.0.1 "},
		{nil, "127.0.0.1 192.0.2.2"},
	} {
		r.govern(step.values, pod)
		res := fetch(t, r.client, "GET", "http://a.test/", "X-Forwarded-For", "192.0.2.1", "True-Client-IP", "192.0.2.2")
		body, err := io.ReadAll(res.Body)
		if string(body) != step.want || err != nil {
			t.Errorf("%v: the Pod got %q (%v), want %q", step.values, body, err, step.want)
		}
	}
}

// New connections begin with a header of the PROXY protocol when the ConfigMap says so, and do not when it says not, whatever the flag.
func TestProxyProtocolFromTheConfigMap(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.Header.Get("X-Real-IP")) })
	r := newRig(t, proxy.Options{Policies: answerFamilies(), ProxyProtocol: loopback})
	const header, request = "PROXY TCP4 203.0.113.7 198.51.100.1 5000 80\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
	for _, step := range []struct {
		values      policy.Values
		opens, want string
	}{
		{nil, header, "203.0.113.7"},
		{policy.Values{"use-proxy-protocol": "false"}, "", "127.0.0.1"},
		{policy.Values{"use-proxy-protocol": "true", "proxy-real-ip-cidr": "127.0.0.1/32"}, header, "203.0.113.7"},
		{policy.Values{"use-proxy-protocol": "true", "proxy-real-ip-cidr": "10.0.0.0/8"}, "", "127.0.0.1"},
	} {
		r.govern(step.values, pod)
		c := dialKeeper(t, r.addr)
		fmt.Fprint(c, step.opens, request)
		res, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatalf("%v: %v", step.values, err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != step.want || err != nil {
			t.Errorf("%v: the client is %q (%v), want %s", step.values, body, err, step.want)
		}
	}
}

// The number of requests of a connection, its idle time and the size of heads are those of the live table.
func TestClientLimitsFollowTheConfigMap(t *testing.T) {
	pod := backend(t, func(http.ResponseWriter, *http.Request) {})
	r := newRig(t, proxy.Options{Policies: answerFamilies(), Timeouts: proxy.Timeouts{Idle: -1, Park: 40 * time.Millisecond}})
	r.govern(nil, pod)
	// They sleep without a deadline when others that come after them get one: those must not wait for them.
	before := runtime.NumGoroutine()
	forever := make([]*keeper, 20)
	for i := range forever {
		forever[i] = dialKeeper(t, r.addr)
		if _, err := forever[i].ask("/"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "most of them to sleep", func() bool { return runtime.NumGoroutine() <= before+len(forever)/2 })
	for _, step := range []struct {
		values   policy.Values
		answered int
	}{{policy.Values{"keep-alive-requests": "3"}, 3}, {policy.Values{"keep-alive": "0"}, 1}} {
		r.govern(step.values, pod)
		c := dialKeeper(t, r.addr)
		answered := 0
		for ; answered < 5; answered++ {
			if _, err := c.ask("/"); err != nil {
				break
			}
		}
		if answered != step.answered {
			t.Errorf("%v: %d requests over one connection, want %d", step.values, answered, step.answered)
		}
	}
	r.govern(policy.Values{"large-client-header-buffers": "2 1k", "keep-alive": "500ms"}, pod)
	for _, tc := range []struct {
		head   string
		status int
	}{
		{"GET /" + strings.Repeat("a", 900) + " HTTP/1.1\r\nHost: a.test\r\nA: " + strings.Repeat("b", 1500) + "\r\n\r\n", 200},
		{"GET /" + strings.Repeat("a", 1100) + " HTTP/1.1\r\nHost: a.test\r\n\r\n", 414},
		{"GET / HTTP/1.1\r\nHost: a.test\r\nA: " + strings.Repeat("b", 2100) + "\r\n\r\n", 431},
	} {
		c := dialKeeper(t, r.addr)
		fmt.Fprint(c, tc.head)
		res, err := http.ReadResponse(c.in, nil)
		if err != nil || res.StatusCode != tc.status {
			t.Errorf("a head of %d bytes: %v %v, want %d", len(tc.head), res, err, tc.status)
		}
	}
	short := dialKeeper(t, r.addr)
	if _, err := short.ask("/"); err != nil {
		t.Fatal(err)
	}
	_ = short.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := short.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that has been idle for too long: %v, want its end", err)
	}
	for _, c := range forever {
		if _, err := c.ask("/"); err != nil {
			t.Errorf("a connection that was idle before the change: %v", err)
		}
	}
}

// A connection of HTTP/2 ends after as many requests as keep-alive-requests says.
func TestStreamsAreCountedByTheConfigMap(t *testing.T) {
	pod := backend(t, func(http.ResponseWriter, *http.Request) {})
	r := newRig(t, proxy.Options{Policies: answerFamilies(), H2C: true})
	r.govern(policy.Values{"keep-alive-requests": "2", "http2-max-concurrent-streams": "7"}, pod)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	var dialed atomic.Int32
	transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, network, r.addr)
	}}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	for range 6 {
		res := fetch(t, c, "GET", "http://a.test/")
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.ProtoMajor != 2 {
			t.Fatal(res.Proto, err)
		}
		res.Body.Close()
	}
	if n := dialed.Load(); n < 3 {
		t.Errorf("6 requests over %d connections, want at most 2 over each", n)
	}
}

// Connections to Pods are not kept when the ConfigMap says so, and carry no more requests than it says.
func TestPodConnectionsFollowTheConfigMap(t *testing.T) {
	var dialed, open atomic.Int32
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			dialed.Add(1)
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	r := newRig(t, proxy.Options{Policies: answerFamilies()})
	for _, step := range []struct {
		values policy.Values
		dials  int32
	}{
		{policy.Values{"upstream-keepalive-connections": "0"}, 6},
		{nil, 1},
		{policy.Values{"upstream-keepalive-requests": "2"}, 3},
	} {
		dialed.Store(0)
		r.govern(step.values, l.Addr().String())
		if step.values.Has("upstream-keepalive-requests") {
			// The one that the step before has left has carried its number.
			fetch(t, r.client, "GET", "http://a.test/").Body.Close()
			dialed.Store(0)
		}
		for range 6 {
			fetch(t, r.client, "GET", "http://a.test/").Body.Close()
		}
		if n := dialed.Load(); n != step.dials {
			t.Errorf("%v: 6 requests over %d connections, want %d", step.values, n, step.dials)
		}
		if step.dials == 6 {
			// The client may have its answer before the connection is let go, and what is let go under the next table is kept.
			waitFor(t, "connections that are not kept to be closed", func() bool { return open.Load() == 0 })
		}
	}
}

// Clients may take as long as the ConfigMap says: for the header of the PROXY protocol, for a request's head and between two parts of its body. Each
// of these waits is an hour without it.
func TestClientTimeoutsFollowTheConfigMap(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.Copy(w, q.Body) })
	const believe = "127.0.0.1"
	for _, c := range []struct {
		values     policy.Values
		text, want string
	}{
		{policy.Values{"client-header-timeout": "200ms"}, "GET / HTTP/1.1\r\nHost: a.te", "HTTP/1.1 408 "},
		{policy.Values{"client-header-timeout": "200ms"}, "", ""},
		{policy.Values{"client-body-timeout": "200ms"}, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhello", "HTTP/1.1 408 "},
		{policy.Values{"proxy-protocol-header-timeout": "200ms", "use-proxy-protocol": "true", "proxy-real-ip-cidr": believe}, "PROXY TCP4 203.0", ""},
	} {
		r := newRig(t, proxy.Options{Policies: answerFamilies(), Timeouts: proxy.Timeouts{
			FirstByte: time.Hour, Header: time.Hour, Body: time.Hour, ProxyHeader: time.Hour, LingerSilence: 100 * time.Millisecond,
		}})
		r.govern(c.values, pod)
		k := dialKeeper(t, r.addr)
		fmt.Fprint(k, c.text)
		_ = k.SetReadDeadline(time.Now().Add(time.Minute))
		got, err := io.ReadAll(k.in)
		if err != nil || !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 {
			t.Errorf("%v, %q: %q, %v; want %q and the end", c.values, c.text, got, err, c.want)
		}
	}
}

// HTTP/2 clients are told how many requests they may have under way, as the ConfigMap says.
func TestStreamsAreBoundedByTheConfigMap(t *testing.T) {
	r := newRig(t, proxy.Options{Policies: answerFamilies(), H2C: true})
	for _, c := range []struct {
		values policy.Values
		want   uint32
	}{{nil, 100}, {policy.Values{"http2-max-concurrent-streams": "7"}, 7}} {
		r.govern(c.values, backend(t, func(http.ResponseWriter, *http.Request) {}))
		k := dialKeeper(t, r.addr)
		framer := xhttp2.NewFramer(k, k.in)
		fmt.Fprint(k, xhttp2.ClientPreface)
		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		_ = k.SetReadDeadline(time.Now().Add(time.Minute))
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, ok := frame.(*xhttp2.SettingsFrame)
		if !ok {
			t.Fatalf("the first frame is %v", frame)
		}
		if n, said := settings.Value(xhttp2.SettingMaxConcurrentStreams); n != c.want || !said {
			t.Errorf("%v: SETTINGS say %d streams, want %d", c.values, n, c.want)
		}
	}
}

// Connections to Pods are closed when they have been unused for as long as the ConfigMap says, or are as old as it says.
func TestPodConnectionsAgeByTheConfigMap(t *testing.T) {
	for _, c := range []struct {
		values policy.Values
		busy   bool
	}{
		{policy.Values{"upstream-keepalive-timeout": "1s"}, false},
		{policy.Values{"upstream-keepalive-time": "1s"}, true},
	} {
		var dialed, closed atomic.Int32
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				dialed.Add(1)
			case http.StateClosed:
				closed.Add(1)
			}
		}
		s.Start()
		t.Cleanup(s.Close)
		r := newRig(t, proxy.Options{Policies: answerFamilies(), Upstream: upstream.Options{IdleTimeout: time.Hour, MaxAge: time.Hour}})
		r.govern(c.values, s.Listener.Addr().String())
		fetch(t, r.client, "GET", "http://a.test/").Body.Close()
		waitFor(t, fmt.Sprintf("the Pod's connection to be closed under %v", c.values), func() bool {
			if c.busy { // it is never unused for long
				fetch(t, r.client, "GET", "http://a.test/").Body.Close()
			}
			return closed.Load() > 0
		})
		if n := dialed.Load(); n > 1 && !c.busy {
			t.Errorf("%v: %d connections for one request", c.values, n)
		}
	}
}
