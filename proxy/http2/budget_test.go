//go:build !race

package http2_test

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// Under the race detector sync.Pool drops values at random, so there are no budgets there.

// TestRequestsAllocateNothing holds the budget of the codec: no allocation per request in the steady state, when the client's fields are in
// its dynamic table.
func TestRequestsAllocateNothing(t *testing.T) {
	const n = 20_000
	body := []byte("hello")
	v := newServer(t, http2.Options{}, nil)
	v.start = func(s *http2.Stream) {
		x := exchange.New()
		defer x.Release()
		if err := s.ReadRequest(x); err != nil {
			t.Error(err)
		}
		if reject := x.Validate(); reject != nil {
			t.Error(reject)
		}
		x.Response.Status = 200
		x.Response.Fields.SetString(exchange.ContentType, "text/plain")
		x.Response.Body = fiveBytes{}
		s.StartResponse(x, http2.KeepOpen)
		if s.Write(body) != nil || s.Finish(x) != nil {
			t.Error("no answer")
		}
	}
	addr := v.listen(t)
	measure := func() float64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := load(addr, n); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / n
	}
	measure()
	got := measure()
	t.Logf("%.3f allocations per request", got)
	if got > 0.05 {
		t.Error("want none")
	}
}

// TestIdleConnections prints what a connection at rest costs, with its client's end, and holds it to the budget: no buffers, and no
// goroutine but the reader.
func TestIdleConnections(t *testing.T) {
	const n = 200
	for name, kind := range map[string]struct {
		opener func(*testing.T, *server) func() net.Conn
		heap   int64
	}{"plain": {opener, 6 << 10}, "TLS": {secureOpener, 26 << 10}} {
		t.Run(name, func(t *testing.T) {
			v := newServer(t, http2.Options{}, hello)
			open := kind.opener(t, v)
			goroutines := runtime.NumGoroutine()
			// What the first round leaves behind, the second uses again.
			for _, c := range rested(t, open, n) {
				c.Close()
			}
			untilGoroutines(t, goroutines)
			heapBefore, stacksBefore := inUse()
			conns := rested(t, open, n)
			untilGoroutines(t, goroutines+n)
			heapAfter, stacksAfter := inUse()
			heap := (heapAfter - heapBefore) / n
			t.Logf("%d bytes of heap and %d of stacks for each idle connection", heap, (stacksAfter-stacksBefore)/n)
			if heap > kind.heap {
				t.Errorf("want at most %d", kind.heap)
			}
			for _, c := range conns {
				c.Close()
			}
		})
	}
}

// rested returns n connections on which two requests were answered.
func rested(t *testing.T, open func() net.Conn, n int) (conns []net.Conn) {
	t.Helper()
	first, next := requestBlocks()
	start := []byte(xhttp2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x00\x04\x01\x00\x00\x00\x00")
	start = appendHeaders(appendHeaders(start, 1, first), 3, next)
	buf := make([]byte, 9)
	for range n {
		c := open()
		conns = append(conns, c)
		if _, err := c.Write(start); err != nil {
			t.Fatal(err)
		}
		for ends := 0; ends < 2; {
			if _, err := io.ReadFull(c, buf); err != nil {
				t.Fatal(err)
			}
			if buf[3] == 0 && buf[4]&1 != 0 {
				ends++
			}
			if _, err := io.CopyN(io.Discard, c, int64(buf[0])<<16|int64(buf[1])<<8|int64(buf[2])); err != nil {
				t.Fatal(err)
			}
		}
	}
	return conns
}

// untilGoroutines waits until there are no more than n goroutines: those of streams and writers end when Sweep finds that they rest.
func untilGoroutines(t *testing.T, n int) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%d goroutines, want %d", runtime.NumGoroutine(), n)
		}
	}
}

// inUse is the memory of heap and stacks that is in use after full collections: the first ones empty the pools and shrink the stacks.
func inUse() (heap, stacks int64) {
	for range 4 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
}
