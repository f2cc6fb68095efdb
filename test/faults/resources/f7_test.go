package resources_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// F7: a client that ends its side, or resets the connection, before the first byte of the answer is gone: the Pod is told, and the
// request is logged as 499. A killed curl sends a FIN.
func TestF7ClientGoneBeforeTheFirstByte(t *testing.T) {
	noLeaks(t)
	const upload = 1 << 20 // beyond what is read before it is sent on
	ended := make(chan time.Time, 1)
	asked := make(chan int64, 1)
	p := newPod(t, func(c *podConn) {
		q := c.request()
		if q == nil {
			return
		}
		n, _ := io.Copy(io.Discard, q.Body)
		asked <- n
		c.untilClosed()
		ended <- time.Now()
	})
	r := newRig(t, proxy.Options{MaxBody: -1})
	r.route("a.test", p.addr)
	requests := []struct {
		name, head string
		body       int64
	}{
		{"get", "GET / HTTP/1.1\r\n", 0},
		{"small upload", "POST / HTTP/1.1\r\nContent-Length: 100\r\n", 100},
		{"long upload", fmt.Sprintf("POST / HTTP/1.1\r\nContent-Length: %d\r\n", upload), upload},
		{"chunked upload", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", upload},
	}
	ends := []struct {
		name string
		end  func(*client)
	}{{"FIN", (*client).fin}, {"RST", (*client).reset}}
	var times []time.Duration
	for _, request := range requests {
		for _, how := range ends {
			name := request.name + ", " + how.name
			c := dial(t, r.addr)
			body := strings.Repeat("x", int(request.body))
			if strings.Contains(request.head, "chunked") {
				body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			}
			c.send("%sHost: a.test\r\nUser-Agent: %s\r\n\r\n%s", request.head, name, body)
			if n := receive(t, "the request at the Pod", asked); n != request.body {
				t.Fatalf("%s: the Pod got %d bytes, want %d", name, n, request.body)
			}
			began := time.Now()
			how.end(c)
			select {
			case at := <-ended:
				times = append(times, at.Sub(began))
			case <-time.After(patience):
				t.Fatalf("%s: the Pod still works for a client that is gone", name)
			}
			if line := r.logged(name); line.Status != 499 || line.Reason != "client-gone" {
				t.Errorf("%s: logged as %+v, want 499 client-gone", name, line)
			}
			c.Close()
		}
	}
	if n := r.metric("podlane_requests_rejected_total", "client-gone"); n != float64(len(requests)*len(ends)) {
		t.Errorf("%v requests are counted as client-gone, want %d", n, len(requests)*len(ends))
	}
	t.Logf("F7: from the client's end to the Pod's: %s (the design: 100 ms)", quantiles(times))
}

// F7: with --allow-half-close a client that has ended only its sending side gets its answer. One that resets the connection is gone.
func TestF7HalfCloseAllowed(t *testing.T) {
	noLeaks(t)
	release := make(chan struct{})
	asked := make(chan struct{}, 2)
	p := newPod(t, func(c *podConn) {
		for q := c.request(); q != nil; q = c.request() {
			asked <- struct{}{}
			if q.URL.Path == "/reset" {
				c.untilClosed()
				return
			}
			wanted(t, release)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
		}
	})
	r := newRig(t, proxy.Options{AllowHalfClose: true})
	r.route("a.test", p.addr)
	c := dial(t, r.addr)
	c.send("GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: half\r\n\r\n")
	receive(t, "the request at the Pod", asked)
	c.fin()
	time.Sleep(300 * time.Millisecond) // several looks of the sweeper, which must not take the client for gone
	close(release)
	if status, body, err := c.answer(); status != http.StatusOK || body != "late" || err != nil {
		t.Errorf("%d %q %v, want the late answer", status, body, err)
	}
	if line := r.logged("half"); line.Status != http.StatusOK {
		t.Errorf("logged as %+v", line)
	}
	gone := dial(t, r.addr)
	gone.send("GET /reset HTTP/1.1\r\nHost: a.test\r\nUser-Agent: gone\r\n\r\n")
	receive(t, "the request at the Pod", asked)
	gone.reset()
	if line := r.logged("gone"); line.Status != 499 {
		t.Errorf("a reset is logged as %+v", line)
	}
}

// F7: a client that ends its sending side once the answer has begun gets all of it.
func TestF7ClientEndsDuringTheAnswer(t *testing.T) {
	noLeaks(t)
	const size = 8 << 20
	more := make(chan struct{})
	p := newPod(t, func(c *podConn) {
		if c.request() == nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nx", size)
		wanted(t, more)
		_, _ = io.Copy(c, io.LimitReader(zeros{}, size-1))
		c.untilClosed()
	})
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Departure: 100 * time.Millisecond}})
	r.route("a.test", p.addr)
	c := dial(t, r.addr)
	c.send("GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: during\r\n\r\n")
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.fin()
	time.Sleep(200 * time.Millisecond) // several looks of the sweeper
	close(more)
	n, err := io.Copy(io.Discard, res.Body)
	if n != size-1 || err != nil {
		t.Errorf("%d of %d bytes after the FIN: %v", n, size-1, err)
	}
	if line := r.logged("during"); line.Status != http.StatusOK || line.Reason != "" || line.BytesOut != size {
		t.Errorf("logged as %+v", line)
	}
	t.Logf("F7: %d bytes after the client's FIN", n)
}

// An answer that ends because the upload beside it has failed is told of as the client's fault, and not as the Pod's.
func TestUploadThatFailsBesideItsAnswer(t *testing.T) {
	noLeaks(t)
	p := newPod(t, func(c *podConn) {
		if c.request() == nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
		c.untilClosed()
	})
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Body: 500 * time.Millisecond}})
	r.route("a.test", p.addr)
	for name, row := range map[string]struct{ rest, reason string }{
		"nonsense": {"no chunk\r\n", "bad-request"},
		"silence":  {"", "client-timeout"},
	} {
		c := dial(t, r.addr)
		c.send("POST / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: %s\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", name)
		res, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c.send("%s", row.rest)
		if n, err := io.Copy(io.Discard, res.Body); err == nil {
			t.Errorf("%s: the answer ended as if it were whole, after %d bytes more", name, n)
		}
		if line := r.logged(name); line.Status != http.StatusOK || line.Reason != row.reason {
			t.Errorf("%s: logged as %+v, want 200 %s", name, line, row.reason)
		}
		c.Close()
	}
}

// F7: a client that has left in the middle of an answer is noticed although its Pod is silent, as the Pods of event streams are for hours: the
// Pod is told, and the request counts as one whose client is gone.
func TestF7ClientGoneWhileThePodIsSilent(t *testing.T) {
	noLeaks(t)
	ended := make(chan time.Time, 1)
	p := newPod(t, func(c *podConn) {
		if c.request() == nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: first\n\n")
		c.untilClosed()
		ended <- time.Now()
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", p.addr)
	for name, end := range map[string]func(*client){"FIN": (*client).fin, "RST": (*client).reset} {
		c := dial(t, r.addr)
		c.send("GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: %s\r\n\r\n", name)
		res, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, len("data: first\n\n"))); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		end(c)
		select {
		case at := <-ended:
			t.Logf("F7: %s: from the client's end to the Pod's: %s", name, at.Sub(began))
		case <-time.After(patience):
			t.Fatalf("%s: the Pod still has a client that is gone", name)
		}
		if line := r.logged(name); line.Status != http.StatusOK || line.Reason != "client-gone" {
			t.Errorf("%s: logged as %+v, want 200 client-gone", name, line)
		}
		c.Close()
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// F7: a Pod that ends the connection behind a complete answer is no fault: the answer counts, and the next request, on the same connection
// of the client, goes over another.
func TestF7PodEndsBehindTheAnswer(t *testing.T) {
	noLeaks(t)
	const rounds = 30
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"close":  "HTTP/1.1 200 OK\r\n\r\nok",
		"1.0":    "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
	} {
		// By FIN only, while the other direction stays open: an ordered half-close. And by closing both.
		for _, half := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, half %v", name, half), func(t *testing.T) {
				p := newPod(t, func(c *podConn) {
					if c.request() == nil {
						return
					}
					fmt.Fprint(c, answer)
					if half {
						_ = c.CloseWrite()
						c.untilClosed()
					}
				})
				r := newRig(t, proxy.Options{})
				r.route("a.test", p.addr)
				c := dial(t, r.addr)
				for range rounds {
					c.ask(t, "a.test", "ok")
				}
				if n := p.conns.Load(); n != rounds {
					t.Errorf("%d requests over %d connections, want one each", rounds, n)
				}
				if n := r.metric("podlane_requests_rejected_total"); n != 0 {
					t.Errorf("%v answers of the proxy's own", n)
				}
			})
		}
	}
}
