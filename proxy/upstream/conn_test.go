package upstream

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// say writes to c and reads the same bytes back, so that the connection is known to work.
func say(t testing.TB, c *Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(s))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != s {
		t.Fatalf("said %q, got %q, %v", s, b, err)
	}
}

func TestReuseIsLIFO(t *testing.T) {
	sameDescriptors(t)
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{}), at(a.String(), "u"))
	e := byUID(t, p, "u")
	c1, c2 := dial(t, e), dial(t, e)
	say(t, c1, "one")
	say(t, c2, "two")
	if c1.Reused || e.InFlight() != 2 {
		t.Errorf("reused %v, %d in flight", c1.Reused, e.InFlight())
	}
	c1.Codec = "state"
	c1.Put()
	c2.Put()
	if got := dial(t, e); got != c2 || !got.Reused {
		t.Errorf("the connection used last was not the first to be reused")
	}
	got := dial(t, e)
	if got != c1 || got.Codec != "state" || got.Requests() != 1 {
		t.Errorf("the codec's state was lost: %+v", got.Codec)
	}
	say(t, got, "again")
	got.Put()
	c2.Discard()
	if e.InFlight() != 0 || p.registry.Open() != 1 {
		t.Errorf("%d in flight, %d open", e.InFlight(), p.registry.Open())
	}
}

func TestProfilesDoNotMix(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{}), at(a.String(), "u"))
	e := byUID(t, p, "u")
	tls := Profile{ServerName: "a.example"}
	plain := dial(t, e)
	say(t, plain, "x")
	if err := e.Reserve(); err != nil {
		t.Fatal(err)
	}
	secret, err := e.Dial(time.Time{}, tls)
	if err != nil {
		t.Fatal(err)
	}
	say(t, secret, "x")
	plain.Put()
	secret.Put()
	for _, want := range []*Conn{plain, secret} {
		got, err := e.Acquire(want.Profile())
		if err != nil || got != want {
			t.Errorf("asked for %+v, got %v, %v", want.Profile(), got, err)
		}
		got.Put()
	}
	if c, err := e.Acquire(Profile{Protocol: HTTP2}); c != nil || err != nil {
		t.Errorf("a profile that was never dialed got %v, %v", c, err)
	}
	e.Cancel()
}

// F5 and A15: a connection that the Pod closed, reset or wrote on is never used again.
func TestStaleConnectionIsNotReused(t *testing.T) {
	sameDescriptors(t)
	for _, c := range []struct {
		name string
		act  func(*net.TCPConn)
	}{
		{"closed", func(c *net.TCPConn) { _ = c.Close() }},
		{"half-closed", func(c *net.TCPConn) { _ = c.CloseWrite() }},
		{"reset", func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }},
		{"unsolicited answer", func(c *net.TCPConn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")) }},
		{"one byte", func(c *net.TCPConn) { _, _ = c.Write([]byte("\n")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sawIdle, acted, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
			a := listen(t, "127.0.0.1:0", func(conn net.Conn) {
				var b [1]byte
				_, _ = conn.Read(b[:])
				_, _ = conn.Write(b[:])
				<-sawIdle
				c.act(conn.(*net.TCPConn))
				close(acted)
				<-over
			})
			var stale atomic.Int32
			p := pool(t, registry(t, Options{Observer: Observer{OnStale: func(*Endpoint) { stale.Add(1) }}}), at(a.String(), "u"))
			e := byUID(t, p, "u")
			conn := dial(t, e)
			say(t, conn, "x")
			conn.Put()
			if again, _ := e.Acquire(Profile{}); again != conn {
				t.Fatal("a good connection was not reused")
			}
			conn.Put()
			close(sawIdle)
			<-acted
			// Loopback delivers in order of the calls, but not before they return.
			eventually(t, "the connection has something to read", func() bool {
				e.idle.mu.Lock() // the sweeper may look at the same time
				defer e.idle.mu.Unlock()
				return !conn.probe.quiet()
			})
			if again, err := e.Acquire(Profile{}); again != nil || err != nil {
				t.Errorf("got the stale connection, %v", err)
			}
			e.Cancel()
			// It was the sweeper's or Acquire's find, but not both's.
			eventually(t, "the connection is closed", func() bool { return p.registry.Open() == 0 })
			if stale.Load() != 1 || e.InFlight() != 0 {
				t.Errorf("stale %d, in flight %d", stale.Load(), e.InFlight())
			}
			close(over)
		})
	}
}

// An old read deadline says nothing about the connection.
func TestExpiredDeadlineIsNotStale(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{}), at(a.String(), "u"))
	e := byUID(t, p, "u")
	c := dial(t, e)
	say(t, c, "x")
	if err := c.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	c.Put()
	if again, _ := e.Acquire(Profile{}); again != c {
		t.Error("the connection was not reused")
	}
	c.Discard()
}

func TestIdleCapClosesTheOldest(t *testing.T) {
	sameDescriptors(t)
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{MaxIdlePerEndpoint: 2}), at(a.String(), "u"))
	e := byUID(t, p, "u")
	c := []*Conn{dial(t, e), dial(t, e), dial(t, e)}
	for _, c := range c {
		c.Put()
	}
	if _, err := c[0].Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the oldest is still open: %v", err)
	}
	if got := dial(t, e); got != c[2] || p.registry.Open() != 2 {
		t.Errorf("open %d", p.registry.Open())
	}
	c[2].Discard()
}

func TestNoIdleConnections(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{MaxIdlePerEndpoint: -1}), at(a.String(), "u"))
	c := dial(t, byUID(t, p, "u"))
	c.Put()
	if p.registry.Open() != 0 {
		t.Error("the connection was kept")
	}
}

func TestConnectionServesSoManyRequests(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{MaxRequests: 3}), at(a.String(), "u"))
	e := byUID(t, p, "u")
	first := dial(t, e)
	first.Put()
	for range 2 {
		if c := dial(t, e); c != first {
			t.Fatal("closed too early")
		}
		first.Put()
	}
	if c := dial(t, e); c == first {
		t.Error("used a fourth time")
	} else {
		c.Discard()
	}
}

func TestPutTwicePanics(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{}), at(a.String(), "u"))
	c := dial(t, byUID(t, p, "u"))
	c.Put()
	defer func() {
		if recover() == nil {
			t.Error("a connection was pooled twice: two requests would share it")
		}
	}()
	c.Put()
}

func TestClosedConnectionIsNotPooled(t *testing.T) {
	sameDescriptors(t)
	a := listen(t, "127.0.0.1:0", echo)
	p := pool(t, registry(t, Options{}), at(a.String(), "u"))
	e := byUID(t, p, "u")
	c := dial(t, e)
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	c.Put()
	if s := state(t, p, "u"); s.Idle != 0 || s.Open != 0 {
		t.Errorf("a closed connection was pooled: %+v", s)
	}
	if got, _ := e.Acquire(Profile{}); got != nil {
		t.Error("a closed connection was pooled")
	}
	e.Cancel()
	if p.registry.Open() != 0 || e.InFlight() != 0 {
		t.Errorf("open %d, in flight %d", p.registry.Open(), e.InFlight())
	}
}

// Upgraded connections do not count against limits, nor weigh in the balance.
// F24: one Service may not take every descriptor.
// F17: when the process is out of descriptors, idle connections make room for the request that needs one.
// exhaust leaves the process without a free descriptor until the test ends.
func TestCloseClosesIdle(t *testing.T) {
	sameDescriptors(t)
	a := listen(t, "127.0.0.1:0", echo)
	r := NewRegistry(Options{})
	p, _ := r.Ensure(web)
	set(r, at(a.String(), "u"))
	e := byUID(t, p, "u")
	idle, used := dial(t, e), dial(t, e)
	idle.Put()
	r.Close()
	if _, err := idle.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("an idle connection outlived its registry: %v", err)
	}
	say(t, used, "busy")
	used.Put()
	if r.Open() != 0 {
		t.Error("a busy connection was pooled after the end")
	}
	if _, err := e.Acquire(Profile{}); !errors.Is(err, ErrGone) {
		t.Errorf("acquire after the end: %v", err)
	}
	r.Close()
}
