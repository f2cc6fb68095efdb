package upstream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/router"
)

// Registry owns every Pool by ServicePort. Its methods may be called concurrently, but for two SetAddresses of one Service,
// which the caller must order.
type Registry struct {
	o       Options
	reuse   atomic.Pointer[Reuse] // complete
	epoch   time.Time
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	open    atomic.Int64
	sweeper *sweeper
	retired retired
	tasks   sync.WaitGroup

	mu       sync.Mutex // never taken by a request
	services map[router.Service]*service
}

// service is what the ports of one Service share.
type service struct {
	inflight atomic.Int64 // counted only where ServiceLimit is set
	opened   atomic.Int64
	budget   budget
	ports    map[string]*Pool // under Registry.mu
}

// admit counts a connection in, or returns ErrServiceLimit. At the limit, idle connections of the Service give way first.
func (r *Registry) admit(p *Pool) error {
	s, limit := p.service, int64(r.o.ServiceConnections)
	for s.opened.Add(1) > limit && limit > 0 {
		s.opened.Add(-1)
		if !r.evict(p) {
			return ErrServiceLimit
		}
	}
	r.open.Add(1)
	return nil
}

// evict closes one idle connection of p's Service and reports whether there was one.
func (r *Registry) evict(p *Pool) bool {
	for _, p := range r.poolsOf(p.port.Service()) {
		for _, e := range p.members.Load().inUse {
			for _, c := range e.idle.takeOldest(1) {
				_ = c.Close()
				return true
			}
			if c := e.shared.takeIdle(); c != nil {
				_ = c.Close()
				return true
			}
		}
	}
	return false
}

// NewRegistry returns an empty Registry and starts its sweeper. Close must be called in the end.
func NewRegistry(o Options) *Registry {
	r := &Registry{o: o.withDefaults(), epoch: time.Now(), services: map[router.Service]*service{}}
	r.reuse.Store(Reuse{}.over(&r.o))
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.sweeper = newSweeper(r)
	r.tasks.Go(r.sweeper.run)
	return r
}

// SetReuse changes how long connections are used again, those that exist too.
func (r *Registry) SetReuse(u Reuse) { r.reuse.Store(u.over(&r.o)) }

// Reuse returns how long connections are used again. It is complete.
func (r *Registry) Reuse() Reuse { return *r.reuse.Load() }

// now is the number of nanoseconds since the Registry was made, on the monotonic clock; never 0.
func (r *Registry) now() int64 { return int64(time.Since(r.epoch)) + 1 }

// Ensure returns the Pool of p, making an empty one where there is none: added then says that the caller must give it its
// current addresses before a table with it is published. Publish calls it for every Backend of every Route of the new
// table, also of those that it compiled before, because Sweep may have dropped a Pool in between.
func (r *Registry) Ensure(p router.ServicePort) (pool *Pool, added bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[p.Service()]
	if s == nil {
		s = &service{ports: map[string]*Pool{}, budget: budget{start: r.now()}}
		r.services[p.Service()] = s
	}
	pool = s.ports[p.Port]
	if pool == nil {
		pool = newPool(r, s, p)
		s.ports[p.Port] = pool
		return pool, true
	}
	pool.mu.Lock()
	pool.unusedAt = 0
	pool.mu.Unlock()
	return pool, false
}

// SetAddresses replaces the addresses of a Service, by port name; ports that byPort lacks have none from then on. It keeps
// neither the map nor the slices. A Service without a Pool is ignored. Endpoints that leave take no further request; their
// idle connections are closed before SetAddresses returns, their busy ones when their request ends.
func (r *Registry) SetAddresses(s router.Service, byPort map[string][]router.Address) {
	for _, p := range r.poolsOf(s) {
		p.set(byPort[p.port.Port])
	}
}

func (r *Registry) poolsOf(s router.Service) []*Pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.services[s]
	if known == nil {
		return nil
	}
	pools := make([]*Pool, 0, len(known.ports))
	for _, p := range known.ports {
		pools = append(pools, p)
	}
	return pools
}

// linger is how long a Pool outlives the last table with it: requests that were routed by that table a moment before it
// was replaced must still find their Endpoints.
const linger = 10 * time.Second

// Sweep is called after a table was published; keep reports whether that table uses a Pool. The others are dropped a
// little later (their addresses stay current until then), with their idle connections; busy ones drain.
func (r *Registry) Sweep(keep func(router.ServicePort) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, s := range r.services {
		for _, p := range s.ports {
			used := keep(p.port)
			p.mu.Lock()
			switch {
			case used:
				p.unusedAt = 0
			case p.unusedAt == 0:
				p.unusedAt = now
				if !p.dropping {
					p.dropping = true
					r.sweeper.dropLater(p)
				}
			}
			p.mu.Unlock()
		}
	}
}

// drop removes a Pool that has been unused long enough, and reports how long is left otherwise (0 where nothing is to do).
func (r *Registry) drop(p *Pool, now int64) (left int64) {
	r.mu.Lock()
	p.mu.Lock()
	if p.swept || p.unusedAt == 0 {
		p.dropping = false
		p.mu.Unlock()
		r.mu.Unlock()
		return 0
	}
	if left = p.unusedAt + int64(linger) - now; left > 0 {
		p.mu.Unlock()
		r.mu.Unlock()
		return left
	}
	s := p.service
	delete(s.ports, p.port.Port)
	if len(s.ports) == 0 {
		delete(r.services, p.port.Service())
	}
	surplus := p.shut()
	p.mu.Unlock()
	r.mu.Unlock()
	closeAll(surplus)
	return 0
}

// shut empties the Pool for good. The caller holds mu and closes the connections.
func (p *Pool) shut() []*Conn {
	p.swept = true
	p.given = nil
	if p.external != nil {
		p.external.stop()
	}
	return p.change(nil)
}

// Open returns the number of open connections to Endpoints, idle ones included: what the Registry holds of the process's
// descriptors.
func (r *Registry) Open() int { return int(r.open.Load()) }

// Shrink closes up to n idle connections, those first that have been idle longest at their Endpoint, and returns how many
// it closed. Dial calls it when descriptors run out; the engine may when memory does.
func (r *Registry) Shrink(n int) int { return r.sweeper.shrink(n) }

// Close empties every Pool, closes all idle connections, stops the sweeper and the resolvers and returns when they have
// ended. Busy connections are closed when their requests end. No Endpoint is in use afterwards.
func (r *Registry) Close() {
	r.mu.Lock()
	var surplus []*Conn
	for _, s := range r.services {
		for _, p := range s.ports {
			p.mu.Lock()
			if !p.swept {
				surplus = append(surplus, p.shut()...)
			}
			p.mu.Unlock()
		}
	}
	clear(r.services)
	r.mu.Unlock()
	closeAll(surplus)
	r.stop()
	r.tasks.Wait()
}
