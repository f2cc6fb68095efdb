package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/test/e2e/load"
)

// headerTimeout is what the 60 s of the default are in the tests.
const headerTimeout = 600 * time.Millisecond

// A Pod accepts and never answers: 504, its connection is closed, nobody else gets the request, and nobody else notices.
func TestF3Hangs(t *testing.T) {
	for _, row := range []struct{ name, says string }{
		{"says nothing", ""},
		{"stops inside the head", "HTTP/1.1 200 OK\r\nContent-Le"},
		{"stops behind 100", "HTTP/1.1 100 Continue\r\n\r\n"},
		{"stops behind 103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{UpstreamHeader: headerTimeout}})
			got := make(chan string, 100)
			closed := make(chan bool, 100)
			hanging := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
				id, _, _, err := request(in)
				if err != nil {
					return
				}
				got <- id
				_, _ = io.WriteString(c, row.says)
				closed <- untilClosed(c, in)
			})
			pods, addresses := newPods(t, 2)
			mixed := named("default", "mixed", "mixed.test")
			r.publish(web(), mixed)
			r.assign(web(), addresses[0])
			r.assign(mixed, ready(hanging.at), addresses[1])
			others := r.begin(load.Options{Download: 1000, KeepAlive: true, Clients: 4, Rate: 400})
			timeouts := r.hangSome(mixed, 8)
			result := others.Stop()
			noneFailed(t, result)

			if n := len(got); n != timeouts {
				t.Errorf("the Pod that hangs got %d requests for %d times 504", n, timeouts)
			}
			for range timeouts {
				if !<-closed {
					t.Error("the connection to the Pod that hangs stays open")
				}
			}
			if n := pods[1].requests(); n != 8-timeouts {
				t.Errorf("the other Pod got %d requests, want %d: a timeout must not be retried", n, 8-timeouts)
			}
			r.wantRejected("upstream-timeout", timeouts)
			if state := r.endpoints(mixed)[hanging.at]; state.State != upstream.StateReady || state.Fails != 0 || state.Open != 0 {
				t.Errorf("the endpoint that hangs: %+v; a slow answer must not eject, and its connections must be gone", state)
			}
			t.Logf("F3: %s: %d times 504 at a header timeout of %s, one request each, connection closed; %d other requests meanwhile, 0 failed",
				row.name, timeouts, headerTimeout, result.Sent)
		})
	}
}

// hangSome sends n requests, and returns how many ended with 504. The others got 200.
func (r *rig) hangSome(s service, n int) (timeouts int) {
	r.t.Helper()
	answers := make(chan answer, n)
	for i := range n {
		method := [...]string{http.MethodGet, http.MethodPost}[i%2]
		go func() { answers <- r.ask(method, s.host, fmt.Sprintf("hang-%d", i)) }()
	}
	for range n {
		switch a := <-answers; {
		case a.status == http.StatusGatewayTimeout && a.whole():
			timeouts++
		case a.status != http.StatusOK:
			r.t.Errorf("%s, want 200 or 504", a)
		}
	}
	if timeouts == 0 || timeouts == n {
		r.t.Errorf("%d of %d requests met the Pod that hangs, want some", timeouts, n)
	}
	return timeouts
}

// A Pod that takes nothing of an upload: the client is told in time, and its connection is closed.
func TestF3TakesNothing(t *testing.T) {
	r := newRig(t, proxy.Options{MaxBody: -1, Timeouts: proxy.Timeouts{Stall: headerTimeout, UpstreamHeader: headerTimeout, LingerSilence: headerTimeout}})
	release := make(chan struct{})
	deaf := newHostile(t, 9, func(_ int, c *net.TCPConn, _ *bufio.Reader) {
		_ = c.SetReadBuffer(4 << 10)
		<-release
	})
	r.serve(ready(deaf.at))
	c := r.dial()
	defer c.conn.Close()
	const size = 64 << 20
	body := &zeros{left: size}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", web().host, size)
		_, _ = io.Copy(c.conn, io.MultiReader(strings.NewReader(head), body))
	}()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(c.in, nil)
	if err != nil || res.StatusCode != http.StatusGatewayTimeout {
		t.Fatalf("%v %v, want 504", res, err)
	}
	left := body.unread()
	if left == 0 {
		t.Error("the client could send all of its body to a Pod that took nothing")
	}
	await(t, "the connection to the Pod is closed", func() bool { return r.endpoints(web())[deaf.at].Open == 0 })
	close(release)
	_ = c.conn.Close()
	<-sent
	t.Logf("F3: 504 to an upload whose Pod reads nothing, when %d KiB of %d KiB had left the client", (size-left)>>10, size>>10)
}

// zeros is a body of that many zeros.
type zeros struct {
	mu   sync.Mutex
	left int
}

func (z *zeros) Read(p []byte) (int, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	n := min(len(p), z.left, 64<<10)
	if n == 0 {
		return 0, io.EOF
	}
	z.left -= n
	clear(p[:n])
	return n, nil
}

func (z *zeros) unread() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.left
}
