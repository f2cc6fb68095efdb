package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
)

// hold lets the first piece of every answer pass, and no more until it is opened, for which it has others wait by the time in wait.
type hold struct {
	wait        time.Duration
	open, asked atomic.Bool
}

func (h *hold) FilterResponse(x *exchange.Exchange) {
	if x.Response.Body != nil {
		x.Response.Body = &heldBody{x.Response.Body, h, false}
	}
}

type heldBody struct {
	exchange.Body
	h     *hold
	begun bool
}

func (b *heldBody) Wait() time.Duration {
	switch {
	case b.begun && b.h.open.Load():
		return 0
	case b.begun:
		b.h.asked.Store(true)
		return b.h.wait
	}
	return 0
}

func (b *heldBody) Next() ([]byte, error) {
	b.begun = true
	return b.Body.Next()
}

// What has been pulled of a paced body leaves before the pause, and the rest after it, over every version of HTTP.
func TestPacedBodyPauses(t *testing.T) {
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
		}
	})
	check := func(t *testing.T, h *hold, c *http.Client, base string) {
		t.Helper()
		h.open.Store(false)
		res, err := c.Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		first := make([]byte, 5)
		if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "hello" {
			t.Fatalf("before the pause: %q %v", first, err)
		}
		h.open.Store(true)
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != " world" {
			t.Fatalf("after the pause: %q %v", rest, err)
		}
	}
	h := hold{wait: time.Millisecond}
	o := proxy.Options{Policies: []filters.Policy{filtering("hold", nil, &h)}}
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, o)
		r.route("a.test", pod)
		for range 3 { // on one connection
			check(t, &h, r.client, "http://a.test")
		}
	})
	overHTTP2(t, o, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		for range 3 {
			check(t, &h, c, base)
		}
	})
}

// hello answers with a few bytes, and the end of the body later.
func hello(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "hello")
	w.(http.Flusher).Flush()
}

// A pause ends with the engine, however long it would last.
func TestShutdownEndsPause(t *testing.T) {
	pod := backend(t, hello)
	h := hold{wait: time.Hour}
	r := newRig(t, proxy.Options{Policies: []filters.Policy{filtering("hold", nil, &h)}})
	r.route("a.test", pod)
	client := make(chan error, 1)
	go func() {
		res, err := r.client.Get("http://a.test/")
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		client <- err
	}()
	waitFor(t, "a pause", h.asked.Load)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.engine.Shutdown(ctx) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("shutdown: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("shutdown waits for a pause")
	}
	if err := <-client; err == nil {
		t.Error("the client took what it got for the whole answer")
	}
}

// A pause ends with the stream of its client, however long it would last.
func TestResetEndsPause(t *testing.T) {
	pod := backend(t, hello)
	h := hold{wait: time.Hour}
	o := proxy.Options{Policies: []filters.Policy{filtering("hold", nil, &h)}}
	overHTTP2(t, o, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		h.asked.Store(false)
		r.route("a.test", pod)
		res, err := c.Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "a pause", h.asked.Load)
		res.Body.Close()
		waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
	})
}

// endless answers with bytes until the proxy takes no more, and then says so.
func endless(t *testing.T) (addr string, ended <-chan struct{}) {
	t.Helper()
	over := make(chan struct{}, 8)
	return fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<40)
		for piece := make([]byte, 16<<10); err == nil; {
			_, err = c.Write(piece)
		}
		over <- struct{}{}
	}), over
}

// A client that leaves in the middle of a throttled download frees the Pod, over every version of HTTP.
func TestClientThatLeavesAThrottledAnswerFreesThePod(t *testing.T) {
	pod, ended := endless(t)
	o := proxy.Options{Policies: []filters.Policy{filtering("throttle", nil, bodies.Throttle{PerSecond: 1 << 10})}}
	leave := func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		res, err := c.Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, res.Body, 1<<10); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			t.Fatal("the Pod still sends to a client that has left")
		}
		waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
	}
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, o)
		leave(t, r, r.client, "http://a.test")
	})
	overHTTP2(t, o, leave)
}

// A throttled download has at no time brought more than it may, and comes to its end.
func TestThrottledDownload(t *testing.T) {
	const rate, size = 64 << 10, 128 << 10
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.Copy(w, io.LimitReader(zeros{}, size))
	})
	o := proxy.Options{Policies: []filters.Policy{filtering("throttle", nil, bodies.Throttle{PerSecond: rate})}}
	download := func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		begin := time.Now() // before the engine's own
		res, err := c.Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got, buf := 0, make([]byte, 4<<10)
		for err == nil {
			var n int
			n, err = res.Body.Read(buf)
			got += n
			if may := rate * (time.Since(begin).Seconds() + 1); float64(got) > may {
				t.Fatalf("%d bytes after %v, may be %.0f", got, time.Since(begin), may)
			}
		}
		if !errors.Is(err, io.EOF) || got != size {
			t.Errorf("%d bytes of %d: %v", got, size, err)
		}
		t.Logf("%d bytes at %d a second took %v", got, rate, time.Since(begin))
	}
	t.Run("http1", func(t *testing.T) {
		r := newRig(t, o)
		download(t, r, r.client, "http://a.test")
	})
	overHTTP2(t, o, download)
}
