package upstream

import (
	"slices"
	"sync"
	"time"
)

// Whoever closes a TCP connection first keeps its port for a minute (TIME_WAIT). A Pod that closes after every answer would use up the
// proxy's 28,000 ports within a minute at 500 requests a second, so the proxy lets such a Pod close first: a connection that has
// nothing more to carry waits for that among the retired, at most for a second.

const (
	retireTime = time.Second
	retireTick = 5 * time.Millisecond
	maxRetired = 1024
)

// retired are the connections that wait for their Pods to close. One goroutine looks at them while there are any.
type retired struct {
	mu    sync.Mutex
	conns []retiree
}

type retiree struct {
	c     *Conn
	until int64 // of the Registry's clock
}

// Retire ends the last request of a connection whose Pod has given its whole answer and said that it closes.
func (c *Conn) Retire() {
	r := c.endpoint.pool.registry
	c.Uncount()
	if c.closed.Load() || !c.quiet() || !r.retired.add(c, r.now()+int64(retireTime), r) {
		_ = c.Close()
	}
}

// add reports whether c waits now.
func (l *retired) add(c *Conn, until int64, r *Registry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) >= maxRetired || r.ctx.Err() != nil {
		return false
	}
	l.conns = append(l.conns, retiree{c, until})
	if len(l.conns) == 1 {
		r.tasks.Go(func() { l.run(r) })
	}
	return true
}

// run looks at the connections until none is left.
func (l *retired) run(r *Registry) {
	tick := time.NewTicker(retireTick)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
		case <-tick.C:
		}
		if l.sweep(r.now(), r.ctx.Err() != nil) == 0 {
			return
		}
	}
}

// sweep closes the connections that their Pods have closed, or that have waited long enough, and returns how many are left.
func (l *retired) sweep(now int64, all bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = slices.DeleteFunc(l.conns, func(w retiree) bool {
		done := all || now >= w.until || w.c.closed.Load() || !w.c.quiet()
		if done {
			_ = w.c.Close()
		}
		return done
	})
	return len(l.conns)
}
