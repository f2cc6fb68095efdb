package observe

import "slices"

// group is what the routes have in common that one series is about: at each level of labels, each route belongs to one.
type group struct {
	key   routeKey
	label labels
	refs  int // RouteMetrics of it
	// past is what routes counted that are gone, nil for nothing: a sum must not go down while others stay. It is replaced and never changed.
	past *totals
}

// totals are the counts of a RouteMetrics, or of several.
type totals struct {
	classes    [numClasses]uint64
	retries    uint64
	in, out    uint64
	histograms [numHistograms]counts
}

// counts are those of a histogram.
type counts struct {
	sum     uint64
	buckets [maxBuckets + 1]uint64
}

// add takes in what h has counted, in so many buckets.
func (c *counts) add(h *histogram, buckets int) {
	c.sum += h.sum.Load()
	for i := range buckets {
		c.buckets[i] += h.buckets[i].Load()
	}
}

// after returns t, nil for nothing, with what r has counted.
func (t *totals) after(r *RouteMetrics) *totals {
	next := new(totals)
	if t != nil {
		*next = *t
	}
	for class := range r.classes {
		next.classes[class] += r.classes[class].Load()
	}
	next.retries += r.retries.Load()
	next.in += r.in.Load()
	next.out += r.out.Load()
	for i := range r.histograms {
		next.histograms[i].add(&r.histograms[i], len(r.bounds)+1)
	}
	return next
}

// fold returns the classes where 1xx is counted as 2xx and 499 as 4xx.
func fold(classes [numClasses]uint64) [numClasses]uint64 {
	classes[class2xx] += classes[class1xx]
	classes[class4xx] += classes[class499]
	classes[class1xx], classes[class499] = 0, 0
	return classes
}

// join returns the group of key at a level, of which there is one more RouteMetrics. m.mu is held.
func (m *Metrics) join(l level, key routeKey) *group {
	key = key.at(l)
	g := m.groups[l][key]
	if g == nil {
		g = &group{key: key, label: newLabels(key.labels(l))}
		m.groups[l][key] = g
	}
	g.refs++
	return g
}

// leave takes r out of g, whose series end with the last. What there is for the whole process stays. m.mu is held.
func (m *Metrics) leave(l level, g *group, r *RouteMetrics) {
	if g.refs--; g.refs == 0 && l != byProcess {
		delete(m.groups[l], g.key)
		return
	}
	g.past = g.past.after(r)
}

// view is a group as a scrape sees it: with those who are in it, and what was counted before. A RouteMetrics that is released meanwhile is still in
// members and not yet in past, so that nothing is counted twice.
type view struct {
	label   *labels
	members []*RouteMetrics
	past    *totals
}

// sorted is all counters in the order of their labels, and how they are shown. It is immutable.
type sorted struct {
	routes []*RouteMetrics
	views  [numLevels][]view // of the levels that are shown
	plan   planned
}

// inOrder returns all counters. They are sorted, and what labels they have is decided, after a change only. m.mu is held.
func (m *Metrics) inOrder() *sorted {
	if m.sorted != nil {
		return m.sorted
	}
	s := &sorted{routes: make([]*RouteMetrics, 0, len(m.routes))}
	for _, r := range m.routes {
		s.routes = append(s.routes, r)
	}
	slices.SortFunc(s.routes, func(a, b *RouteMetrics) int { return a.key.compare(b.key) })
	n := counted{certificates: m.certificates}
	for l := range m.groups {
		n.groups[l] = len(m.groups[l])
	}
	if m.plans.nginx {
		n.nginx = len(m.routes)
	}
	s.plan = n.plan(m.plans, m.lastRung)
	m.lastRung = s.plan.index
	for _, l := range []level{s.plan.requests, s.plan.durations, s.plan.phases, s.plan.rest} {
		if s.views[l] == nil {
			s.views[l] = viewsOf(l, s.routes)
		}
	}
	m.sorted = s
	return s
}

// viewsOf returns the groups of a level. Those who are in one follow each other in routes, because they are sorted.
func viewsOf(l level, routes []*RouteMetrics) []view {
	var views []view
	for i := 0; i < len(routes); {
		g, from := routes[i].groups[l], i
		for i < len(routes) && routes[i].groups[l] == g {
			i++
		}
		views = append(views, view{&g.label, routes[from:i], g.past})
	}
	return views
}

// Bound returns what the number of series stays below with the objects of now.
func (m *Metrics) Bound() Bound {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.inOrder().plan
	return Bound{Series: p.bound, Max: max(m.plans.max, 0), Steps: p.index - m.plans.detail.firstRung(), Labels: p.text}
}

// classes returns the counts by class.
func (v *view) classes() [numClasses]uint64 {
	var sum [numClasses]uint64
	if v.past != nil {
		sum = v.past.classes
	}
	for _, r := range v.members {
		for class := range sum {
			sum[class] += r.classes[class].Load()
		}
	}
	return sum
}

// histogram returns the counts of one histogram. Its count is the sum of the buckets that were read, so that the two always agree, although
// requests go on.
func (v *view) histogram(which int) counts {
	var sum counts
	if v.past != nil {
		sum = v.past.histograms[which]
	}
	for _, r := range v.members {
		sum.add(&r.histograms[which], len(r.bounds)+1)
	}
	return sum
}

// rest is what is counted of a request beside its class and times.
type rest struct {
	inFlight         int64
	retries, in, out uint64
}

func (v *view) rest() rest {
	var sum rest
	if v.past != nil {
		sum = rest{0, v.past.retries, v.past.in, v.past.out}
	}
	for _, r := range v.members {
		sum.inFlight += r.inFlight.Load()
		sum.retries += r.retries.Load()
		sum.in += r.in.Load()
		sum.out += r.out.Load()
	}
	return sum
}

// used reports whether v has counted anything, or is about to.
func (v *view) used() bool {
	if v.past != nil {
		return true
	}
	for _, r := range v.members {
		if r.inFlight.Load() != 0 || r.histograms[wholeTime].sum.Load() != 0 {
			return true
		}
		for class := range r.classes {
			if r.classes[class].Load() != 0 {
				return true
			}
		}
	}
	return false
}
