package proxy

import (
	"runtime/debug"
	"syscall"
	"time"
)

// A connection that waits for its next request for long needs no goroutine: the goroutine's stack is most of what it costs. Its
// goroutine leaves the socket to the engine's watcher and ends, and another one goes on when something has come, or when the wait is
// interrupted. The sweeper, the gate and Shutdown see no difference: the word says what the connection waits for, as ever.

// sleep gives up the goroutine that calls it, which must not touch c again, and reports whether it did.
func (c *conn) sleep() bool {
	sc, ok := c.tcp.(syscall.Conn)
	if !ok || c.e.watcher == nil {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	if c.enter(parked, c.limitOf(parked)) != unmarked {
		return false
	}
	c.e.sweeper.park(c)
	c.asleep.Store(true)
	// From here on whoever makes asleep false has the connection: those who mark its word or close it do so before they wake it, the watcher
	// when something has come.
	if markOf(c.main.word.Load()) != unmarked || c.aborted.Load() || c.e.watcher.Watch(raw, c) != nil {
		if !c.asleep.CompareAndSwap(true, false) {
			return true
		}
		c.e.sweeper.unpark(c)
		return false
	}
	c.e.slept.Add(1)
	return true
}

// Asleep reports whether the connection has no goroutine.
func (c *conn) Asleep() bool { return c.asleep.Load() }

// Wake gives a sleeping connection a goroutine again.
func (c *conn) Wake() {
	if c.asleep.CompareAndSwap(true, false) {
		c.e.watcher.Forget(c.fd, c)
		go c.live(func() bool { c.e.sweeper.unpark(c); return c.serve(parked) })
	}
}

// Stacks of goroutines that have ended are given back by the garbage collector, which an idle process would run every two minutes only,
// and to the system not before the second time. To do it at once costs a pause, so it is done for a process that is nearly idle, and seldom.
const (
	// collectAfter is the number of connections that fell asleep since the last time, for which it is worth its cost.
	collectAfter = 1000
	// collectTick is how often that is looked at, and collectEvery how often it is done at most.
	collectTick  = 2 * time.Second
	collectEvery = time.Minute
)

// collector gives memory back to the system after many connections fell asleep.
type collector struct{ due time.Time }

// look is called by the sweeper.
func (g *collector) look(e *Engine) {
	now := time.Now()
	if now.Before(g.due) {
		return
	}
	g.due = now.Add(collectTick)
	if e.slept.Load() >= collectAfter && e.sweeper.mostSleep() {
		e.slept.Store(0)
		g.due = now.Add(collectEvery)
		go debug.FreeOSMemory()
	}
}
