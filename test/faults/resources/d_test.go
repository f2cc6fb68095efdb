package resources_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
)

// D1: many clients that send their header byte by byte. Each is told 408 and let go when its time is over, whatever it still sends; others
// are served meanwhile, and the Pod hears of nothing.
func TestD1SlowHeaders(t *testing.T) {
	noLeaks(t)
	const attackers = 300
	var requests atomic.Int64
	pod := newPod(t, func(c *podConn) {
		for q := c.request(); q != nil; q = c.request() {
			requests.Add(1)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Header: 700 * time.Millisecond}})
	r.route("a.test", pod.addr)
	var o outcome
	began := time.Now()
	attack := make(chan []*client, 1)
	go func() {
		attack <- crowd(attackers, func() *client {
			c, err := tryDial(r.addr)
			if err != nil {
				o.note(kindOf(err))
				return nil
			}
			stop := make(chan struct{})
			trickled := make(chan struct{})
			go func() {
				defer close(trickled)
				c.send("GET / HTTP/1.1\r\nHost: a.test\r\nX: ")
				for {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
						c.send("x")
					}
				}
			}()
			status, _, err := c.answer()
			close(stop)
			<-trickled
			if err != nil {
				o.note(kindOf(err))
			} else {
				o.note(fmt.Sprint(status))
			}
			return c
		})
	}()
	const honest = 100
	c := dial(t, r.addr)
	for range honest {
		c.ask(t, "a.test", "ok")
	}
	closeAll(<-attack)
	t.Logf("D1: %d clients that trickle, after %s: %s", attackers, time.Since(began).Round(time.Millisecond), &o)
	if o.of("408") != attackers {
		t.Errorf("%d of %d were told 408", o.of("408"), attackers)
	}
	if n := requests.Load(); n != honest {
		t.Errorf("the Pod had %d requests, want %d", n, honest)
	}
}

// D2: a body that comes slowly is not one that does not come, and a client that reads slowly is not one that reads nothing: limits are
// for silence. Those that are silent are let go.
func TestD2SlowIsNotSilent(t *testing.T) {
	noLeaks(t)
	const limit, pause, pieces = time.Second, 100 * time.Millisecond, 20
	big := newBigPod(t, 64<<20)
	echo := newPod(t, func(c *podConn) {
		if q := c.request(); q != nil {
			n, _ := io.Copy(io.Discard, q.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%03d", n)
		}
	})
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Body: limit, Stall: limit, LingerSilence: limit}})
	r.route("echo.test", echo.addr)
	r.route("big.test", big.addr)

	reader, err := smallSocket(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	reader.send("GET / HTTP/1.1\r\nHost: big.test\r\nUser-Agent: reader\r\n\r\n")
	writer := dial(t, r.addr)
	writer.send("POST / HTTP/1.1\r\nHost: echo.test\r\nTransfer-Encoding: chunked\r\n\r\n")
	buf := make([]byte, 8<<10)
	for i := range pieces {
		time.Sleep(pause) // the slowness under test
		writer.send("1\r\nx\r\n")
		if n, err := reader.in.Read(buf); n == 0 {
			t.Fatalf("the slow reader was cut after %s: %v", time.Duration(i)*pause, err)
		}
	}
	writer.send("0\r\n\r\n")
	if status, body, err := writer.answer(); status != http.StatusOK || body != fmt.Sprintf("%03d", pieces) || err != nil {
		t.Errorf("a body of %d bytes in %s: %d %q %v", pieces, pieces*pause, status, body, err)
	}
	// From here on both are silent.
	if line := r.logged("reader"); line.Reason != "client-timeout" {
		t.Errorf("a reader that stopped: logged as %+v", line)
	}
	silent := dial(t, r.addr)
	silent.send("POST / HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 10\r\n\r\nhello")
	if status, _, err := silent.answer(); status != http.StatusRequestTimeout || err != nil {
		t.Errorf("a body that stopped: %d %v, want 408", status, err)
	}
	t.Logf("D2: %d pieces each way, %s apart, under limits of %s", pieces, pause, limit)
}

// D3: what keeps connections from piling up: a number of requests, a time, and, when places are running out, a shorter time.
func TestD3KeepAlive(t *testing.T) {
	noLeaks(t)
	pod := plainPod(t, "ok")
	const requests, places = 50, 20
	r := newRig(t, proxy.Options{MaxRequests: requests, MaxConnections: places, Timeouts: proxy.Timeouts{Idle: time.Hour}})
	r.route("a.test", pod.addr)
	c := dial(t, r.addr)
	for i := range requests {
		c.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		res, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		if res.Close != (i == requests-1) {
			t.Fatalf("answer %d of %d: close %v", i+1, requests, res.Close)
		}
	}
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("the connection is open after its last request")
	}
	await(t, "its end", func() bool { return r.engine.Connections() == 0 })

	// Up to four fifths of the places an hour is an hour.
	for range places * 4 / 5 {
		dial(t, r.addr).ask(t, "a.test", "ok")
	}
	if n := r.engine.Connections(); n != places*4/5 {
		t.Errorf("%d connections are open, want %d", n, places*4/5)
	}
	began := time.Now()
	for range 3 {
		dial(t, r.addr).ask(t, "a.test", "ok")
	}
	await(t, "connections above four fifths to end", func() bool { return r.engine.Connections() <= places*4/5 })
	t.Logf("D3: idle connections above four fifths of the places ended %s after their answer (the design: 5 s, instead of an hour)",
		time.Since(began).Round(100*time.Millisecond))
	// On a busy machine some of the first look at the number of connections only when the last ones are there.
	if n := r.engine.Connections(); n < places/2 {
		t.Errorf("%d connections are left: those below four fifths were to stay", n)
	}
}

// D12: what is kept of a request so that it can be sent again is bounded: a body that is longer is sent once, even where the method
// would allow more.
func TestD12NothingLongIsKept(t *testing.T) {
	noLeaks(t)
	for _, size := range []int{1000, 200_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			var bodies atomic.Int64
			// Each connection answers one request, and ends when the next one comes: the race that no check of a kept connection sees.
			pod := newPod(t, func(c *podConn) {
				for i := range 2 {
					q := c.request()
					if q == nil {
						return
					}
					n, _ := io.Copy(io.Discard, q.Body)
					if n == int64(size) {
						bodies.Add(1)
					}
					if i == 1 {
						return
					}
					fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
			r := newRig(t, proxy.Options{Upstream: upstream.Options{RetriesPerSecond: 1000}})
			r.route("a.test", pod.addr)
			dial(t, r.addr).ask(t, "a.test", "ok")
			await(t, "the Pod's connection to be kept", func() bool {
				pools := r.engine.Endpoints()
				return len(pools) == 1 && len(pools[0].Endpoints) == 1 && pools[0].Endpoints[0].Idle == 1
			})
			c := dial(t, r.addr)
			c.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
			status, body, err := c.answer()
			want, copies := http.StatusOK, int64(2)
			if size > 64<<10 {
				want, copies = http.StatusBadGateway, 1
			}
			if status != want || err != nil || bodies.Load() != copies {
				t.Errorf("%d %q %v, the Pod had the body %d times; want %d and %d times", status, body, err, bodies.Load(), want, copies)
			}
			t.Logf("D12: a PUT of %d bytes on a stale connection: %d, sent %d times", size, status, bodies.Load())
		})
	}
}
