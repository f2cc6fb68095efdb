package upstream

import "sync"

// Passive health, as nginx's max_fails and fail_timeout with two brakes: MaxFails failures within FailTimeout eject an
// Endpoint for FailTimeout, but never more than half of the Endpoints in use, and so never the last. After FailTimeout the
// Endpoint stays out but for one request in each further FailTimeout, which probes it; success puts it back.

// poolHealth is under its own lock, which only failures, recoveries and changes of the members take.
type poolHealth struct {
	mu      sync.Mutex
	inUse   int // Endpoints in use
	ejected int // those of them that are ejected
}

// endpointHealth is under the Pool's health.mu.
type endpointHealth struct {
	fails int   // failures since
	since int64 // the first of them
	last  Failure
	until int64 // end of the first ejection: later requests are probes
	inUse bool
}

// Failed tells passive health that an attempt failed. Failures that do not count (Failure.Counts) are ignored. The engine
// calls it for every error of Dial, and with Reset where a fresh connection ended before the first byte of an answer.
func (e *Endpoint) Failed(why Failure) {
	p := e.pool
	o := &p.registry.o
	if !why.Counts() || o.MaxFails < 0 {
		return
	}
	if e.fail(why) && o.Observer.OnEject != nil {
		o.Observer.OnEject(e, why)
	}
}

// fail counts a failure and reports whether it ejected e.
func (e *Endpoint) fail(why Failure) bool {
	p, h := e.pool, &e.health
	o := &p.registry.o
	now := p.registry.now()
	p.health.mu.Lock()
	defer p.health.mu.Unlock()
	if h.fails == 0 || now-h.since > int64(o.FailTimeout) {
		h.fails, h.since = 0, now
	}
	h.fails++
	h.last = why
	if e.ejected.Load() != 0 { // a probe, or an attempt for want of anything better
		e.ejected.Store(now + int64(o.FailTimeout))
		return false
	}
	if h.fails < o.MaxFails || !h.inUse || 2*(p.health.ejected+1) > p.health.inUse {
		return false
	}
	p.health.ejected++
	h.until = now + int64(o.FailTimeout)
	e.ejected.Store(h.until)
	return true
}

// Succeeded tells passive health that an answer came. It costs one atomic load for an Endpoint that is in rotation. An
// Endpoint that is still serving its first ejection stays out: the answer is to a request that it had accepted before, as
// a Pod that shuts down gives many.
func (e *Endpoint) Succeeded() {
	if e.ejected.Load() != 0 {
		e.recover(func(h *endpointHealth, now int64) bool { return now >= h.until })
	}
}

// connected is told of every successful connect, which disproves an ejection for failing to.
func (e *Endpoint) connected() {
	if e.ejected.Load() != 0 {
		e.recover(func(h *endpointHealth, _ int64) bool { return h.last.connecting() })
	}
}

func (e *Endpoint) recover(proven func(h *endpointHealth, now int64) bool) {
	p := e.pool
	now := p.registry.now()
	p.health.mu.Lock()
	restored := e.ejected.Load() != 0 && proven(&e.health, now)
	if restored {
		e.restore(now)
	}
	p.health.mu.Unlock()
	if f := p.registry.o.Observer.OnRestore; restored && f != nil {
		f(e)
	}
}

// restore puts e back. The caller holds health.mu.
func (e *Endpoint) restore(now int64) {
	e.ejected.Store(0)
	e.health.fails = 0
	if e.health.inUse {
		e.pool.health.ejected--
		e.startRamp(now)
		e.pool.members.Load().extendRamp(e)
	}
}

// probes reports whether e is ejected, its time is over, and this request is the one that may try it.
func (e *Endpoint) probes(now int64) bool {
	until := e.ejected.Load()
	return until != 0 && now >= until &&
		e.ejected.CompareAndSwap(until, now+int64(e.pool.registry.o.FailTimeout))
}

// change makes the Endpoints in use known to passive health, and puts back as many as are ejected beyond half, those
// first that would have come back first.
func (p *Pool) changeHealth(inUse []*Endpoint, left []*Endpoint, now int64) {
	h := &p.health
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range left {
		e.health.inUse = false
	}
	h.inUse, h.ejected = len(inUse), 0
	for _, e := range inUse {
		e.health.inUse = true
		if e.ejected.Load() != 0 {
			h.ejected++
		}
	}
	for 2*h.ejected > h.inUse {
		var first *Endpoint
		for _, e := range inUse {
			if until := e.ejected.Load(); until != 0 && (first == nil || until < first.ejected.Load()) {
				first = e
			}
		}
		first.restore(now)
	}
}
