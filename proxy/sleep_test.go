package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// keeper is a client that keeps one connection.
type keeper struct {
	net.Conn
	in *bufio.Reader
}

func dialKeeper(t testing.TB, addr string) *keeper {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &keeper{c, bufio.NewReader(c)}
}

func (c *keeper) secure(t testing.TB) {
	t.Helper()
	tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.Conn, c.in = tc, bufio.NewReader(tc)
}

// ask sends a request for path and returns the answer's body.
func (c *keeper) ask(path string) (string, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n", path); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func echoPath(t testing.TB) string {
	t.Helper()
	return backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.URL.Path) })
}

// A connection between two requests has no goroutine, and loses nothing by it: each finds its way back, again and again.
func TestIdleConnectionsNeedNoGoroutine(t *testing.T) {
	const clients = 200
	for _, name := range []string{"plain", "tls"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Park: 50 * time.Millisecond}})
			r.route("a.test", echoPath(t))
			addr := r.addr
			if name == "tls" {
				addr = listenTLS(t, r)
			}
			warm := dialKeeper(t, r.addr)
			if got, err := warm.ask("/warm"); got != "/warm" {
				t.Fatal(got, err)
			}
			before := runtime.NumGoroutine()
			all := make([]*keeper, clients)
			for i := range all {
				if all[i] = dialKeeper(t, addr); name == "tls" {
					all[i].secure(t)
				}
			}
			for round := range 3 {
				for i, c := range all {
					path := fmt.Sprintf("/%d/%d", round, i)
					if got, err := c.ask(path); got != path {
						t.Fatalf("asked for %s, got %q, %v", path, got, err)
					}
				}
				waitFor(t, fmt.Sprintf("fewer goroutines in round %d", round), func() bool { return runtime.NumGoroutine() <= before+clients/10 })
			}
			if n := r.engine.Connections(); n != clients+1 {
				t.Errorf("%d connections are open, want %d", n, clients+1)
			}
		})
	}
}

// A connection without a goroutine ends like any other: by its time, by its client, and with the engine.
func TestSleepingConnectionsEnd(t *testing.T) {
	park := proxy.Timeouts{Park: 40 * time.Millisecond}
	asleep := func(t *testing.T, o proxy.Options) (*rig, *keeper) {
		t.Helper()
		r := newRig(t, o)
		r.route("a.test", echoPath(t))
		before := runtime.NumGoroutine()
		c := dialKeeper(t, r.addr)
		if got, err := c.ask("/x"); got != "/x" {
			t.Fatal(got, err)
		}
		// The Pod's side keeps some, in this very process.
		const pod = 3
		waitFor(t, "the connection to sleep", func() bool { return runtime.NumGoroutine() <= before+pod })
		return r, c
	}
	ends := func(t *testing.T, c *keeper) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := c.in.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read %d bytes, %v: want the end", n, err)
		}
	}
	t.Run("idle for too long", func(t *testing.T) {
		o := proxy.Options{Timeouts: park}
		o.Timeouts.Idle = 200 * time.Millisecond
		r, c := asleep(t, o)
		ends(t, c)
		waitFor(t, "no connection", func() bool { return r.engine.Connections() == 0 })
	})
	t.Run("client leaves", func(t *testing.T) {
		r, c := asleep(t, proxy.Options{Timeouts: park})
		c.Close()
		waitFor(t, "no connection", func() bool { return r.engine.Connections() == 0 })
	})
	t.Run("client resets", func(t *testing.T) {
		r, c := asleep(t, proxy.Options{Timeouts: park})
		_ = c.Conn.(*net.TCPConn).SetLinger(0)
		c.Close()
		waitFor(t, "no connection", func() bool { return r.engine.Connections() == 0 })
	})
	t.Run("shutdown", func(t *testing.T) {
		r, c := asleep(t, proxy.Options{Timeouts: park})
		if err := r.engine.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		ends(t, c)
	})
	t.Run("shutdown without patience", func(t *testing.T) {
		r, c := asleep(t, proxy.Options{Timeouts: park})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = r.engine.Shutdown(ctx)
		ends(t, c)
	})
	t.Run("half a request, then silence", func(t *testing.T) {
		o := proxy.Options{Timeouts: park}
		o.Timeouts.Header = 200 * time.Millisecond
		_, c := asleep(t, o)
		fmt.Fprint(c, "GET / HT")
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		b, err := io.ReadAll(c.in)
		if !strings.HasPrefix(string(b), "HTTP/1.1 408 ") || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	})
}

// Requests that come at the very moment at which their connection falls asleep are answered like all others.
func TestRequestsRaceWithSleep(t *testing.T) {
	const (
		clients  = 40
		requests = 40
	)
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{Park: time.Millisecond}})
	r.route("a.test", echoPath(t))
	var all sync.WaitGroup
	for i := range clients {
		c := dialKeeper(t, r.addr)
		all.Go(func() {
			for n := range requests {
				path := fmt.Sprintf("/%d/%d", i, n)
				if got, err := c.ask(path); got != path {
					t.Errorf("asked for %s, got %q, %v", path, got, err)
					return
				}
				// The sweeper looks every 40 ms: this is now before, now behind its look.
				time.Sleep(time.Duration(rand.IntN(int(60 * time.Millisecond))))
			}
		})
	}
	all.Wait()
}
