package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/test/bench/backend"
	"podlane.dev/podlane/test/bench/loop"
)

// start returns a loop on the first core that this process may use. Tests with one do not run in parallel: it works alone.
func start(t *testing.T) *loop.Loop {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	core := 0
	for !may.IsSet(core) {
		core++
	}
	l, err := loop.Start(core)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// withBackend returns a loop with a backend, and its address.
func withBackend(t *testing.T) (*loop.Loop, netip.AddrPort) {
	t.Helper()
	l := start(t)
	at, err := backend.New(l).Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	return l, at
}

// lying returns the address of a server that answers every request head with what answer returns, and closes where it says so.
// It runs on goroutines of Go, beside the loop.
func lying(t *testing.T, answer func(n int, id string) (text string, closes bool)) netip.AddrPort {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for {
				id, err := readHead(c)
				if err != nil {
					break
				}
				text, closes := answer(n, id)
				n++
				if _, err := io.WriteString(c, text); err != nil || closes {
					break
				}
			}
			_ = c.Close()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// readHead reads a request's head, byte by byte, and returns its id.
func readHead(c net.Conn) (string, error) {
	var head []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		if _, err := io.ReadFull(c, one); err != nil {
			return "", err
		}
		head = append(head, one[0])
	}
	return strings.TrimPrefix(string(head), "GET /s/")[:len(ID)], nil
}

func nothing() error { return nil }

// plan is a short load of small requests on one connection.
func plan(at netip.AddrPort) Plan {
	return Plan{
		Address: at, Sources: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Connections: 1, Duration: 200 * time.Millisecond,
		Message: get(backend.Small, backend.SmallSize), Begin: nothing, End: nothing,
	}
}

func get(path string, length int) Message {
	return Message{Head: []byte("GET " + path + ID + " HTTP/1.1\r\nHost: a\r\n\r\n"), Status: 200, Length: length}
}

func post(size int) Message {
	return Message{
		Head: fmt.Appendf(nil, "POST %s%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", backend.Upload, ID, size),
		Body: make([]byte, size), Status: 200, Length: backend.IDSize + backend.SumSize, Sum: fmt.Appendf(nil, "%0*d", backend.SumSize, size),
	}
}

func webSocket(size int) Message {
	return Message{
		Head: []byte("GET " + backend.Socket + ID + " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
		Status: 101, Echo: size,
	}
}

// TestBackend runs every kind of message against the backend itself: answers, and no errors.
func TestBackend(t *testing.T) {
	for name, m := range map[string]Message{
		"small": get(backend.Small, backend.SmallSize), "large": get(backend.Large, backend.LargeSize),
		"upload": post(1 << 20), "websocket": webSocket(32), "longest message": webSocket(125),
	} {
		t.Run(name, func(t *testing.T) {
			l, at := withBackend(t)
			p := plan(at)
			p.Message, p.Connections, p.Warmup = m, 20, 20*time.Millisecond
			began, ended := 0, 0
			p.Begin = func() error { began++; return nil }
			p.End = func() error { ended++; return nil }
			r, err := Run(t.Context(), l, p)
			if err != nil {
				t.Fatal(err)
			}
			if r.Answers == 0 || r.Total <= r.Answers || r.Errors.Sum() != 0 || r.Unanswered != 0 {
				t.Errorf("%+v", r.Errors)
				t.Errorf("%d answers, %d in all, %d unanswered", r.Answers, r.Total, r.Unanswered)
			}
			// What was sent before the end is answered after it: on 20 connections at most 20.
			if n := r.Latency.Count(); n < r.Answers-20 || n > r.Answers+20 || r.Latency.Quantile(0.5) <= 0 {
				t.Errorf("%d latencies of %d answers, half of them %v", n, r.Answers, r.Latency.Quantile(0.5))
			}
			if began != 1 || ended != 1 || r.Elapsed < p.Duration {
				t.Errorf("begun %d times, ended %d times, %v long", began, ended, r.Elapsed)
			}
		})
	}
}

// TestRate: what is offered is the rate, whatever the connections, and equal in every run of a seed.
func TestRate(t *testing.T) {
	l, at := withBackend(t)
	p := plan(at)
	p.Connections, p.Rate, p.Seed, p.Duration = 8, 2000, 7, 500*time.Millisecond
	r, err := Run(t.Context(), l, p)
	if err != nil {
		t.Fatal(err)
	}
	// 1000 are expected; a Poisson process is within 5 deviations of that.
	if n := r.Latency.Count() + r.Unanswered; n < 840 || n > 1160 || r.Errors.Sum() != 0 {
		t.Errorf("%d requests were due, %+v", n, r.Errors)
	}
}

// TestLatencyOfWaiting: a request that waits for the one before counts from when it was due. The server holds its first answer
// back; at 1000/s on one connection what is due meanwhile waits up to that long: half of all requests, and half of those more than half of it.
func TestLatencyOfWaiting(t *testing.T) {
	l := start(t)
	const held = 100 * time.Millisecond
	at := lying(t, func(n int, id string) (string, bool) {
		if n == 0 {
			time.Sleep(held)
		}
		return good(id), false
	})
	p := plan(at)
	p.Rate, p.Duration = 1000, 2*held
	r, err := Run(t.Context(), l, p)
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors.Sum() != 0 || r.Latency.Count() < 100 {
		t.Fatalf("%d requests, %+v", r.Latency.Count(), r.Errors)
	}
	if p75 := r.Latency.Quantile(0.75); p75 < held/4 {
		t.Errorf("a quarter of the requests waited for about %v and more, and is said to have taken at most %v", held/2, p75)
	}
}

// TestUnanswered: what a server never answers is counted, and is in the latencies.
func TestUnanswered(t *testing.T) {
	l := start(t)
	at := lying(t, func(n int, id string) (string, bool) {
		if n == 0 {
			return good(id), false
		}
		return "", false
	})
	p := plan(at)
	p.Rate, p.Duration, p.Patience = 200, 200*time.Millisecond, 300*time.Millisecond
	r, err := Run(t.Context(), l, p)
	if err != nil {
		t.Fatal(err)
	}
	if r.Unanswered == 0 || r.Latency.Max() < p.Patience || r.Errors.Sum() != 0 {
		t.Errorf("%d unanswered, the longest %v, %+v", r.Unanswered, r.Latency.Max(), r.Errors)
	}
	p.Rate = 0
	if r, err = Run(t.Context(), l, p); err != nil || r.Errors.Late != 1 {
		t.Errorf("without a rate: %+v, %v; want one late", r.Errors, err)
	}
}

func good(id string) string { return answerWith("200 OK", id, backend.SmallSize) }

func answerWith(status, id string, length int) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s%s", status, length, id, strings.Repeat("x", max(length-len(id), 0)))
}

// TestErrors: what is wrong with an answer is counted as what it is, and the load goes on with a new connection.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(id string) (string, bool)
		count func(e Errors) uint64
	}{
		{"status", func(id string) (string, bool) { return answerWith("502 Bad Gateway", id, 128), false }, func(e Errors) uint64 { return e.Status }},
		{"no HTTP", func(string) (string, bool) { return "220 smtp\r\n\r\n", false }, func(e Errors) uint64 { return e.Status }},
		{"length", func(id string) (string, bool) { return answerWith("200 OK", id, 127), false }, func(e Errors) uint64 { return e.Length }},
		{"longer", func(id string) (string, bool) { return good(id) + "x", false }, func(e Errors) uint64 { return e.Length }},
		{"two answers", func(id string) (string, bool) { return good(id) + good(id), false }, func(e Errors) uint64 { return e.Length }},
		{"chunked", func(id string) (string, bool) {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n" + id, false
		}, func(e Errors) uint64 { return e.Length }},
		{"another's", func(string) (string, bool) { return good("ffffffff"), false }, func(e Errors) uint64 { return e.Mixed }},
		{"cut short", func(id string) (string, bool) { return good(id)[:60], true }, func(e Errors) uint64 { return e.Closed }},
		{"closed", func(string) (string, bool) { return "", true }, func(e Errors) uint64 { return e.Closed }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := start(t)
			at := lying(t, func(n int, id string) (string, bool) {
				if n == 3 {
					return c.wrong(id)
				}
				return good(id), false
			})
			r, err := Run(t.Context(), l, plan(at))
			if err != nil {
				t.Fatal(err)
			}
			if c.count(r.Errors) != 1 || r.Errors.Sum() != 1 || r.Errors.First == "" {
				t.Errorf("%+v, want one of its kind", r.Errors)
			}
			if r.Total < 5 {
				t.Errorf("%d answers: the load did not go on", r.Total)
			}
		})
	}
}

// TestSplitAnswers: an answer may come in any pieces.
func TestSplitAnswers(t *testing.T) {
	l := start(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			id, err := readHead(c)
			if err != nil {
				return
			}
			for _, b := range []byte(good(id)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
			}
		}
	}()
	r, err := Run(t.Context(), l, plan(netip.MustParseAddrPort(listener.Addr().String())))
	if err != nil || r.Answers == 0 || r.Errors.Sum() != 0 {
		t.Errorf("%d answers, %+v, %v", r.Answers, r.Errors, err)
	}
}

// TestAnnouncedClose: a server may end a connection with an answer that says so; that is no error.
func TestAnnouncedClose(t *testing.T) {
	l := start(t)
	at := lying(t, func(n int, id string) (string, bool) {
		if n%3 == 2 {
			return strings.Replace(good(id), "\r\n\r\n", "\r\nconnection: Close\r\n\r\n", 1), true
		}
		return good(id), false
	})
	for _, rate := range []float64{0, 500} {
		p := plan(at)
		p.Rate = rate
		r, err := Run(t.Context(), l, p)
		if err != nil || r.Total < 6 || r.Errors.Sum() != 0 || r.Unanswered != 0 {
			t.Errorf("rate %v: %d answers, %d unanswered, %+v, %v", rate, r.Total, r.Unanswered, r.Errors, err)
		}
	}
}

// TestFresh: each request has a connection of its own.
func TestFresh(t *testing.T) {
	l := start(t)
	requests, connections := 0, 0
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections++
			if id, err := readHead(c); err == nil {
				requests++
				_, _ = io.WriteString(c, strings.Replace(good(id), "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
			}
			_ = c.Close()
		}
	}()
	p := plan(netip.MustParseAddrPort(listener.Addr().String()))
	p.Fresh, p.Connections = true, 3
	p.Sources = append(p.Sources, netip.MustParseAddr("127.0.0.2"))
	r, err := Run(t.Context(), l, p)
	_ = listener.Close()
	<-done
	if err != nil || r.Errors.Sum() != 0 || r.Total < 4 {
		t.Fatalf("%d answers, %+v, %v", r.Total, r.Errors, err)
	}
	if uint64(requests) != r.Total || connections < requests || connections > requests+p.Connections {
		t.Errorf("%d answers; the server saw %d requests on %d connections", r.Total, requests, connections)
	}
}

// TestHold: idle connections live, or it is an error.
func TestHold(t *testing.T) {
	l, at := withBackend(t)
	p := plan(at)
	p.Connections = 300
	r, err := Hold(t.Context(), l, p)
	if err != nil || r.Answers != 300 || r.Total != 600 || r.Errors.Sum() != 0 {
		t.Errorf("%d answers of %d, %+v, %v; want 300 of 600", r.Answers, r.Total, r.Errors, err)
	}
	forgetful := lying(t, func(_ int, id string) (string, bool) { return good(id), true })
	p = plan(forgetful)
	if r, err = Hold(t.Context(), l, p); err != nil || r.Errors.Closed == 0 {
		t.Errorf("a server that closes behind each answer: %+v, %v", r.Errors, err)
	}
}

// TestRefused: a load on nothing ends with the reason.
func TestRefused(t *testing.T) {
	l := start(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(listener.Addr().String())
	_ = listener.Close()
	if _, err := Run(t.Context(), l, plan(at)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Run = %v", err)
	}
}

func TestCancel(t *testing.T) {
	l, at := withBackend(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := plan(at)
	p.Duration = time.Hour
	p.Begin = func() error { cancel(); return nil }
	if _, err := Run(ctx, l, p); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	broken := errors.New("no /proc")
	p = plan(at)
	p.Begin = func() error { return broken }
	if _, err := Run(t.Context(), l, p); !errors.Is(err, broken) {
		t.Errorf("Run with a Begin that fails = %v", err)
	}
}

// TestNothingAllocated: in the steady state a request allocates nothing, in load and backend together.
func TestNothingAllocated(t *testing.T) {
	l, at := withBackend(t)
	p := plan(at)
	p.Connections = 4
	var before, after uint64
	count := func(to *uint64) func() error {
		return func() error {
			*to = mallocs()
			return nil
		}
	}
	p.Warmup, p.Begin, p.End = 20*time.Millisecond, count(&before), count(&after)
	r, err := Run(t.Context(), l, p)
	if err != nil {
		t.Fatal(err)
	}
	// The runtime and the test itself have some.
	if n := after - before; r.Answers == 0 || n > 50+r.Answers/20 {
		t.Errorf("%d allocations in %d requests", n, r.Answers)
	}
}
