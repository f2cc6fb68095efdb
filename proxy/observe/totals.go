package observe

import "slices"

// Totals are what all routes have counted since the start of the process, those that are gone included.
type Totals struct {
	// Requests are all that matched a route. ClientErrors were answered 4xx, those among them whose client went away first (499) too;
	// ServerErrors were answered 5xx.
	Requests, ClientErrors, ServerErrors uint64
	// InFlight is the number of requests that are under way now.
	InFlight int64
	// Bounds are the upper bounds, in seconds, of the whole times of requests; Times has how many were in each, and those above all of them last.
	Bounds []float64
	Times  []uint64
}

// Totals returns the counts of now. Its cost is that of the number of routes. Both slices are the caller's.
func (m *Metrics) Totals() Totals {
	m.mu.Lock()
	v := view{members: make([]*RouteMetrics, 0, len(m.routes))}
	for _, r := range m.routes {
		v.members = append(v.members, r)
	}
	for _, g := range m.groups[byProcess] { // there is one at most
		v.past = g.past
	}
	m.mu.Unlock()
	t := Totals{InFlight: v.rest().inFlight, Bounds: slices.Clone(m.seconds.uppers)}
	for class, n := range v.classes() {
		t.Requests += n
		switch class {
		case class4xx, class499:
			t.ClientErrors += n
		case class5xx:
			t.ServerErrors += n
		}
	}
	times := v.histogram(wholeTime)
	t.Times = slices.Clone(times.buckets[:len(t.Bounds)+1])
	return t
}
