package upstream

import (
	"slices"
	"sync"
	"time"
)

// sweeper is the one goroutine of a Registry: it closes idle connections that are too old or that their Pod has closed,
// cuts those that drain for too long, and drops Pools that no table uses. It visits only Endpoints that have something to
// visit for, and sleeps while there are none.
type sweeper struct {
	registry *Registry
	wake     chan struct{}

	mu        sync.Mutex
	endpoints []*Endpoint
	pools     []*Pool
}

// sweepInterval is how often idle connections are looked at: a Pod that closes its side, as many do after 5 s, gets its
// FIN answered within this time.
const sweepInterval = 5 * time.Second

func newSweeper(r *Registry) *sweeper {
	return &sweeper{registry: r, wake: make(chan struct{}, 1)}
}

// list has the sweeper visit e. The caller has set idle.listed, and only calls when it was not set before.
func (s *sweeper) list(e *Endpoint) {
	s.mu.Lock()
	s.endpoints = append(s.endpoints, e)
	first := len(s.endpoints) == 1
	s.mu.Unlock()
	if first {
		s.rouse()
	}
}

// dropLater has the sweeper drop p when it has been unused for long enough.
func (s *sweeper) dropLater(p *Pool) {
	s.mu.Lock()
	s.pools = append(s.pools, p)
	s.mu.Unlock()
	s.rouse()
}

func (s *sweeper) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// interval is the time between two visits, and the least time from listing to the first. It is never waited for by a
// request; but an Endpoint whose only connection is always busy would wake the sweeper with every request if the first
// visit came at once and found nothing.
func (s *sweeper) interval() time.Duration {
	o := &s.registry.o
	i := min(sweepInterval, s.registry.reuse.Load().IdleTimeout)
	if o.DrainTimeout > 0 {
		i = min(i, o.DrainTimeout)
	}
	return i
}

func (s *sweeper) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	due := time.Now().Add(time.Hour)
	for {
		select {
		case <-s.registry.ctx.Done():
			return
		case <-s.wake:
			if first := time.Now().Add(s.interval()); first.Before(due) {
				due = first
			}
		case <-timer.C:
			due = time.Now().Add(s.sweep())
		}
		timer.Reset(time.Until(due))
	}
}

// sweep visits everything once and returns how long the sweeper may sleep.
func (s *sweeper) sweep() time.Duration {
	s.mu.Lock()
	endpoints, pools := slices.Clone(s.endpoints), slices.Clone(s.pools)
	s.mu.Unlock()

	now := s.registry.now()
	interval := s.interval()
	sleep := time.Hour
	var stay []*Endpoint
	for _, e := range endpoints {
		if next := e.sweep(now); next > 0 {
			stay = append(stay, e)
			sleep = min(sleep, interval, time.Duration(next-now))
		}
	}
	var wait []*Pool
	for _, p := range pools {
		if left := s.registry.drop(p, now); left > 0 {
			wait = append(wait, p)
			sleep = min(sleep, time.Duration(left))
		}
	}
	// What was listed meanwhile comes after what was visited. It has not been left out for a moment: Shrink needs all.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = append(stay, s.endpoints[len(endpoints):]...)
	s.pools = append(wait, s.pools[len(pools):]...)
	if len(s.endpoints) > len(stay) || len(s.pools) > len(wait) {
		sleep = min(sleep, interval)
	}
	return max(sleep, time.Millisecond)
}

// sweep closes what has to be closed and returns when e must be visited again, 0 where there is nothing left to visit for.
func (e *Endpoint) sweep(now int64) (next int64) {
	timeout := int64(e.pool.registry.reuse.Load().IdleTimeout)
	for from := 0; ; from += sweepChunk {
		old, dead, more := e.idle.weed(from, now-timeout)
		for _, c := range old {
			_ = c.Close()
		}
		for _, c := range dead {
			c.stale()
		}
		if !more {
			break
		}
		from -= len(old) + len(dead)
	}
	return e.idle.due(now, timeout)
}

// sweepChunk is how many connections are looked at while a request may have to wait for the lock: about 10 µs.
const sweepChunk = 16

// weed takes idle connections off the stack that were put there at or before expiry, or are not quiet, looking at sweepChunk
// positions from the given one on. more says that there are others above.
func (i *idle) weed(from int, expiry int64) (old, dead []*Conn, more bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	to := min(from+sweepChunk, len(i.stack))
	keep := from
	for k := from; k < to; k++ {
		switch c := i.stack[k]; {
		case c.idleAt <= expiry:
			c.state = busy
			old = append(old, c)
		case !c.quiet():
			c.state = busy
			dead = append(dead, c)
		default:
			i.stack[keep] = c
			keep++
		}
	}
	if keep < to {
		n := copy(i.stack[keep:], i.stack[to:])
		clear(i.stack[keep+n:])
		i.stack = i.stack[:keep+n]
	}
	return old, dead, from+sweepChunk < len(i.stack)+len(old)+len(dead)
}

// due returns the next instant of interest: the oldest idle connection's end, or the end of the drain. It cuts the busy
// connections of a removed Endpoint when that has come.
func (i *idle) due(now, idleTimeout int64) int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.gone && i.opened > 0 && i.cutAt != 0 {
		if now < i.cutAt {
			return i.cutAt
		}
		for c := i.first; c != nil; c = c.next {
			// The transport itself: the request that uses the Conn gets an error and closes it.
			_ = c.socket.Close()
		}
	}
	if len(i.stack) > 0 {
		return i.stack[0].idleAt + idleTimeout
	}
	i.listed = false
	return 0
}

// shrink closes up to n idle connections.
func (s *sweeper) shrink(n int) int {
	s.mu.Lock()
	endpoints := slices.Clone(s.endpoints)
	s.mu.Unlock()
	closed := 0
	for _, e := range endpoints {
		if closed >= n {
			break
		}
		for _, c := range e.idle.takeOldest(n - closed) {
			_ = c.Close()
			closed++
		}
	}
	return closed
}

// takeOldest takes up to n connections from the bottom of the stack.
func (i *idle) takeOldest(n int) []*Conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	n = min(n, len(i.stack))
	taken := slices.Clone(i.stack[:n])
	rest := copy(i.stack, i.stack[n:])
	clear(i.stack[rest:])
	i.stack = i.stack[:rest]
	for _, c := range taken {
		c.state = busy
	}
	return taken
}
