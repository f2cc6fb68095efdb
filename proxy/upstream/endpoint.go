package upstream

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/router"
)

// identity is what makes two addresses of one ServicePort the same Endpoint. An address that is handed to another Pod has
// another UID, so nothing that belongs to the old Pod ever serves the new one.
type identity struct {
	addr netip.AddrPort
	uid  string
}

func identityOf(a *router.Address) identity { return identity{a.AddrPort, a.UID} }

// standing is an Endpoint's place in its Pool.
type standing uint32

const (
	ready    standing = iota // gets traffic
	fallback                 // serving and terminating: gets traffic because nothing is ready
	unready                  // listed, gets no traffic
	gone                     // not listed any more; busy connections drain
)

// inUse reports whether an Endpoint of this standing is among those that View.Next chooses from.
func (s standing) inUse() bool { return s <= fallback }

// Endpoint is one address of one Pod behind one ServicePort. It keeps its in-flight count, health and idle connections
// as long as its Pool lists it, whatever else changes. All methods may be called concurrently.
type Endpoint struct {
	// Immutable.
	pool     *Pool
	id       identity
	pod      string
	node     string
	zone     string
	seed     uint64
	name     string // see Name
	endpoint int64  // limits, copied from the Options so that the request finds them here
	service  int64

	// Read by every pick, written seldom.
	standing atomic.Uint32 // written under Pool.mu and idle.mu
	ejected  atomic.Int64  // 0, or the instant until which the Endpoint is out; see health.go
	rampFrom atomic.Int64  // 0, or the instant at which slow start began
	latency  latency

	health  endpointHealth // under Pool.health.mu
	planned standing       // under Pool.mu; new Endpoints are gone until arrange has placed them

	_ [64]byte // what follows is written by every request, on a cache line of its own

	inflight atomic.Int64
	answers  atomic.Int64 // see Answered
	idle     idle
	shared   sharing
}

func newEndpoint(p *Pool, a *router.Address) *Endpoint {
	e := &Endpoint{
		pool: p, id: identityOf(a), pod: a.Pod, node: a.Node, zone: a.Zone, seed: hashAddrPort(a.AddrPort),
		name:     nameOf(p.port, a),
		endpoint: int64(p.registry.o.EndpointLimit), service: int64(p.registry.o.ServiceLimit),
	}
	e.standing.Store(uint32(gone))
	e.planned = gone
	return e
}

// AddrPort returns the Pod's address and the container's port.
func (e *Endpoint) AddrPort() netip.AddrPort { return e.id.addr }

// Pod returns the Pod's name, or "".
func (e *Endpoint) Pod() string { return e.pod }

// UID returns the Pod's UID, or "".
func (e *Endpoint) UID() string { return e.id.uid }

// Node returns the name of the Pod's node, or "".
func (e *Endpoint) Node() string { return e.node }

// Zone returns the zone of the Pod's node, or "".
func (e *Endpoint) Zone() string { return e.zone }

// Pool returns the Pool that owns e.
func (e *Endpoint) Pool() *Pool { return e.pool }

// InFlight returns the number of requests that are counted against e.
func (e *Endpoint) InFlight() int { return int(e.inflight.Load()) }

func (e *Endpoint) state() standing { return standing(e.standing.Load()) }

// Reserve counts one request against e, and its Service where that has a limit. It must be followed by exactly one of Dial
// (which gives the reservation to the Conn, or back on failure) and Cancel. It returns ErrGone, ErrEndpointLimit or
// ErrServiceLimit.
func (e *Endpoint) Reserve() error {
	if !e.state().inUse() {
		return ErrGone
	}
	if n := e.inflight.Add(1); e.endpoint > 0 && n > e.endpoint {
		e.inflight.Add(-1)
		return ErrEndpointLimit
	}
	if s := e.pool.service; e.service > 0 && s.inflight.Add(1) > e.service {
		e.Cancel()
		return ErrServiceLimit
	}
	return nil
}

// Cancel gives back what Reserve counted, where no Dial follows.
func (e *Endpoint) Cancel() {
	e.inflight.Add(-1)
	if e.service > 0 {
		e.pool.service.inflight.Add(-1)
	}
}

// Acquire counts one request against e and returns the connection that was used last among the idle ones of the profile,
// after checking that the Pod has neither closed it nor sent anything on it. It returns nil and no error where there is
// none: the caller then calls Dial (or Cancel). The errors are those of Reserve. It does not allocate.
func (e *Endpoint) Acquire(profile Profile) (*Conn, error) {
	if err := e.Reserve(); err != nil {
		return nil, err
	}
	for {
		c := e.idle.pop(profile)
		if c == nil {
			return nil, nil
		}
		if c.quiet() {
			c.counted, c.Reused = true, true
			if f := e.pool.registry.o.Observer.OnReuse; f != nil {
				f(e)
			}
			return c, nil
		}
		c.stale()
	}
}

// Dial connects to e by the deadline, or within Options.ConnectTimeout where the deadline is zero. It must follow an Acquire that
// returned no connection, or a Reserve; on failure that reservation is given back. The error is a *DialError, ErrGone or
// ErrServiceLimit. An Endpoint that left its Pool while the connect was under way gives ErrGone: its address may belong
// to someone else by now.
func (e *Endpoint) Dial(deadline time.Time, profile Profile) (*Conn, error) {
	if deadline.IsZero() {
		deadline = time.Now().Add(e.pool.registry.o.ConnectTimeout)
	}
	ctx, cancel := context.WithDeadline(e.pool.registry.ctx, deadline)
	defer cancel()
	return e.DialContext(ctx, profile)
}

// DialContext is Dial for a caller with a context, which must have a deadline.
func (e *Endpoint) DialContext(ctx context.Context, profile Profile) (*Conn, error) {
	c, err := e.connect(ctx, &profile, nil)
	if err != nil {
		e.Cancel()
		return nil, err
	}
	c.counted = true
	return c, nil
}

// connect makes a connection, and with begin, where it is not nil, one that requests share.
func (e *Endpoint) connect(ctx context.Context, profile *Profile, begin func(context.Context, *Conn) (Carrier, error)) (*Conn, error) {
	if !e.state().inUse() {
		return nil, ErrGone
	}
	r := e.pool.registry
	if err := r.admit(e.pool); err != nil {
		return nil, err
	}
	open, cancel := e.idle.whileOpen(ctx)
	defer cancel()
	start := time.Now()
	c, err := e.make(open, profile, begin)
	// It may have left and come back since: it did not fail then.
	left := open.Err() != nil && ctx.Err() == nil
	gone := errors.Is(err, ErrGone)
	if err != nil && !gone {
		err = &DialError{Kind: classify(err), Addr: e.id.addr, Pod: e.pod, Err: err}
	}
	if f := r.o.Observer.OnConnect; f != nil && !gone {
		f(e, time.Since(start), err)
	}
	if err != nil {
		if gone || left || !e.state().inUse() {
			return nil, ErrGone
		}
		return nil, err
	}
	e.connected()
	return c, nil
}

// make connects and enters the connection, which admit has counted.
func (e *Endpoint) make(ctx context.Context, profile *Profile, begin func(context.Context, *Conn) (Carrier, error)) (*Conn, error) {
	c, err := e.establish(ctx, profile)
	switch {
	case err != nil:
		e.pool.closed()
		return nil, err
	case !e.idle.adopt(c):
		_ = c.Conn.Close()
		e.pool.closed()
		return nil, ErrGone
	case begin == nil:
		return c, nil
	}
	if err := c.begin(ctx, begin); err != nil {
		_ = c.Close()
		return nil, handshakeFailed{err}
	}
	return c, nil
}

// establish connects, TLS included. The connection is not entered yet.
func (e *Endpoint) establish(ctx context.Context, profile *Profile) (*Conn, error) {
	r := e.pool.registry
	socket, err := r.o.Dial(ctx, e.id.addr)
	if err != nil && outOfDescriptors(err) && r.Shrink(shrinkForDial) > 0 {
		socket, err = r.o.Dial(ctx, e.id.addr)
	}
	if err != nil {
		return nil, err
	}
	if profile.TLS == nil {
		return newConn(e, profile, socket, socket), nil
	}
	transport, err := e.secure(ctx, socket, profile)
	if err != nil {
		_ = socket.Close()
		return nil, handshakeFailed{err}
	}
	return newConn(e, profile, socket, transport), nil
}

// shrinkForDial is how many idle connections are closed when the process has no descriptor left to dial with: a few, so
// that not every dial of a busy moment has to ask again.
const shrinkForDial = 8

// idle is an Endpoint's connections: the stack of idle ones, newest last, and the list of all open ones, so that a
// removed Endpoint's can be cut when they drain for too long. Under mu one request pushes or pops one pointer.
type idle struct {
	mu     sync.Mutex
	stack  []*Conn
	first  *Conn // open connections, doubly linked
	opened int
	closed bool  // the Endpoint is not in use: nothing is pooled
	gone   bool  // the Endpoint is not listed: nothing is adopted either
	listed bool  // the sweeper visits the Endpoint
	cutAt  int64 // when the connections of a removed Endpoint are cut; 0 means never
	// dials cancels the connects under way, by a number of their own. A Pod that is gone does not answer a SYN, and
	// whoever waits for one should try the next Endpoint and not wait for the connect timeout.
	dials map[uint64]context.CancelFunc
	last  uint64
}

// whileOpen returns a context for a connect, which ends when the Endpoint is no longer in use. The function that it
// returns must be called when the connect has ended.
func (i *idle) whileOpen(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		cancel()
		return ctx, cancel
	}
	if i.dials == nil {
		i.dials = map[uint64]context.CancelFunc{}
	}
	i.last++
	id := i.last
	i.dials[id] = cancel
	return ctx, func() {
		cancel()
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.dials, id)
	}
}

// endDials cancels the connects under way. The caller holds mu.
func (i *idle) endDials() {
	for _, cancel := range i.dials {
		cancel()
	}
}

// pop takes the newest idle connection of the profile off the stack, or returns nil.
func (i *idle) pop(profile Profile) *Conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	for k, c := range slices.Backward(i.stack) {
		if !c.profile.same(&profile) {
			continue
		}
		if last := len(i.stack) - 1; k == last {
			i.stack[last] = nil
			i.stack = i.stack[:last]
		} else {
			i.remove(k)
		}
		c.state = busy
		return c
	}
	return nil
}

// remove takes the k-th connection off the stack. The order of the others stays.
func (i *idle) remove(k int) {
	copy(i.stack[k:], i.stack[k+1:])
	i.stack[len(i.stack)-1] = nil
	i.stack = i.stack[:len(i.stack)-1]
}

// push puts c on the stack. It returns the connection to close instead, if any: c where the Endpoint takes none, or the
// oldest where the stack is full. list says that the sweeper must be told.
func (i *idle) push(c *Conn, limit int) (surplus *Conn, list bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.state != busy {
		panic("upstream: a connection was given back twice")
	}
	if i.closed || limit <= 0 {
		return c, false
	}
	if len(i.stack) >= limit {
		surplus = i.stack[0]
		surplus.state = busy
		i.remove(0)
	}
	c.state = pooled
	i.stack = append(i.stack, c)
	list = !i.listed
	i.listed = true
	return surplus, list
}

// adopt enters a new connection, unless the Endpoint is no longer in use.
func (i *idle) adopt(c *Conn) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return false
	}
	c.next = i.first
	if i.first != nil {
		i.first.prev = c
	}
	i.first = c
	i.opened++
	return true
}

// forget removes a closed connection and reports whether it was the last one of an Endpoint that is not listed.
func (i *idle) forget(c *Conn) (drained bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		i.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	i.opened--
	return i.gone && i.opened == 0
}

// takeAll empties the stack and returns what was on it, which now belongs to the caller.
func (i *idle) takeAll() []*Conn {
	all := i.stack
	i.stack = nil
	for _, c := range all {
		c.state = busy
	}
	return all
}
