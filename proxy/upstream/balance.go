package upstream

import "math/bits"

// choice is one call of View.Next: the members it looks at and what it may not take. It lives on the stack: the
// algorithms are its methods and not an interface, because what goes through an interface is allocated.
type choice struct {
	m        *members
	tried    *Tried
	registry *Registry
	turn     uint64
	// ramping says that a member is in slow start; now is only set with it.
	ramping bool
	now     int64
}

// first is the index of the Endpoint whose turn it is.
func (c *choice) first() int { return int(c.turn % uint64(len(c.m.inUse))) }

// another is an index other than i, at random, where there are two at least. The turn, mixed, is random enough.
func (c *choice) another(i int) int {
	n := uint64(len(c.m.inUse))
	skip, _ := bits.Mul64(mix(c.turn), n-1)
	j := i + 1 + int(skip)
	if j >= int(n) {
		j -= int(n)
	}
	return j
}

// takes reports whether e may be chosen.
func (c *choice) takes(e *Endpoint) bool {
	return e.ejected.Load() == 0 && !c.tried.Has(e) && !e.full()
}

// probes reports whether e, which is out, gets this request as its probe.
func (c *choice) probes(e *Endpoint) bool {
	return e.ejected.Load() != 0 && !c.tried.Has(e) && e.probes(c.registry.now())
}

// full reports whether e is at its limit.
func (e *Endpoint) full() bool { return e.endpoint > 0 && e.inflight.Load() >= e.endpoint }

// twoByLoad is RandomTwo.
func (c *choice) twoByLoad() *Endpoint {
	i := c.first()
	a := c.m.inUse[i]
	if len(c.m.inUse) == 1 {
		return c.only(a)
	}
	b := c.m.inUse[c.another(i)]
	switch {
	case c.probes(a):
		return a
	case !c.takes(a) || !c.takes(b):
		return c.oneOf(a, b)
	case c.ramping:
		return c.byWeight(a, b)
	case b.inflight.Load() < a.inflight.Load():
		return b
	}
	return a
}

// only returns the single member, if it may be chosen.
func (c *choice) only(e *Endpoint) *Endpoint {
	if c.takes(e) {
		return e
	}
	return nil
}

// oneOf returns the one of two Endpoints that may be chosen, else the next in turn that may. Where one is out, its
// turns fall to others at random and not all to its neighbour.
func (c *choice) oneOf(a, b *Endpoint) *Endpoint {
	switch {
	case c.takes(a):
		return a
	case c.takes(b):
		return b
	}
	return c.inTurn()
}

// byWeight is RandomTwo while slow start is under way: an Endpoint's turn counts as often as its weight says, and loads
// are compared by weight.
func (c *choice) byWeight(a, b *Endpoint) *Endpoint {
	if c.passes(a) {
		a, b = b, a
		if c.passes(a) {
			return c.inTurn()
		}
	}
	if c.load(b) < c.load(a) {
		return b
	}
	return a
}

// load is e's requests in flight by its weight.
func (c *choice) load(e *Endpoint) float64 { return float64(e.inflight.Load()) / e.weight(c.now) }

// passes reports, at random, whether e lets its turn pass because it is in slow start.
func (c *choice) passes(e *Endpoint) bool {
	if !c.ramping {
		return false
	}
	w := e.weight(c.now)
	return w < 1 && unit(mix(c.turn^e.seed)) >= w
}

// unit maps h to [0, 1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// inTurn is RoundRobin. Where the Endpoint whose turn it is may not be chosen, the scan goes on from a random one, or
// its neighbour would get all of its share.
func (c *choice) inTurn() *Endpoint {
	i := c.first()
	if e := c.m.inUse[i]; c.probes(e) || c.takes(e) && !c.passes(e) {
		return e
	}
	if len(c.m.inUse) == 1 {
		return c.only(c.m.inUse[0])
	}
	var passed *Endpoint
	for k, j := 0, c.another(i); k < len(c.m.inUse); k, j = k+1, j+1 {
		if j == len(c.m.inUse) {
			j = 0
		}
		e := c.m.inUse[j]
		if !c.takes(e) {
			continue
		}
		if !c.passes(e) {
			return e
		}
		if passed == nil {
			passed = e
		}
	}
	return passed
}

// leastConnections is LeastConnections. The scan begins with the Endpoint whose turn it is, so that equals rotate, or with
// a random one where that is out, as in inTurn.
func (c *choice) leastConnections() *Endpoint {
	if c.ramping {
		return c.leastByWeight()
	}
	i := c.first()
	switch e := c.m.inUse[i]; {
	case c.probes(e):
		return e
	case len(c.m.inUse) > 1 && !c.takes(e):
		i = c.another(i)
	}
	var best *Endpoint
	var least int64
	for k := 0; k < len(c.m.inUse); k, i = k+1, i+1 {
		if i == len(c.m.inUse) {
			i = 0
		}
		e := c.m.inUse[i]
		if n := e.inflight.Load(); (best == nil || n < least) && c.takes(e) {
			best, least = e, n
		}
	}
	return best
}

// leastByWeight is leastConnections while slow start is under way. Equals rotate by weight.
func (c *choice) leastByWeight() *Endpoint {
	best := c.inTurn()
	if best == nil {
		return nil
	}
	least := c.load(best)
	for _, e := range c.m.inUse {
		if load := c.load(e); load < least && c.takes(e) {
			best, least = e, load
		}
	}
	return best
}

// twoByDelay is PeakEWMA: RandomTwo by expected delay.
func (c *choice) twoByDelay() *Endpoint {
	i := c.first()
	a := c.m.inUse[i]
	if len(c.m.inUse) == 1 {
		return c.only(a)
	}
	b := c.m.inUse[c.another(i)]
	if c.probes(a) {
		return a
	}
	if !c.takes(a) || !c.takes(b) {
		return c.oneOf(a, b)
	}
	if c.passes(a) {
		return b
	}
	if now := c.registry.now(); b.delay(now) < a.delay(now) {
		return b
	}
	return a
}

// hashed is Hash: the Endpoint with the highest score, or one of the highest few.
func (c *choice) hashed(key uint64, subset int) *Endpoint {
	if subset > 1 {
		return c.hashedSubset(key, subset)
	}
	var best, out *Endpoint
	var high, outHigh uint64
	for i, seed := range c.m.seeds {
		s := mix(key ^ seed)
		if best != nil && s <= high {
			continue
		}
		switch e := c.m.inUse[i]; {
		case c.takes(e):
			best, high = e, s
		case s > outHigh:
			out, outHigh = e, s
		}
	}
	if out != nil && outHigh > high && c.probes(out) {
		return out
	}
	return best
}

// hashedSubset keeps the subset highest scores in order, and takes the less loaded of two of them.
func (c *choice) hashedSubset(key uint64, subset int) *Endpoint {
	var scores [MaxSubset]uint64
	var list [MaxSubset]*Endpoint
	n := 0
	for i, seed := range c.m.seeds {
		s := mix(key ^ seed)
		if n == subset && s <= scores[n-1] {
			continue
		}
		e := c.m.inUse[i]
		if !c.takes(e) {
			continue
		}
		if n < subset {
			n++
		}
		k := n - 1
		for ; k > 0 && scores[k-1] < s; k-- {
			scores[k], list[k] = scores[k-1], list[k-1]
		}
		scores[k], list[k] = s, e
	}
	switch n {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	i := int(c.turn % uint64(n))
	skip, _ := bits.Mul64(mix(c.turn), uint64(n-1))
	a, b := list[i], list[(i+1+int(skip))%n]
	if b.inflight.Load() < a.inflight.Load() {
		return b
	}
	return a
}

// anyUntried returns an Endpoint that was not tried although it is ejected or at its limit, in turn: a request that has
// nothing better is not refused for what others met.
func (c *choice) anyUntried() *Endpoint {
	var full *Endpoint
	for k, i := 0, c.first(); k < len(c.m.inUse); k, i = k+1, i+1 {
		if i == len(c.m.inUse) {
			i = 0
		}
		e := c.m.inUse[i]
		switch {
		case c.tried.Has(e):
		case !e.full():
			return e
		case full == nil:
			full = e
		}
	}
	return full
}
