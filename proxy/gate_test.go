package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// caller is a connection that sends requests by hand.
type caller struct {
	t  testing.TB
	nc net.Conn
	br *bufio.Reader
}

func dialRig(t testing.TB, r *rig) *caller {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &caller{t, nc, bufio.NewReader(nc)}
}

// get sends a GET and returns its answer, whose body was read.
func (c *caller) get() *http.Response {
	c.t.Helper()
	fmt.Fprint(c.nc, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	res, err := http.ReadResponse(c.br, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		c.t.Fatal(err)
	}
	return res
}

// ended reports whether the other side has closed the connection.
func (c *caller) ended() bool {
	_, err := c.br.ReadByte()
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func okPod(t testing.TB) string {
	t.Helper()
	return backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
}

// At the limit of connections, those that are idle make room for clients that wait, the oldest first; and answers end their connections.
func TestIdleConnectionsGiveWay(t *testing.T) {
	r := newRig(t, proxy.Options{MaxConnections: 4})
	r.route("a.test", okPod(t))
	var idle []*caller
	for range 4 {
		c := dialRig(t, r)
		if c.get().Close {
			t.Fatal("a connection was closed though there was room")
		}
		idle = append(idle, c)
		time.Sleep(100 * time.Millisecond) // the sweeper's clock, by which age is judged, is coarse
	}
	waiting := dialRig(t, r)
	if res := waiting.get(); res.StatusCode != 200 {
		t.Errorf("the client that waited got %d", res.StatusCode)
	}
	if !idle[0].ended() {
		t.Error("the connection that was idle longest is open")
	}
}

// Clients that wait do not end connections where none of them waits.
func TestFullGateKeepsConnectionsWhileNobodyWaits(t *testing.T) {
	r := newRig(t, proxy.Options{MaxConnections: 2})
	r.route("a.test", okPod(t))
	a, b := dialRig(t, r), dialRig(t, r)
	for range 20 {
		if a.get().Close || b.get().Close {
			t.Fatal("a connection was closed though nobody waited")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// One address has no more connections than it may, and has them again when one ends; a trusted proxy is exempt.
func TestConnectionsPerAddress(t *testing.T) {
	pod := okPod(t)
	r := newRig(t, proxy.Options{MaxPerAddress: 2})
	r.route("a.test", pod)
	a, b := dialRig(t, r), dialRig(t, r)
	a.get()
	b.get()
	if !dialRig(t, r).ended() {
		t.Error("a third connection was served")
	}
	_ = a.nc.Close()
	waitFor(t, "room", func() bool { return r.engine.Connections() == 1 })
	dialRig(t, r).get()

	r = newRig(t, proxy.Options{MaxPerAddress: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	r.route("a.test", pod)
	dialRig(t, r).get()
	dialRig(t, r).get()
}

// With little memory left, connections end after their answer; with less, new requests are refused; and all is well again after it.
func TestMemoryPressure(t *testing.T) {
	var share atomic.Int64
	marks := make(chan string, 16)
	r := newRig(t, proxy.Options{
		Memory:    func() float64 { return float64(share.Load()) / 100 },
		Pressured: func(what string, _ float64) { marks <- what },
	})
	r.route("a.test", okPod(t))
	await := func(percent int64, want string) {
		t.Helper()
		share.Store(percent)
		select {
		case got := <-marks:
			if !strings.Contains(got, want) {
				t.Fatalf("at %d%%: %q, want %q", percent, got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no mark at %d%%", percent)
		}
	}
	if res := dialRig(t, r).get(); res.StatusCode != 200 || res.Close {
		t.Errorf("calm: %d, close %v", res.StatusCode, res.Close)
	}
	await(85, "closing connections")
	if res := dialRig(t, r).get(); res.StatusCode != 200 || !res.Close {
		t.Errorf("at 85%%: %d, close %v; want 200 and a closed connection", res.StatusCode, res.Close)
	}
	if n := podConnections(r); n > 1 {
		t.Errorf("%d idle connections to Pods", n)
	}
	await(92, "refusing")
	if res := dialRig(t, r).get(); res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" || !res.Close {
		t.Errorf("at 92%%: %d, Retry-After %q, close %v", res.StatusCode, res.Header.Get("Retry-After"), res.Close)
	}
	await(50, "calm")
	if res := dialRig(t, r).get(); res.StatusCode != 200 || res.Close {
		t.Errorf("calm again: %d, close %v", res.StatusCode, res.Close)
	}
}

func podConnections(r *rig) (n int) {
	for _, p := range r.engine.Endpoints() {
		for _, e := range p.Endpoints {
			n += e.Idle
		}
	}
	return n
}
