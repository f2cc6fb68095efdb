package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// leavingPod answers the first request of each connection and takes the second as SIGTERM: it refuses connections from then on and
// closes those that it has without an answer, as a server does whose idle connections are closed while a request is on its way.
func leavingPod(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for served := false; ; served = true {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					if served {
						_ = l.Close()
						return
					}
					if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nleaving")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A request that meets the end of a pooled connection, and then a refused one, goes to the next endpoint.
func TestPodThatLeavesIsPassedOver(t *testing.T) {
	staying := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("staying")) })
	r := newRig(t, proxy.Options{})
	r.route("a.test", leavingPod(t), staying)
	seen := map[string]int{}
	for i := range 20 {
		res, body := r.do(http.MethodPut, "http://a.test/", strings.NewReader("x"))
		if res.StatusCode != http.StatusOK {
			t.Fatalf("request %d: %d %q", i, res.StatusCode, body)
		}
		seen[body]++
	}
	if seen["leaving"] != 1 || seen["staying"] != 19 {
		t.Errorf("answers came from %v: the Pod that leaves should have given one", seen)
	}
}

// With no other endpoint the request fails at once, and as a connect error.
func TestOnlyPodLeaves(t *testing.T) {
	r := newRig(t, proxy.Options{})
	r.route("a.test", leavingPod(t))
	if res, body := r.do(http.MethodGet, "http://a.test/", nil); res.StatusCode != http.StatusOK {
		t.Fatalf("%d %q", res.StatusCode, body)
	}
	if res, body := r.do(http.MethodGet, "http://a.test/", nil); res.StatusCode != http.StatusBadGateway {
		t.Errorf("%d %q, want 502", res.StatusCode, body)
	}
}

// An endpoint that is unready for a moment, while a request connects to it, has not failed: the request goes to it, and it is not taken for bad.
func TestEndpointThatLeavesAndComesBackDuringConnect(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	var r *rig
	var dials atomic.Int64
	o := proxy.Options{}
	o.Upstream.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		if dials.Add(1) == 1 {
			r.publish("a.test", []router.Address{{AddrPort: addr, UID: "u0"}})
			<-ctx.Done()
			r.route("a.test", pod)
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	}
	r = newRig(t, o)
	r.route("a.test", pod)
	if res, body := r.do("POST", "http://a.test/", strings.NewReader("x")); res.StatusCode != 200 || body != "ok" {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("%d connects, want 2", n)
	}
	for _, p := range r.engine.Endpoints() {
		for _, e := range p.Endpoints {
			if e.Fails != 0 {
				t.Errorf("%+v: counted as failed", e)
			}
		}
	}
}
