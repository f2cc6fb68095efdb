package upstream

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"podlane.dev/podlane/router"
)

// Pool is the Endpoints of one ServicePort. It outlives tables: a route that is compiled again finds the same Pool, with
// every Endpoint's connections and health. Its methods may be called concurrently.
type Pool struct {
	port     router.ServicePort
	registry *Registry
	service  *service

	members atomic.Pointer[members]
	health  poolHealth

	mu       sync.Mutex             // everything below; never taken by a request that finds an Endpoint and a connection
	given    []router.Address       // what SetAddresses said; not in force while external is set
	known    map[identity]*Endpoint // listed or draining
	views    map[ViewSpec]*View
	retired  uint64 // picks of released views
	unusedAt int64  // when the last table that used the Pool was replaced; 0 while one does
	dropping bool   // the sweeper visits the Pool
	swept    bool   // the Pool is no longer the Registry's
	external *external
	fixed    netip.AddrPort // the only address, whatever SetAddresses says, unless it is the zero value
}

// members is one consistent view of a Pool: every request, and every attempt of it, reads it by one load.
type members struct {
	inUse []*Endpoint
	seeds []uint64 // inUse[i].seed, side by side for the Hash algorithm
	// rampUntil is when the last slow start of a member ends; 0 means that there is none and nobody need ask for the time.
	rampUntil atomic.Int64
}

func newPool(r *Registry, s *service, port router.ServicePort) *Pool {
	p := &Pool{port: port, registry: r, service: s, known: map[identity]*Endpoint{}, views: map[ViewSpec]*View{}}
	p.members.Store(&members{})
	return p
}

// ServicePort returns the key of the Pool.
func (p *Pool) ServicePort() router.ServicePort { return p.port }

// Len returns the number of Endpoints that requests are now balanced over.
func (p *Pool) Len() int { return len(p.members.Load().inUse) }

// set makes the Pool's Endpoints those of addrs. It takes time in proportion to the Endpoints of this one Pool.
func (p *Pool) set(addrs []router.Address) {
	p.mu.Lock()
	if p.swept || p.given != nil && slices.Equal(p.given, addrs) {
		p.mu.Unlock()
		return
	}
	p.given = append([]router.Address{}, addrs...)
	var surplus []*Conn
	if p.external == nil && !p.fixed.IsValid() {
		surplus = p.change(p.given)
	}
	p.mu.Unlock()
	closeAll(surplus)
}

// Fix makes addr the only Endpoint of p, for good: one that stands for others, such as the address of a Service.
func (p *Pool) Fix(addr netip.AddrPort) {
	p.mu.Lock()
	if p.swept || p.fixed == addr {
		p.mu.Unlock()
		return
	}
	p.fixed = addr
	surplus := p.change([]router.Address{{AddrPort: addr, Ready: true, Serving: true}})
	p.mu.Unlock()
	closeAll(surplus)
}

// change swaps the members and returns the idle connections to close. The caller holds mu.
func (p *Pool) change(addrs []router.Address) (surplus []*Conn) {
	now := p.registry.now()
	after := p.arrange(addrs)
	p.ramp(after, now)
	// Before the store those who join must take connections; after it those who leave must take none.
	for _, e := range after.inUse {
		if e.state() != e.planned {
			e.stand(e.planned)
		}
	}
	p.members.Store(after)
	var left []*Endpoint
	for _, e := range p.known {
		if e.planned.inUse() {
			continue
		}
		left = append(left, e)
		surplus = append(surplus, e.stand(e.planned)...)
		if e.planned == gone {
			p.retire(e, now)
		}
	}
	p.changeHealth(after.inUse, left, now)
	return surplus
}

// arrange finds or makes the Endpoint of each address and plans its standing: in use are those that are ready, or, where
// none is, those that still serve while they terminate. The order of the Endpoints is that of the addresses.
func (p *Pool) arrange(addrs []router.Address) *members {
	use := ready
	for i := range addrs {
		if addrs[i].Ready {
			use = ready
			break
		}
		if addrs[i].Serving && addrs[i].Terminating {
			use = fallback
		}
	}
	for _, e := range p.known {
		e.planned = gone
	}
	m := &members{inUse: make([]*Endpoint, 0, len(addrs)), seeds: make([]uint64, 0, len(addrs))}
	for i := range addrs {
		a := &addrs[i]
		e := p.known[identityOf(a)]
		if e == nil {
			e = newEndpoint(p, a)
			p.known[e.id] = e
		}
		if e.planned.inUse() {
			continue // listed twice
		}
		e.planned = unready
		if use == ready && a.Ready || use == fallback && a.Serving && a.Terminating {
			e.planned = use
			m.inUse = append(m.inUse, e)
			m.seeds = append(m.seeds, e.seed)
		}
	}
	return m
}

// ramp begins the slow start of the Endpoints that join others. The first ones of a Pool share its load at once.
func (p *Pool) ramp(after *members, now int64) {
	alone := len(p.members.Load().inUse) == 0
	for _, e := range after.inUse {
		if !e.state().inUse() && !alone {
			e.startRamp(now)
		}
		after.extendRamp(e)
	}
}

// stand changes e's standing and returns the idle connections that must be closed because of it.
func (e *Endpoint) stand(s standing) (surplus []*Conn) {
	e.idle.mu.Lock()
	defer e.idle.mu.Unlock()
	e.standing.Store(uint32(s))
	e.idle.closed, e.idle.gone = !s.inUse(), s == gone
	if e.idle.closed {
		surplus = e.idle.takeAll()
		e.idle.endDials()
	}
	if s != gone {
		e.idle.cutAt = 0
	}
	e.shared.stand(s.inUse())
	return surplus
}

// retire forgets an Endpoint that is not listed, or has the sweeper watch it while connections of it are open. The caller
// holds mu.
func (p *Pool) retire(e *Endpoint, now int64) {
	e.idle.mu.Lock()
	opened := e.idle.opened
	list := opened > 0 && !e.idle.listed
	if opened > 0 {
		e.idle.listed = true
		if e.idle.cutAt == 0 && p.registry.o.DrainTimeout > 0 {
			e.idle.cutAt = now + int64(p.registry.o.DrainTimeout)
		}
	}
	e.idle.mu.Unlock()
	if opened == 0 {
		delete(p.known, e.id)
	} else if list {
		p.registry.sweeper.list(e)
	}
}

// drained forgets an Endpoint whose last connection was closed after it had left.
func (p *Pool) drained(e *Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.idle.mu.Lock()
	still := e.idle.gone && e.idle.opened == 0
	e.idle.mu.Unlock()
	if still && p.known[e.id] == e {
		delete(p.known, e.id)
	}
}

// closed counts a connection out.
func (p *Pool) closed() {
	p.service.opened.Add(-1)
	p.registry.open.Add(-1)
}
