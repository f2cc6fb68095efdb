package proxy

import (
	"runtime/debug"
	"runtime/metrics"
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
// and to the system not before the second time.
const (
	// collectAfter is the number of connections that fell asleep since the last collection, for which one is worth its time.
	collectAfter = 1000
	// collectTick is how often that is looked at.
	collectTick = 2 * time.Second
)

// collector runs the garbage collector after many connections fell asleep, where nothing else does.
type collector struct {
	due    time.Time
	cycles uint64 // of the garbage collector, at the last look
	sample [1]metrics.Sample
}

// look is called by the sweeper.
func (g *collector) look(e *Engine) {
	now := time.Now()
	if now.Before(g.due) {
		return
	}
	g.due = now.Add(collectTick)
	g.sample[0].Name = "/gc/cycles/total:gc-cycles"
	metrics.Read(g.sample[:])
	cycles := g.sample[0].Value.Uint64()
	if cycles != g.cycles {
		// Some of those that slept by then are counted again; it does no harm.
		g.cycles = cycles
		return
	}
	if e.slept.Load() >= collectAfter {
		e.slept.Store(0)
		go debug.FreeOSMemory()
	}
}
