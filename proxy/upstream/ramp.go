package upstream

// Slow start: the weight of an Endpoint that joined others, or came back from ejection, grows from minWeight to 1 in
// Options.SlowStart.

// minWeight lets a new Endpoint have some requests from the start, so that its caches warm up at all.
const minWeight = 1.0 / 16

// startRamp begins slow start, where it is on.
func (e *Endpoint) startRamp(now int64) {
	if e.pool.registry.o.SlowStart > 0 {
		e.rampFrom.Store(now)
	}
}

// weight is the Endpoint's share of a full one's load.
func (e *Endpoint) weight(now int64) float64 {
	from := e.rampFrom.Load()
	if from == 0 {
		return 1
	}
	w := float64(now-from) / float64(e.pool.registry.o.SlowStart)
	if w >= 1 {
		// An Endpoint that was ejected in between has another instant by now, and keeps it.
		e.rampFrom.CompareAndSwap(from, 0)
		return 1
	}
	return max(w, minWeight)
}

// extendRamp makes m know of e's slow start, if e is in one.
func (m *members) extendRamp(e *Endpoint) {
	from := e.rampFrom.Load()
	if from == 0 {
		return
	}
	until := from + int64(e.pool.registry.o.SlowStart)
	for {
		known := m.rampUntil.Load()
		if known >= until || m.rampUntil.CompareAndSwap(known, until) {
			return
		}
	}
}

// ramps reports whether a member is in slow start, and what time it is then.
func (m *members) ramps(r *Registry) (ramping bool, now int64) {
	until := m.rampUntil.Load()
	if until == 0 {
		return false, 0
	}
	if now = r.now(); now < until {
		return true, now
	}
	m.rampUntil.CompareAndSwap(until, 0)
	return false, 0
}
