package http2_test

import (
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// lapServer is a front whose requests go to a Pod over pods connections, without anything that a test's program allocates.
func lapServer(t testing.TB, conns []*http2.ClientConn) string {
	t.Helper()
	var next uint32
	var mu sync.Mutex
	v := newServer(t, http2.Options{}, nil)
	v.start = func(s *http2.Stream) {
		x := exchange.New()
		defer x.Release()
		if s.ReadRequest(x) != nil || x.Validate() != nil {
			t.Error("a request was refused")
			return
		}
		mu.Lock()
		c := conns[next%uint32(len(conns))]
		next++
		mu.Unlock()
		pod, err := c.Open()
		if err != nil {
			t.Error(err)
			return
		}
		defer pod.Close()
		pod.StartRequest(x)
		if err := pod.Finish(); err != nil {
			t.Error(err)
			return
		}
		if err := pod.ReadResponse(x); err != nil {
			t.Error(err)
			return
		}
		x.Response.RemoveHopByHop()
		s.StartResponse(x, http2.KeepOpen)
		download(s, pod, x)
	}
	return v.listen(t)
}

// helloPod is a Pod made of our own server.
func helloPod(t testing.TB) string {
	t.Helper()
	body := []byte("hello")
	v := newServer(t, http2.Options{MaxStreams: 1000}, nil)
	v.start = func(s *http2.Stream) {
		x := exchange.New()
		defer x.Release()
		_ = s.ReadRequest(x)
		x.Response.Status = 200
		x.Response.Body = fiveBytes{}
		s.StartResponse(x, http2.KeepOpen)
		_ = s.Write(body)
		_ = s.Finish(x)
	}
	return v.listen(t)
}

func connectPods(t testing.TB, n int) (conns []*http2.ClientConn) {
	t.Helper()
	addr := helloPod(t)
	v := newPods(t, http2.Options{})
	for range n {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := v.serve(nc)
		for late := time.Now().Add(10 * time.Second); c.Room() < 1000; time.Sleep(time.Millisecond) {
			if time.Now().After(late) {
				t.Fatal("no SETTINGS")
			}
		}
		conns = append(conns, c)
	}
	return conns
}

// TestLapAllocates: a request from a client to a Pod and back allocates no more than the strings of the Pod's header block: x/net's decoder
// makes one of each value that is not in its table, and ours puts none there.
func TestLapAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops values at random under the race detector")
	}
	const n = 20_000
	addr := lapServer(t, connectPods(t, 2))
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
	// At the Pod: seven values of the request and the names of those that have no index; at our side: three values of the answer.
	t.Logf("%.2f allocations per request", got)
	if got > 14 {
		t.Error("too many")
	}
}

// TestLapCost prints what a request costs from the client to a Pod and back, with the Pod in the same process.
func TestLapCost(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("a measurement")
	}
	const n = 64_000
	addr := lapServer(t, connectPods(t, 4))
	cost(t, addr, n/10)
	d := cost(t, addr, n)
	t.Logf("CPU per request: %.2f µs, %d connections x %d streams over 4 connections to a Pod, which is counted too",
		float64(d.Nanoseconds())/1e3/n, loadConns, loadStreams)
}

// fiveBytes is a Body that is written without being pulled.
type fiveBytes struct{}

func (fiveBytes) Next() ([]byte, error) { return nil, io.EOF }
func (fiveBytes) Length() int64         { return 5 }
