package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web = router.ServicePort{Namespace: "shop", Name: "web", Port: "http"}

// pods returns n ready addresses, 10.0.0.1:80 and so on, with UIDs u1 and so on.
func pods(n int) []router.Address {
	all := make([]router.Address, n)
	for i := range all {
		all[i] = pod(i + 1)
	}
	return all
}

func pod(i int) router.Address {
	return router.Address{
		AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80),
		UID:      fmt.Sprintf("u%d", i), Pod: fmt.Sprintf("web-%d", i), Ready: true, Serving: true,
	}
}

func at(a string, uid string) router.Address {
	return router.Address{AddrPort: netip.MustParseAddrPort(a), UID: uid, Ready: true, Serving: true}
}

// registry returns a Registry that is closed when the test ends.
func registry(t testing.TB, o Options) *Registry {
	t.Helper()
	r := NewRegistry(o)
	t.Cleanup(r.Close)
	return r
}

// pool returns a Pool of web with the given addresses.
func pool(t testing.TB, r *Registry, addrs ...router.Address) *Pool {
	t.Helper()
	p, added := r.Ensure(web)
	if !added {
		t.Fatal("the pool is not new")
	}
	set(r, addrs...)
	return p
}

func set(r *Registry, addrs ...router.Address) {
	r.SetAddresses(web.Service(), map[string][]router.Address{web.Port: addrs})
}

// byPod returns the Endpoint in use with the given UID.
func byUID(t testing.TB, p *Pool, uid string) *Endpoint {
	t.Helper()
	for _, e := range p.members.Load().inUse {
		if e.UID() == uid {
			return e
		}
	}
	t.Fatalf("no endpoint %s is in use", uid)
	return nil
}

// spread makes n picks and returns how often each UID was chosen.
func spread(v *View, n int) map[string]int {
	x := exchange.New()
	defer x.Release()
	got := map[string]int{}
	for range n {
		e := v.Next(x, nil)
		if e == nil {
			got["none"]++
			continue
		}
		got[e.UID()]++
	}
	return got
}

// pipes is a DialFunc without a network, for synctest: each connection's other end is kept by address.
type pipes struct {
	mu    sync.Mutex
	ends  map[netip.AddrPort][]net.Conn
	fail  map[netip.AddrPort]error
	delay time.Duration
	deaf  bool // does not heed the context
}

func (p *pipes) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	if p.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if p.delay > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(p.delay):
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fail[a]; err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	if p.ends == nil {
		p.ends = map[netip.AddrPort][]net.Conn{}
	}
	p.ends[a] = append(p.ends[a], theirs)
	return ours, nil
}

// dial acquires and dials e, and fails the test where that fails.
func dial(t testing.TB, e *Endpoint) *Conn {
	t.Helper()
	c, err := acquire(e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// acquire is what the engine does: take an idle connection or dial.
func acquire(e *Endpoint) (*Conn, error) {
	c, err := e.Acquire(Profile{})
	if c != nil || err != nil {
		return c, err
	}
	return e.Dial(time.Time{}, Profile{})
}

// listen returns a server on loopback; every accepted connection is handed to serve on its own goroutine.
func listen(t testing.TB, address string, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// echo answers every byte with itself.
func echo(c net.Conn) {
	var b [512]byte
	for {
		n, err := c.Read(b[:])
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// descriptors is the number of open descriptors of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("descriptors cannot be counted on %s: %v", runtime.GOOS, err)
	}
	return len(d)
}

// sameDescriptors fails the test if it ends with more descriptors than it began with.
func sameDescriptors(t *testing.T) {
	t.Helper()
	before := descriptors(t)
	t.Cleanup(func() {
		for range 100 {
			if descriptors(t) <= before {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%d descriptors before the test, %d after it", before, descriptors(t))
	})
}

// eventually waits for a condition that another goroutine or the kernel brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("still not: %s", what)
}
