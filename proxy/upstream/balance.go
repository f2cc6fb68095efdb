package upstream

import "math/bits"

// choice is one call of View.Next: the members it looks at and what it may not take. It lives on the stack: the
// algorithms are its methods and not an interface, because what goes through an interface is allocated.
type choice struct {
	m        *members
	tried    *Tried
	registry *Registry
	turn     uint64
	ramping  bool
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

// byWeight is RandomTwo while slow start is under way: a's turn counts as often as its weight says, and loads are
// compared by weight.
func (c *choice) byWeight(a, b *Endpoint) *Endpoint {
	now := c.registry.now()
	wa, wb := a.weight(now), b.weight(now)
	if c.passes(wa) {
		a, b, wa, wb = b, a, wb, wa
		if c.passesAgain(wa) { // both are new
			return c.inTurn()
		}
	}
	if float64(b.inflight.Load()+1)/wb < float64(a.inflight.Load()+1)/wa {
		return b
	}
	return a
}

// passes reports, at random, whether an Endpoint of weight w lets its turn pass.
func (c *choice) passes(w float64) bool { return w < 1 && unit(mix(c.turn+1)) >= w }

// passesAgain is passes with another throw of the dice.
func (c *choice) passesAgain(w float64) bool { return w < 1 && unit(mix(^c.turn)) >= w }

// unit maps h to [0, 1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// inTurn is RoundRobin.
func (c *choice) inTurn() *Endpoint {
	var now int64
	if c.ramping {
		now = c.registry.now()
	}
	var passed *Endpoint
	for k, i := 0, c.first(); k < len(c.m.inUse); k, i = k+1, i+1 {
		if i == len(c.m.inUse) {
			i = 0
		}
		e := c.m.inUse[i]
		if c.probes(e) {
			return e
		}
		if !c.takes(e) {
			continue
		}
		if c.ramping && unit(mix(c.turn+uint64(i)<<32)) >= e.weight(now) {
			if passed == nil {
				passed = e
			}
			continue
		}
		return e
	}
	return passed
}

// leastConnections is LeastConnections. The scan begins with the Endpoint whose turn it is, so that equals rotate.
func (c *choice) leastConnections() *Endpoint {
	if c.ramping {
		return c.leastByWeight()
	}
	var best *Endpoint
	var least int64
	for k, i := 0, c.first(); k < len(c.m.inUse); k, i = k+1, i+1 {
		if i == len(c.m.inUse) {
			i = 0
		}
		e := c.m.inUse[i]
		if k == 0 && c.probes(e) {
			return e
		}
		if n := e.inflight.Load(); (best == nil || n < least) && c.takes(e) {
			best, least = e, n
		}
	}
	return best
}

// leastByWeight is leastConnections while slow start is under way. Idle Endpoints rotate by weight.
func (c *choice) leastByWeight() *Endpoint {
	now := c.registry.now()
	turn := c.inTurn()
	if turn == nil || turn.inflight.Load() == 0 {
		return turn
	}
	best, least := turn, float64(turn.inflight.Load()+1)/turn.weight(now)
	for _, e := range c.m.inUse {
		if load := float64(e.inflight.Load()+1) / e.weight(now); load < least && c.takes(e) {
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
	now := c.registry.now()
	wa, wb := 1.0, 1.0
	if c.ramping {
		if wa = a.weight(now); c.passes(wa) {
			return b
		}
		wb = b.weight(now)
	}
	if b.delay(now)/wb < a.delay(now)/wa {
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
