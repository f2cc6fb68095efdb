package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// asksLoopback lets the engine ask services of the test.
func asksLoopback(policies ...filters.Policy) proxy.Options {
	return proxy.Options{
		Policies: policies,
		Upstream: upstream.Options{External: upstream.External{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
	}
}

// routeWith makes a.test reach a Pod under values of policies.
func (r *rig) routeWith(pod string, values policy.Values, policies ...filters.Policy) *router.Route {
	r.t.Helper()
	sp := router.ServicePort{Namespace: "default", Name: "pod"}
	route := &router.Route{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
		Backends: []router.Backend{{Service: sp, Weight: 1}},
	}
	for _, p := range policies {
		own := policy.Values{}
		for _, key := range p.FamilyKeys() {
			if text, ok := values[key.Name]; ok {
				own[key.Name] = text
			}
		}
		parsed, err := p.ParseValues(own, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		route.Policies = append(route.Policies, policy.Value{Family: p.FamilyName(), Parsed: parsed})
	}
	t := router.NewTable([]*router.Route{route}, nil)
	r.engine.Prepare(t)
	r.engine.SetAddresses(sp.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), UID: "u", Ready: true, Serving: true}}})
	r.engine.Publish(t)
	return route
}

// hanging is a service that never answers. It tells when it was asked, and when whoever asked has gone.
func hanging(t testing.TB) (addr string, asked, left chan struct{}) {
	t.Helper()
	asked, left = make(chan struct{}, 16), make(chan struct{}, 16)
	addr = backend(t, func(_ http.ResponseWriter, q *http.Request) {
		asked <- struct{}{}
		<-q.Context().Done()
		left <- struct{}{}
	})
	return addr, asked, left
}

func await(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not within 20 s", what)
	}
}

// A client that goes away ends the question about it, and nothing reaches the Pod.
func TestClientThatLeavesEndsTheQuestion(t *testing.T) {
	var reached atomic.Int32
	pod := backend(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	auth, asked, left := hanging(t)
	p := filters.ExternalAuth()
	leave := func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.routeWith(pod, policy.Values{"auth-url": "http://" + auth + "/"}, p)
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				if res, err := c.Do(req); err == nil {
					res.Body.Close()
					t.Errorf("the client that has gone got %d", res.StatusCode)
				}
			}()
			await(t, "asked", asked)
			cancel()
			await(t, "left", left)
			<-ended
		}
	}
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, asksLoopback(p))
		leave(t, r, r.client, "http://a.test")
	})
	overHTTP2(t, asksLoopback(p), leave)
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests reached the Pod", n)
	}
}

// A wait without an end of its own ends with the client.
func TestClientThatLeavesEndsAWait(t *testing.T) {
	w := waiting{limit: time.Hour, begun: make(chan struct{}, 16)}
	o := asksLoopback(filtering("waiting", &w, nil))
	leave := func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", closedPort(t))
		for range 2 {
			before := w.ended.Load()
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if res, err := c.Do(req); err == nil {
					res.Body.Close()
				}
			}()
			await(t, "begun", w.begun)
			cancel()
			<-ended
			for end := time.Now().Add(20 * time.Second); w.ended.Load() == before; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the wait goes on")
				}
			}
		}
	}
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, o)
		leave(t, r, r.client, "http://a.test")
	})
	overHTTP2(t, o, leave)
}

// Shutdown waits for no service for longer than for the client.
func TestShutdownEndsTheQuestion(t *testing.T) {
	auth, asked, left := hanging(t)
	p := filters.ExternalAuth()
	r := newRig(t, asksLoopback(p))
	r.routeWith(backend(t, hello), policy.Values{"auth-url": "http://" + auth + "/"}, p)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if res, err := r.client.Get("http://a.test/"); err == nil {
			res.Body.Close()
		}
	}()
	await(t, "asked", asked)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.engine.Shutdown(ctx); err == nil {
		t.Error("Shutdown did not say that it cut something short")
	}
	await(t, "left", left)
	<-ended
}

// waiting is a filter that waits.
type waiting struct {
	limit time.Duration
	begun chan struct{} // may be nil
	ended atomic.Int32
}

func (w *waiting) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	x.Waiter.Wait(w.limit, func(ctx context.Context) {
		if w.begun != nil {
			w.begun <- struct{}{}
		}
		<-ctx.Done()
		w.ended.Add(1)
	})
	x.Answer(500, exchange.Filter, "waited in vain\n")
	return exchange.Answered
}

// A wait ends with its limit, and the connection goes on.
func TestWaitHasALimit(t *testing.T) {
	w := waiting{limit: 50 * time.Millisecond}
	o := asksLoopback(filtering("waiting", &w, nil))
	check := func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", closedPort(t))
		before := w.ended.Load()
		for range 2 {
			res, err := c.Post(base+"/", "text/plain", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != 500 {
				t.Errorf("status %d", res.StatusCode)
			}
		}
		if n := w.ended.Load() - before; n != 2 {
			t.Errorf("%d waits ended", n)
		}
	}
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, o)
		check(t, r, r.client, "http://a.test")
	})
	overHTTP2(t, o, check)
}

// A client that closes its sending side after its request is gone, unless that is allowed; one whose body is missing is not gone yet.
func TestHalfClosedClientWhileAFilterWaits(t *testing.T) {
	w := waiting{limit: 300 * time.Millisecond}
	for name, tt := range map[string]struct {
		request  string
		allow    bool
		answered bool
	}{
		"complete":       {request: "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"},
		"allowed":        {request: "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", allow: true, answered: true},
		"body to follow": {request: "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n", answered: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := asksLoopback(filtering("waiting", &w, nil))
			o.AllowHalfClose = tt.allow
			r := newRig(t, o)
			r.route("a.test", closedPort(t))
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, tt.request)
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(c)
			if got := strings.HasPrefix(string(answer), "HTTP/1.1 500"); got != tt.answered {
				t.Errorf("got %q, %v", answer, err)
			}
		})
	}
}

// A service at an address that serves this machine alone is not asked, unless the operator says so.
func TestAuthServiceAtARefusedAddress(t *testing.T) {
	var asked atomic.Int32
	auth := backend(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	p := filters.ExternalAuth()
	pod := backend(t, hello)
	for _, o := range []proxy.Options{{Policies: []filters.Policy{p}}, asksLoopback(p)} {
		r := newRig(t, o)
		r.routeWith(pod, policy.Values{"auth-url": "http://" + auth + "/"}, p)
		want := 200
		if len(o.Upstream.External.Allow) == 0 {
			want = 500
		}
		if res, _ := r.do(http.MethodGet, "http://a.test/", nil); res.StatusCode != want {
			t.Errorf("status %d, want %d", res.StatusCode, want)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// The head of the answer decides: its body may be of any size, or end early, or never.
func TestAuthAnswersOfAllKinds(t *testing.T) {
	p := filters.ExternalAuth()
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.Header.Get("Kind") {
		case "large":
			_, _ = w.Write(make([]byte, 1<<20))
		case "short":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("x"))
		case "control":
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX-User: a\x01b\r\nContent-Length: 0\r\n\r\n")
				c.Close()
			}
		case "large head":
			w.Header().Set("X-User", strings.Repeat("a", 100<<10))
		case "nonsense":
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprint(c, "hello\r\n\r\n")
				c.Close()
			}
		}
	}))
	service.Config.ErrorLog = nil
	t.Cleanup(service.Close)
	r := newRig(t, asksLoopback(p))
	r.routeWith(backend(t, hello), policy.Values{"auth-url": service.URL + "/", "auth-response-headers": "X-User"}, p)
	for kind, want := range map[string]int{"plain": 200, "large": 200, "short": 200, "control": 500, "large head": 500, "nonsense": 500} {
		req, err := http.NewRequest(http.MethodGet, "http://a.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Kind", kind)
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: status %d, want %d", kind, res.StatusCode, want)
		}
	}
}

// Nothing switches protocols before the service was asked (SECURITY.md B7).
func TestUpgradeIsAuthenticated(t *testing.T) {
	var reached atomic.Int32
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			reached.Add(1)
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		}
	})
	var status atomic.Int32
	auth := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	p := filters.ExternalAuth()
	r := newRig(t, asksLoopback(p))
	r.routeWith(pod, policy.Values{"auth-url": "http://" + auth + "/"}, p)
	for _, tt := range []struct{ says, want, reaches int32 }{{401, 401, 0}, {403, 403, 0}, {200, 101, 1}} {
		status.Store(tt.says)
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		c.Close()
		if res.StatusCode != int(tt.want) || reached.Load() != tt.reaches {
			t.Errorf("the service says %d: status %d, %d requests at the Pod", tt.says, res.StatusCode, reached.Load())
		}
	}
}

// Many clients at a time share connections, and each gets what the service says of it.
func TestAuthOfManyClients(t *testing.T) {
	auth := backend(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Client") == "7" {
			w.WriteHeader(http.StatusForbidden)
		}
		w.Header().Set("X-User", q.Header.Get("Client"))
	})
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.Header.Values("X-User")) })
	p := filters.ExternalAuth()
	overHTTP2(t, asksLoopback(p), func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.routeWith(pod, policy.Values{"auth-url": "http://" + auth + "/", "auth-response-headers": "X-User"}, p)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				req, err := http.NewRequest(http.MethodGet, base+"/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				client, want := fmt.Sprint(i%8), fmt.Sprintf("[%d]", i%8)
				if client == "7" {
					want = "403 Forbidden\n"
				}
				req.Header.Set("Client", client)
				req.Header.Set("X-User", "admin")
				res, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
					t.Errorf("client %s: %q, %v", client, got, err)
				}
			})
		}
		all.Wait()
	})
}
