package resources_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// F8: what a Pod sends byte by byte reaches the client byte by byte: nothing is held back, neither the head nor a single byte.
// The Pod sends the next byte only when the client has the one before, so a proxy that waits for more waits for ever.
func TestF8ByteByByte(t *testing.T) {
	noLeaks(t)
	const bytes = 40
	for _, framing := range []struct{ name, head, before, after, end string }{
		{"length", fmt.Sprintf("Content-Length: %d\r\n", bytes), "", "", ""},
		{"chunks", "Transfer-Encoding: chunked\r\n", "1\r\n", "\r\n", "0\r\n\r\n"},
		{"close", "", "", "", ""},
		{"server-sent events", "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n", "1\r\n", "\r\n", "0\r\n\r\n"},
	} {
		t.Run(framing.name, func(t *testing.T) {
			next := make(chan struct{}, bytes)
			p := newPod(t, func(c *podConn) {
				if c.request() == nil {
					return
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%s\r\n", framing.head)
				for wanted(t, next) {
					if _, err := io.WriteString(c, framing.before+"x"+framing.after); err != nil {
						return
					}
				}
				_, _ = io.WriteString(c, framing.end)
			})
			r := newRig(t, proxy.Options{})
			r.route("a.test", p.addr)
			c := dial(t, r.addr)
			_ = c.SetReadDeadline(time.Now().Add(patience))
			c.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			res, err := http.ReadResponse(c.in, nil)
			if err != nil {
				t.Fatalf("the head did not come before the first byte of the body: %v", err)
			}
			times := make([]time.Duration, 0, bytes)
			for i := range bytes {
				began := time.Now()
				next <- struct{}{}
				if n, err := res.Body.Read(make([]byte, 10)); n != 1 {
					t.Fatalf("byte %d: %d bytes, %v", i, n, err)
				}
				times = append(times, time.Since(began))
			}
			close(next)
			if rest, err := io.ReadAll(res.Body); len(rest) != 0 || err != nil {
				t.Errorf("%q %v behind the body", rest, err)
			}
			t.Logf("F8: each byte by itself: %s (the design: 10 ms)", quantiles(times))
		})
	}
}

// wanted waits until a test sends on next, and reports whether it did: not where next was closed, or the test is over.
func wanted(t *testing.T, next <-chan struct{}) bool {
	t.Helper()
	select {
	case _, ok := <-next:
		return ok
	case <-t.Context().Done():
		return false
	}
}

// trickle is a body that comes in pieces, each pause after the one before.
type trickle struct {
	pieces int
	pause  time.Duration
}

// F8: a slow body is not an idle one: the limit begins anew with every byte. A body that stops is cut, and the client sees it.
func TestF8SlowIsNotIdle(t *testing.T) {
	noLeaks(t)
	slow := trickle{pieces: 24, pause: 100 * time.Millisecond}
	const limit = 1200 * time.Millisecond // half of what the slow body takes
	p := newPod(t, func(c *podConn) {
		for q := c.request(); q != nil; q = c.request() {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", slow.pieces)
			for i := range slow.pieces {
				if q.URL.Path == "/stops" && i == slow.pieces/2 {
					c.untilClosed()
					return
				}
				if q.URL.Path == "/slow" {
					time.Sleep(slow.pause)
				}
				_, _ = io.WriteString(c, "x")
			}
		}
	})
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{UpstreamBody: limit}})
	r.route("a.test", p.addr)
	c := dial(t, r.addr)
	began := time.Now()
	c.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if status, body, err := c.answer(); status != http.StatusOK || len(body) != slow.pieces || err != nil {
		t.Errorf("slow: %d, %d bytes, %v", status, len(body), err)
	}
	t.Logf("F8: %d bytes in %s under an idle limit of %s", slow.pieces, time.Since(began).Round(time.Millisecond), limit)
	c.send("GET /stops HTTP/1.1\r\nHost: a.test\r\nUser-Agent: stops\r\n\r\n")
	status, body, err := c.answer()
	if err == nil || len(body) >= slow.pieces {
		t.Errorf("a body that stopped: %d, %d bytes, taken for whole", status, len(body))
	}
	if line := r.logged("stops"); line.Reason != "upstream-truncated" {
		t.Errorf("logged as %+v", line)
	}
}

// F8: event streams and upgraded connections are silent for long by nature: theirs is the limit of tunnels, not that of bodies.
func TestF8SilentStreams(t *testing.T) {
	noLeaks(t)
	const limit, silence = 200 * time.Millisecond, 800 * time.Millisecond
	p := newPod(t, func(c *podConn) {
		q := c.request()
		switch {
		case q == nil:
		case q.Header.Get("Upgrade") != "":
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(c, c.in)
		default:
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n")
			time.Sleep(silence)
			fmt.Fprint(c, "8\r\ndata: 2\n\r\n0\r\n\r\n")
		}
	})
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{UpstreamBody: limit, UpstreamHeader: limit, Body: limit, Idle: limit}})
	r.route("a.test", p.addr)

	c := dial(t, r.addr)
	c.send("GET /events HTTP/1.1\r\nHost: a.test\r\nUser-Agent: events\r\n\r\n")
	if status, body, err := c.answer(); status != http.StatusOK || strings.Count(body, "data: ") != 2 || err != nil {
		t.Errorf("an event stream that was silent for %s: %d %q %v", silence, status, body, err)
	}
	if line := r.logged("events"); line.Reason != "" {
		t.Errorf("logged as %+v", line)
	}

	up := dial(t, r.addr)
	_ = up.SetReadDeadline(time.Now().Add(patience))
	up.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if res, err := http.ReadResponse(up.in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", res, err)
	}
	time.Sleep(silence)
	up.send("still there\n")
	if line, err := up.in.ReadString('\n'); line != "still there\n" {
		t.Errorf("a tunnel that was silent for %s: %q %v", silence, line, err)
	}
	up.Close()
}

// F8: the interim and the final head of a Pod that dawdles between them are passed on as they come.
func TestF8EarlyHintsAreNotHeld(t *testing.T) {
	noLeaks(t)
	release := make(chan struct{})
	p := newPod(t, func(c *podConn) {
		if c.request() == nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
		wanted(t, release)
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		c.untilClosed()
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", p.addr)
	c := dial(t, r.addr)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	c.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	early, err := readHead(c.in)
	close(release)
	if err != nil || !strings.HasPrefix(early, "HTTP/1.1 103 ") || !strings.Contains(early, "a.css") {
		t.Errorf("%q %v, want the early hints before the answer", early, err)
	}
	if final, err := readHead(c.in); err != nil || !strings.HasPrefix(final, "HTTP/1.1 200 ") {
		t.Errorf("%q %v", final, err)
	}
}

// readHead reads one head as it is.
func readHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		head.WriteString(line)
		switch {
		case err != nil:
			return head.String(), err
		case head.Len() > 64<<10:
			return head.String(), errors.New("no end of the head")
		case line == "\r\n":
			return head.String(), nil
		}
	}
}
