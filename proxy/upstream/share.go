package upstream

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Connections of HTTP/2 carry many requests at a time. An Endpoint has a few of them for each Profile: a further one is dialed where all that are
// open are full, and requests that come meanwhile wait for that dial and do not dial themselves.

// Carrier is the engine's codec of a connection that many requests share. Its methods may be called from any goroutine.
type Carrier interface {
	// Usable reports whether it takes requests, now or when others have ended.
	Usable() bool
	// Limit is how many requests the Pod takes at a time, Streams how many there are.
	Limit() int
	Streams() int
	// Shutdown takes no more requests, and ends the connection after the last.
	Shutdown()
}

// Sharer is a request that looks for room on a connection.
type Sharer interface {
	// Begin makes the Carrier of a fresh connection, by the end of ctx. From then on it is the Carrier's owner who closes c; on error Share does.
	Begin(ctx context.Context, c *Conn) (Carrier, error)
	// Take takes room for the request, and reports whether there was any. It must be quick, and not call this package.
	Take(Carrier) bool
}

// sharing is an Endpoint's connections that are shared.
type sharing struct {
	mu     sync.Mutex
	conns  []*Conn
	dials  []*sharedDial
	limit  int  // what the Pod said last
	closed bool // the Endpoint is not in use
}

// sharedDial is a dial under way. err is set before done is closed.
type sharedDial struct {
	profile Profile
	joined  int
	done    chan struct{}
	err     error
}

const (
	// presumedLimit is how many requests a Pod is taken to carry on one connection before it says so.
	presumedLimit = 100
	// maxTurns bounds how often a request waits for a dial and finds that others were faster.
	maxTurns = 64
)

// Now is the time on the Registry's clock, for Share.
func (e *Endpoint) Now() int64 { return e.pool.registry.now() }

// Share finds room for u on a connection of the profile: on one that is open, or on a fresh one. With since, on one that was dialed after that
// time on the Registry's clock. A dial of its own may take as long as limit says, 0 for Options.ConnectTimeout. It must follow a Reserve, which stays the caller's, who gives it back by Cancel. fresh says that the request is the
// connection's first. The errors are those of Dial.
func (e *Endpoint) Share(profile Profile, since int64, limit time.Duration, u Sharer) (c *Conn, fresh bool, err error) {
	s := &e.shared
	for range maxTurns {
		s.mu.Lock()
		if c := e.take(&profile, since, u); c != nil {
			fresh := c.requests == 1
			s.mu.Unlock()
			if f := e.pool.registry.o.Observer.OnReuse; f != nil && !fresh {
				f(e)
			}
			return c, fresh, nil
		}
		d, own := s.join(&profile)
		s.mu.Unlock()
		if own {
			c, err := e.dialShared(d, limit, u)
			return c, true, err
		}
		if <-d.done; d.err != nil {
			return nil, false, d.err
		}
	}
	return nil, false, ErrEndpointLimit
}

// take finds room on an open connection. The caller holds mu.
func (e *Endpoint) take(profile *Profile, since int64, u Sharer) *Conn {
	s := &e.shared
	now := e.pool.registry.now()
	for i := 0; i < len(s.conns); {
		c := s.conns[i]
		spent := c.spent(now)
		if spent || !c.carrier.Usable() {
			// It ends by itself, after the last request.
			s.conns = slices.Delete(s.conns, i, i+1)
			if spent {
				c.carrier.Shutdown()
			}
			continue
		}
		if c.created >= since && c.profile.same(profile) && u.Take(c.carrier) {
			c.requests++
			return c
		}
		i++
	}
	return nil
}

// join returns the dial to wait for, or one that is the caller's own. The caller holds mu.
func (s *sharing) join(profile *Profile) (d *sharedDial, own bool) {
	limit := s.limit
	if limit == 0 {
		limit = presumedLimit
	}
	for _, d := range s.dials {
		if d.profile.same(profile) && d.joined < limit {
			d.joined++
			return d, false
		}
	}
	d = &sharedDial{profile: *profile, joined: 1, done: make(chan struct{})}
	s.dials = append(s.dials, d)
	return d, true
}

// dialShared dials for all who have joined d, and takes room for u first.
func (e *Endpoint) dialShared(d *sharedDial, limit time.Duration, u Sharer) (c *Conn, err error) {
	s := &e.shared
	defer func() {
		s.mu.Lock()
		s.dials = slices.DeleteFunc(s.dials, func(other *sharedDial) bool { return other == d })
		s.mu.Unlock()
		if d.err = err; c == nil && err == nil {
			d.err = ErrGone // a panic
		}
		close(d.done)
	}()
	ctx, cancel := context.WithTimeout(e.pool.registry.ctx, cmp.Or(limit, e.pool.registry.o.ConnectTimeout))
	defer cancel()
	c, err = e.connect(ctx, &d.profile, u.Begin)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.limit = c.carrier.Limit()
	taken := !s.closed && u.Take(c.carrier)
	if taken {
		c.requests++
		s.conns = append(s.conns, c)
	}
	full := !taken && !s.closed && c.carrier.Usable()
	s.mu.Unlock()
	switch {
	case taken:
		return c, nil
	case full:
		// The Pod allows no request at all: another connection to it would be no better.
		err = ErrEndpointLimit
	default:
		err = ErrGone
	}
	c.carrier.Shutdown()
	return nil, err
}

// stand opens or closes s with its Endpoint. What is open takes no more requests then, and ends after the last.
func (s *sharing) stand(inUse bool) {
	s.mu.Lock()
	s.closed = !inUse
	var leaving []*Conn
	if s.closed {
		leaving, s.conns = s.conns, nil
	}
	s.mu.Unlock()
	for _, c := range leaving {
		c.carrier.Shutdown()
	}
}

// forget removes a connection that was closed.
func (s *sharing) forget(c *Conn) {
	s.mu.Lock()
	s.conns = slices.DeleteFunc(s.conns, func(other *Conn) bool { return other == c })
	s.mu.Unlock()
}

// takeIdle removes a connection without requests, and returns it, or nil.
func (s *sharing) takeIdle() *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.conns {
		if c.carrier.Streams() == 0 {
			s.conns = slices.Delete(s.conns, i, i+1)
			return c
		}
	}
	return nil
}

// begin makes a connection a shared one, within the time for connecting.
func (c *Conn) begin(ctx context.Context, begin func(context.Context, *Conn) (Carrier, error)) error {
	c.created = c.endpoint.pool.registry.now()
	carrier, err := begin(ctx, c)
	if err == nil {
		c.carrier = carrier
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return err
}
