package proxy

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// gate counts client connections and pauses accepting at a limit, so that the process never runs out of file descriptors for its
// connections to Pods: clients that wait stay in the kernel's queue.
type gate struct {
	open  atomic.Int64 // client connections
	limit int64        // of open; 0 is none
	// descriptors bounds the connections of both legs together; 0 is none. pods counts those to Pods, idle the clients that were idle
	// when the sweeper last looked: all others have a connection to a Pod, or are about to need one.
	descriptors int64
	pods        func() int
	idle        func() int
	// crowded says that clients wait in the kernel's queue because of a limit.
	crowded atomic.Bool

	waiting atomic.Int32 // accepting goroutines that wait for room
	mu      sync.Mutex
	free    *sync.Cond

	perAddress int // connections of one client address; 0 is no limit
	byAddress  map[netip.Addr]int
}

// descriptorShare is the share of RLIMIT_NOFILE at which accepting pauses: the rest is reserved for connections to Pods and for the
// process itself.
const descriptorShare = 0.9

// minConnections is the least limit that is derived: below it a proxy is of no use.
const minConnections = 16

// newGate returns a gate for limit connections, or as many as RLIMIT_NOFILE allows where limit is 0.
func newGate(limit, perAddress int) *gate {
	g := &gate{limit: int64(limit), perAddress: perAddress, byAddress: map[netip.Addr]int{}, pods: none, idle: none}
	g.free = sync.NewCond(&g.mu)
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
		g.descriptors = max(int64(float64(min(r.Cur, 1<<30))*descriptorShare), minConnections)
		if limit <= 0 {
			g.limit = g.descriptors
		}
	}
	return g
}

func none() int { return 0 }

// serviceLimit is how many connections to Pods one Service may have, so that it leaves the others what they need: half of the clients,
// and, as each of them has a client's connection beside it, a quarter of the descriptors.
func (g *gate) serviceLimit() int {
	n := g.limit / 2
	if g.descriptors > 0 {
		n = min(n, g.descriptors/4)
	}
	return int(n)
}

// enter counts a connection, whatever the limits.
func (g *gate) enter() { g.open.Add(1) }

// leave gives a place back.
func (g *gate) leave() {
	g.open.Add(-1)
	g.wake()
}

// wake lets a goroutine that waits for room look again: a connection to a Pod may have ended.
func (g *gate) wake() {
	if g.waiting.Load() > 0 {
		g.mu.Lock()
		g.mu.Unlock() //nolint:staticcheck // whoever is about to wait has begun to
		g.free.Broadcast()
	}
}

// closed reports whether no more connections may be accepted.
func (g *gate) closed() bool {
	open := g.open.Load()
	if g.limit > 0 && open >= g.limit {
		return true
	}
	busy := max(0, open-int64(g.idle()))
	return g.descriptors > 0 && open+max(int64(g.pods()), busy) >= g.descriptors
}

// full reports whether more than four fifths of the places are taken: idle connections then end sooner.
func (g *gate) full() bool {
	return g.limit > 0 && g.open.Load()*5 > g.limit*4
}

// wait blocks until one more connection may be accepted, and counts it. crowd is called again and again meanwhile: it makes room where
// clients wait at the door, and reports whether any do.
func (g *gate) wait(crowd func() bool) {
	if g.closed() {
		g.waiting.Add(1)
		for g.closed() {
			g.crowded.Store(crowd())
			g.mu.Lock()
			if g.closed() {
				g.free.Wait()
			}
			g.mu.Unlock()
		}
		g.waiting.Add(-1)
		g.crowded.Store(false)
	}
	g.enter()
}

// admit counts a connection of addr, and reports whether addr may have it. Those that it admits must be released.
func (g *gate) admit(addr netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byAddress[addr] >= g.perAddress {
		return false
	}
	g.byAddress[addr]++
	return true
}

// release ends what admit counted.
func (g *gate) release(addr netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byAddress[addr]--; g.byAddress[addr] <= 0 {
		delete(g.byAddress, addr)
	}
}

// queued reports whether a connection waits at l to be accepted.
func queued(l *Listener) bool {
	sc, ok := l.Listener.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	waits := false
	_ = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		waits = err == nil && n > 0
	})
	return waits
}
