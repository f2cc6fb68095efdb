package upstream

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"podlane.dev/podlane/router"
)

// State is an Endpoint's state as /debug/endpoints shows it.
type State string

// The states.
const (
	StateReady    State = "ready"
	StateServing  State = "serving"  // terminating, used because nothing is ready
	StateUnready  State = "unready"  // listed, gets no traffic
	StateEjected  State = "ejected"  // ready or serving, but out for failures
	StateDraining State = "draining" // not listed any more, connections are still busy
)

// PoolStatus is one Pool as it was at one moment.
type PoolStatus struct {
	ServicePort router.ServicePort
	// ExternalName is the DNS name that is followed, or "". Err is why its last resolution gave nothing new, or nil.
	ExternalName string
	Err          error
	Endpoints    []EndpointStatus
}

// EndpointStatus is one Endpoint as it was at one moment.
type EndpointStatus struct {
	AddrPort             netip.AddrPort
	Pod, UID, Node, Zone string
	State                State
	// EjectedFor is the time until the next probe of an ejected Endpoint; 0 where it is due.
	EjectedFor time.Duration
	// FirstByte is how long its latest answers took to their first byte on average; 0 before the first, and where nobody measures.
	FirstByte time.Duration
	// InFlight counts requests, Open connections, Idle those of them in the pool, Fails the failures of the running window.
	InFlight, Open, Idle, Fails int
}

// Pools returns the state of every Pool that a table uses, ordered by Service and port, and by address within.
func (r *Registry) Pools() []PoolStatus {
	pools := r.all()
	all := make([]PoolStatus, 0, len(pools))
	for _, p := range pools {
		if s, used := p.status(); used {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b PoolStatus) int {
		x, y := a.ServicePort, b.ServicePort
		return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name), strings.Compare(x.Port, y.Port))
	})
	return all
}

// Counts are numbers of Endpoints of the Pools that a table uses.
type Counts struct {
	// States has every state, and how many are in it.
	States map[State]int
	// Empty is the number of Pools without an Endpoint that gets traffic, one that is ejected among them.
	Empty int
}

// Counts returns the numbers of now. It is cheaper than Pools, and made for every scrape.
func (r *Registry) Counts() Counts {
	c := Counts{States: map[State]int{StateReady: 0, StateServing: 0, StateUnready: 0, StateEjected: 0, StateDraining: 0}}
	for _, p := range r.all() {
		p.mu.Lock()
		if !p.swept && p.unusedAt == 0 {
			used := 0
			for _, e := range p.known {
				if e.state().inUse() {
					used++
				}
				c.States[e.shown()]++
			}
			if used == 0 {
				c.Empty++
			}
		}
		p.mu.Unlock()
	}
	return c
}

// all returns every Pool.
func (r *Registry) all() []*Pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var pools []*Pool
	for _, s := range r.services {
		for _, p := range s.ports {
			pools = append(pools, p)
		}
	}
	return pools
}

// Status returns the state of p, whether a table uses it or not.
func (p *Pool) Status() PoolStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.look()
}

func (p *Pool) status() (s PoolStatus, used bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.swept || p.unusedAt != 0 {
		return s, false
	}
	return p.look(), true
}

// look returns the state of p. The caller holds mu.
func (p *Pool) look() PoolStatus {
	s := PoolStatus{ServicePort: p.port}
	if p.external != nil {
		s.ExternalName, s.Err = p.external.name, p.external.err
	}
	now := p.registry.now()
	for _, e := range p.known {
		s.Endpoints = append(s.Endpoints, e.status(now))
	}
	slices.SortFunc(s.Endpoints, func(a, b EndpointStatus) int {
		return cmp.Or(a.AddrPort.Compare(b.AddrPort), strings.Compare(a.UID, b.UID))
	})
	return s
}

// shown returns e's state for those who look.
func (e *Endpoint) shown() State {
	switch st := e.state(); {
	case st == gone:
		return StateDraining
	case st == unready:
		return StateUnready
	case e.ejected.Load() != 0:
		return StateEjected
	case st == fallback:
		return StateServing
	}
	return StateReady
}

func (e *Endpoint) status(now int64) EndpointStatus {
	s := EndpointStatus{
		AddrPort: e.id.addr, Pod: e.pod, UID: e.id.uid, Node: e.node, Zone: e.zone, InFlight: e.InFlight(),
		FirstByte: time.Duration(e.answers.Load()),
	}
	if s.State = e.shown(); s.State == StateEjected {
		s.EjectedFor = max(0, time.Duration(e.ejected.Load()-now))
	}
	e.pool.health.mu.Lock()
	if h := &e.health; now-h.since <= int64(e.pool.registry.o.FailTimeout) {
		s.Fails = h.fails
	}
	e.pool.health.mu.Unlock()
	e.idle.mu.Lock()
	s.Open, s.Idle = e.idle.opened, len(e.idle.stack)
	e.idle.mu.Unlock()
	return s
}

// Answered notes how long an answer took from the request to its first byte, for people who look: an average in which the last eight answers weigh
// most. Two that come at once may count as one.
func (e *Endpoint) Answered(d time.Duration) {
	if was := e.answers.Load(); was != 0 {
		d = time.Duration(was) + (d-time.Duration(was))/8
	}
	e.answers.Store(int64(max(d, 1)))
}
