package upstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// carrier is a connection that carries up to limit requests.
type carrier struct {
	c *Conn

	mu           sync.Mutex
	limit, taken int
	leaving      bool
}

func (c *carrier) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.leaving
}

func (c *carrier) Limit() int { return c.limit }

func (c *carrier) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

func (c *carrier) Shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	if c.taken == 0 {
		go c.c.Close() //nolint:errcheck // as the goroutine of a connection does
	}
}

func (c *carrier) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken--; c.taken == 0 && c.leaving {
		go c.c.Close() //nolint:errcheck // as above
	}
}

// sharer is a request.
type sharer struct {
	limit int
	begun *atomic.Int64
	begin func(context.Context) error // may be nil
	took  *carrier
}

func (s *sharer) Begin(ctx context.Context, c *Conn) (Carrier, error) {
	s.begun.Add(1)
	if s.begin != nil {
		if err := s.begin(ctx); err != nil {
			return nil, err
		}
	}
	return &carrier{c: c, limit: s.limit}, nil
}

func (s *sharer) Take(c Carrier) bool {
	s.took = c.(*carrier)
	s.took.mu.Lock()
	defer s.took.mu.Unlock()
	if s.took.leaving || s.took.taken == s.took.limit {
		return false
	}
	s.took.taken++
	return true
}

var shared = Profile{Protocol: HTTP2}

func share(t testing.TB, e *Endpoint, s *sharer) *Conn {
	t.Helper()
	if err := e.Reserve(); err != nil {
		t.Fatal(err)
	}
	c, _, err := e.Share(shared, 0, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Requests that come while a connection is dialed wait for it, and where it has no room for all the rest dial together, not one after the other.
func TestShareJoinsDials(t *testing.T) {
	for _, row := range []struct {
		limit, requests int
		want            int64
	}{{100, 100, 1}, {10, 30, 3}, {1, 8, 8}} {
		a := listen(t, "127.0.0.1:0", echo)
		p := pool(t, registry(t, Options{}), at(a.String(), "u"))
		e := byUID(t, p, "u")
		var begun atomic.Int64
		var all, took sync.WaitGroup
		took.Add(row.requests)
		for range row.requests {
			all.Go(func() {
				s := &sharer{limit: row.limit, begun: &begun}
				share(t, e, s)
				took.Done()
				took.Wait() // at one time
				e.Cancel()
				s.took.done()
			})
		}
		all.Wait()
		if n := begun.Load(); n < row.want || n > row.want+int64(row.requests/row.limit) {
			t.Errorf("%d requests at a time, %d on a connection: %d dials, want %d", row.requests, row.limit, n, row.want)
		}
		if e.InFlight() != 0 {
			t.Errorf("%d in flight", e.InFlight())
		}
	}
}

// A connection that fails after the connect fails all who wait for it, counts as a connect that failed, and leaves nothing open.
func TestShareFails(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	r := registry(t, Options{ConnectTimeout: 100 * time.Millisecond})
	p := pool(t, r, at(a.String(), "u"))
	e := byUID(t, p, "u")
	for _, row := range []struct {
		begin func(context.Context) error
		want  Failure
	}{
		{func(context.Context) error { return errors.New("no HTTP/2") }, Handshake},
		{func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, Timeout},
	} {
		var begun atomic.Int64
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if err := e.Reserve(); err != nil {
					t.Error(err)
					return
				}
				defer e.Cancel()
				if _, _, err := e.Share(shared, 0, 0, &sharer{limit: 10, begun: &begun, begin: row.begin}); KindOf(err) != row.want {
					t.Errorf("%v, want %v", err, row.want)
				}
			})
		}
		all.Wait()
		if r.Open() != 0 || e.InFlight() != 0 {
			t.Errorf("%d open, %d in flight", r.Open(), e.InFlight())
		}
	}
}

// An Endpoint that leaves ends its connections after their requests, gives nothing to new ones, and is forgotten.
func TestShareOfEndpointThatLeaves(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	r := registry(t, Options{})
	p := pool(t, r, at(a.String(), "u"))
	e := byUID(t, p, "u")
	s := &sharer{limit: 10, begun: new(atomic.Int64)}
	share(t, e, s)
	p.set(nil)
	if s.took.Usable() {
		t.Error("the connection takes requests")
	}
	if err := e.Reserve(); !errors.Is(err, ErrGone) {
		t.Errorf("Reserve: %v", err)
	}
	if _, _, err := e.Share(shared, 0, 0, &sharer{limit: 10, begun: s.begun}); !errors.Is(err, ErrGone) {
		t.Errorf("Share: %v", err)
	}
	if r.Open() != 1 {
		t.Errorf("%d open while a request is under way", r.Open())
	}
	e.Cancel()
	s.took.done()
	eventually(t, "the endpoint to be forgotten", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return r.Open() == 0 && len(p.known) == 0
	})
}

// A connection ends after as many requests as the Options allow, and others go over the next.
func TestSharedConnectionIsSpent(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	r := registry(t, Options{MaxRequests: 3})
	e := byUID(t, pool(t, r, at(a.String(), "u")), "u")
	var begun atomic.Int64
	for range 9 {
		s := &sharer{limit: 10, begun: &begun}
		share(t, e, s)
		e.Cancel()
		s.took.done()
	}
	if n := begun.Load(); n != 3 {
		t.Errorf("%d dials for 9 requests, want 3", n)
	}
	eventually(t, "the spent ones to end", func() bool { return r.Open() <= 1 })
}

// Since keeps from connections that may have died with the one that did.
func TestShareSince(t *testing.T) {
	a := listen(t, "127.0.0.1:0", echo)
	e := byUID(t, pool(t, registry(t, Options{}), at(a.String(), "u")), "u")
	s := &sharer{limit: 10, begun: new(atomic.Int64)}
	old := share(t, e, s)
	fresh := &sharer{limit: 10, begun: s.begun}
	if err := e.Reserve(); err != nil {
		t.Fatal(err)
	}
	c, isFresh, err := e.Share(shared, e.Now(), 0, fresh)
	if err != nil || c == old || !isFresh {
		t.Errorf("%v, %v: the old one %v", isFresh, err, c == old)
	}
}

// At the Service's limit of connections a shared one without requests gives way.
func TestSharedConnectionGivesWay(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0", echo), listen(t, "127.0.0.1:0", echo)
	r := registry(t, Options{ServiceConnections: 1})
	p := pool(t, r, at(a.String(), "a"), at(b.String(), "b"))
	first := &sharer{limit: 10, begun: new(atomic.Int64)}
	share(t, byUID(t, p, "a"), first)
	if err := byUID(t, p, "b").Reserve(); err != nil {
		t.Fatal(err)
	}
	second := &sharer{limit: 10, begun: first.begun}
	if _, _, err := byUID(t, p, "b").Share(shared, 0, 0, second); KindOf(err) != Limited {
		t.Errorf("while it is busy: %v", err)
	}
	first.took.done()
	if _, _, err := byUID(t, p, "b").Share(shared, 0, 0, second); err != nil {
		t.Errorf("when it is idle: %v", err)
	}
}
