package proxy

import (
	"sync"

	"golang.org/x/sys/unix"
)

// gate counts client connections and pauses accepting at the limit, so that the process never runs out of file descriptors
// for its connections to Pods: those that wait stay in the kernel's queue.
type gate struct {
	mu    sync.Mutex
	free  *sync.Cond
	open  int
	limit int
}

// descriptorShare is the share of RLIMIT_NOFILE that client connections may take: most of them are idle, the rest is for the
// connections to Pods of those that are not, and for the process itself.
const descriptorShare = 0.7

// newGate returns a gate for limit connections, or as many as RLIMIT_NOFILE allows where limit is 0.
func newGate(limit int) *gate {
	g := &gate{limit: limit}
	g.free = sync.NewCond(&g.mu)
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); limit <= 0 && err == nil {
		g.limit = max(int(float64(min(r.Cur, 1<<30))*descriptorShare), 16)
	}
	return g
}

// wait blocks until one more connection may be accepted, and counts it.
func (g *gate) wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.limit > 0 && g.open >= g.limit {
		g.free.Wait()
	}
	g.open++
}

// enter counts a connection that does not wait, even beyond the limit.
func (g *gate) enter() {
	g.mu.Lock()
	g.open++
	g.mu.Unlock()
}

// leave gives a place back.
func (g *gate) leave() {
	g.mu.Lock()
	g.open--
	g.mu.Unlock()
	g.free.Signal()
}

// full reports whether more than four fifths of the places are taken: idle connections then end sooner.
func (g *gate) full() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit > 0 && g.open*5 > g.limit*4
}
