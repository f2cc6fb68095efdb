package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/router"
)

func TestUncount(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{ServiceLimit: 1, EndpointLimit: 1}), at(a.String(), "u"))
	e := byUID(t, p, "u")
	tunnel := dial(t, e)
	if _, err := e.Acquire(Profile{}); !errors.Is(err, ErrEndpointLimit) || KindOf(err) != Limited {
		t.Errorf("second request: %v", err)
	}
	tunnel.Uncount()
	tunnel.Uncount()
	c := dial(t, e)
	c.Discard()
	tunnel.Discard()
	if e.InFlight() != 0 || p.service.inflight.Load() != 0 {
		t.Errorf("in flight %d, of the service %d", e.InFlight(), p.service.inflight.Load())
	}
}

func TestServiceLimit(t *testing.T) {
	p := pool(t, registry(t, Options{ServiceLimit: 2}), pods(3)...)
	for _, uid := range []string{"u1", "u2"} {
		if err := byUID(t, p, uid).Reserve(); err != nil {
			t.Fatal(err)
		}
	}
	e := byUID(t, p, "u3")
	if err := e.Reserve(); !errors.Is(err, ErrServiceLimit) {
		t.Errorf("third of two: %v", err)
	}
	byUID(t, p, "u1").Cancel()
	if err := e.Reserve(); err != nil {
		t.Errorf("after one ended: %v", err)
	}
}

func TestServiceConnections(t *testing.T) {
	sameDescriptors(t)
	a := listen(t, "127.0.0.1:0", echo)
	r := registry(t, Options{ServiceConnections: 2})
	p := pool(t, r, at(a.String(), "u"), at(a.String(), "v"))
	u, v := byUID(t, p, "u"), byUID(t, p, "v")
	c1, c2 := dial(t, u), dial(t, u)
	if _, err := acquire(v); !errors.Is(err, ErrServiceLimit) {
		t.Errorf("third of two: %v", err)
	}
	if u.InFlight() != 2 || v.InFlight() != 0 {
		t.Errorf("in flight %d and %d", u.InFlight(), v.InFlight())
	}
	// An idle connection to one Endpoint must not keep requests from another.
	c1.Put()
	c3, err := acquire(v)
	if err != nil {
		t.Fatalf("an idle connection was not given up: %v", err)
	}
	c2.Discard()
	c3.Discard()
}

func TestDialErrors(t *testing.T) {
	refused := listen(t, "127.0.0.1:0", echo)
	for _, c := range []struct {
		name string
		err  error
		want Failure
	}{
		{"refused", nil, Refused},
		{"timeout", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, Timeout},
		{"kernel timeout", os.NewSyscallError("connect", syscall.ETIMEDOUT), Timeout},
		{"context", context.DeadlineExceeded, Timeout},
		{"canceled", context.Canceled, Canceled},
		{"no route", os.NewSyscallError("connect", syscall.EHOSTUNREACH), Unreachable},
		{"no descriptors", os.NewSyscallError("socket", syscall.EMFILE), Local},
		{"no descriptors in the system", os.NewSyscallError("socket", syscall.ENFILE), Local},
		{"no ports", os.NewSyscallError("connect", syscall.EADDRNOTAVAIL), Local},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{}
			addr := netip.AddrPortFrom(refused.Addr(), 1) // nobody listens on port 1
			if c.err != nil {
				o.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, c.err }
			}
			var observed error
			o.Observer.OnConnect = func(_ *Endpoint, _ time.Duration, err error) { observed = err }
			p := pool(t, registry(t, o), router.Address{AddrPort: addr, UID: "u", Pod: "web-1", Ready: true})
			e := byUID(t, p, "u")
			conn, err := acquire(e)
			var d *DialError
			if conn != nil || !errors.As(err, &d) || KindOf(err) != c.want || d.Timeout() != (c.want == Timeout) {
				t.Fatalf("got %v, %v (%v), want %v", conn, err, KindOf(err), c.want)
			}
			if c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%v does not wrap %v", err, c.err)
			}
			if !errors.Is(observed, err) || e.InFlight() != 0 || p.registry.Open() != 0 {
				t.Errorf("observed %v, %d in flight, %d open", observed, e.InFlight(), p.registry.Open())
			}
		})
	}
}

func TestDialDeadline(t *testing.T) {
	black := func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	p := pool(t, registry(t, Options{Dial: black, ConnectTimeout: time.Millisecond}), pods(1)...)
	e := byUID(t, p, "u1")
	for _, deadline := range []time.Time{{}, time.Now().Add(time.Millisecond)} {
		if err := e.Reserve(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Dial(deadline, Profile{}); KindOf(err) != Timeout {
			t.Errorf("deadline %v: %v", deadline, err)
		}
	}
}

func TestDialMakesRoom(t *testing.T) {
	sameDescriptors(t)
	a := listen(t, "127.0.0.1:0", echo)
	r := registry(t, Options{})
	p := pool(t, r, at(a.String(), "u"), at(a.String(), "v"))
	u, v := byUID(t, p, "u"), byUID(t, p, "v")
	c1, c2, c3 := dial(t, u), dial(t, u), dial(t, u)
	for _, c := range []*Conn{c1, c2, c3} {
		say(t, c, "x")
	}
	exhaust(t)
	if _, err := acquire(v); KindOf(err) != Local || !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("with no descriptor left: %v", err)
	}
	c1.Put()
	c2.Put()
	c, err := acquire(v)
	if err != nil {
		t.Fatalf("no room was made: %v", err)
	}
	say(t, c, "y")
	say(t, c3, "the busy one lives")
	c.Discard()
	c3.Discard()
}

func exhaust(t *testing.T) {
	t.Helper()
	var old, low unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low = old
	low.Cur = uint64(descriptors(t) + 10)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var taken []*os.File
	t.Cleanup(func() {
		for _, f := range taken {
			_ = f.Close()
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, f)
	}
}

func TestShrink(t *testing.T) {
	sameDescriptors(t)
	a := listen(t, "127.0.0.1:0", echo)
	r := registry(t, Options{})
	p := pool(t, r, at(a.String(), "u"), at(a.String(), "v"))
	for _, uid := range []string{"u", "v"} {
		e := byUID(t, p, uid)
		for _, c := range []*Conn{dial(t, e), dial(t, e), dial(t, e)} {
			c.Put()
		}
	}
	if n := r.Shrink(4); n != 4 || r.Open() != 2 {
		t.Errorf("closed %d, %d left", n, r.Open())
	}
	if n := r.Shrink(4); n != 2 || r.Open() != 0 {
		t.Errorf("closed %d, %d left", n, r.Open())
	}
}
