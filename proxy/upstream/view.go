package upstream

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// Algorithm is a way to choose an Endpoint.
type Algorithm uint8

// The algorithms. None chooses an ejected Endpoint, or one at its limit, or one that the request has tried, while there
// is another.
const (
	// RandomTwo takes the less loaded of two Endpoints, by requests in flight: the next one in turn and another at random.
	// Endpoints that are loaded alike therefore follow each other in turn.
	RandomTwo Algorithm = iota
	// RoundRobin takes one after the other.
	RoundRobin
	// LeastConnections takes the one with the fewest requests in flight, in turn among equals. It looks at every Endpoint.
	LeastConnections
	// PeakEWMA is RandomTwo by expected delay: recent time to the first byte, times requests in flight. A peak counts at
	// once and decays in seconds. The engine must report times by View.Observe.
	PeakEWMA
	// Hash takes the Endpoint that ViewSpec.Key maps the request to: the same on all replicas that see the same addresses, and only the
	// requests of an Endpoint that left or came move. It is a rendezvous hash, which spreads evenly, needs nothing to be
	// built when Endpoints change and knows the next best one when the first is out; it looks at every Endpoint, one
	// multiplication or two each.
	Hash
)

var algorithmNames = [...]string{"random-two", "round-robin", "least-connections", "peak-ewma", "hash"}

// String returns the algorithm's name.
func (a Algorithm) String() string { return algorithmNames[a] }

// ViewSpec says how a route balances over a Pool. It is comparable (see Key), and the zero value is the default.
type ViewSpec struct {
	Algorithm Algorithm
	// Key is what Hash hashes; nil means ClientAddr.
	Key Key
	// Subset, above 1, is how many of a key's preferred Endpoints Hash spreads its requests over, as RandomTwo does. At
	// most MaxSubset.
	Subset int
}

// MaxSubset is the largest ViewSpec.Subset.
const MaxSubset = 16

// Affinity returns the ViewSpec of a Service with sessionAffinity: ClientIP.
//
// The Service's timeout says how long a client that is away is remembered. There is nothing to remember here: as long as a
// client's Endpoint is in use the client returns to it, after the timeout too, which the API allows. What a hash cannot do
// is to keep a client where it was when an Endpoint joins and takes over its share, one n-th, of all clients: those
// move before their timeout, once. The replicas of the proxy agree about every client without talking.
func Affinity(time.Duration) ViewSpec { return ViewSpec{Algorithm: Hash, Key: ClientAddr{}} }

// View is a Pool as one or more routes balance over it. It is shared by equal ViewSpecs, so that the routes of one
// Service take turns together. Its methods may be called concurrently.
type View struct {
	pool *Pool
	spec ViewSpec
	refs int // under Pool.mu

	_    [64]byte // turn is written by every request, on a cache line of its own
	turn atomic.Uint64
	_    [56]byte
}

// View returns the View of p with the given spec, and counts the caller among its users, until Release. Publish calls it
// once for each route and Backend that it compiles.
func (p *Pool) View(spec ViewSpec) *View {
	if spec.Algorithm != Hash {
		spec.Key, spec.Subset = nil, 0
	} else if spec.Key == nil {
		spec.Key = ClientAddr{}
	}
	spec.Subset = min(max(spec.Subset, 0), MaxSubset)
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.views[spec]
	if v == nil {
		v = &View{pool: p, spec: spec}
		// Replicas, and Views that are made anew, must not all begin with the same Endpoint.
		v.turn.Store(uint64(rand.Uint32()))
		p.retired -= v.turn.Load()
		p.views[spec] = v
	}
	v.refs++
	return v
}

// Release ends one use of v. Requests that still hold v may go on using it.
func (v *View) Release() {
	p := v.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.refs--; v.refs == 0 {
		delete(p.views, v.spec)
		p.retired += v.turn.Load()
	}
}

// Pool returns the Pool that v looks at.
func (v *View) Pool() *Pool { return v.pool }

// Spec returns the ViewSpec of v.
func (v *View) Spec() ViewSpec { return v.spec }

// Next chooses an Endpoint for x, or returns nil where the Pool has none that is not in tried (which may be nil). It reads
// the Pool's members anew each time, so that a further attempt never goes to an Endpoint that has left. It does not
// allocate, and does not add to tried.
func (v *View) Next(x *exchange.Exchange, tried *Tried) *Endpoint {
	m := v.pool.members.Load()
	if len(m.inUse) == 0 {
		return nil
	}
	c := choice{m: m, tried: tried, turn: v.turn.Add(1), registry: v.pool.registry}
	if tried.Len() > 0 {
		v.pool.service.budget.again.Add(1)
	}
	c.ramping, c.now = m.ramps(c.registry)
	var e *Endpoint
	switch v.spec.Algorithm {
	case RoundRobin:
		e = c.inTurn()
	case LeastConnections:
		e = c.leastConnections()
	case PeakEWMA:
		e = c.twoByDelay()
	case Hash:
		if key, ok := v.spec.Key.Hash(x); ok {
			e = c.hashed(key, v.spec.Subset)
		} else {
			e = c.twoByLoad()
		}
	default:
		e = c.twoByLoad()
	}
	if e == nil {
		e = c.anyUntried()
	}
	return e
}

// Observe reports the time from the request to the first byte of its answer. Only PeakEWMA uses it; for other algorithms
// it does nothing.
func (v *View) Observe(e *Endpoint, took time.Duration) {
	if v.spec.Algorithm == PeakEWMA {
		e.latency.observe(v.pool.registry.now(), took)
	}
}
