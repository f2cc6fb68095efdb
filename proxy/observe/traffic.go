package observe

import (
	"sync/atomic"
	"time"

	"podlane.dev/podlane/router"
)

// The classes of answers, in the order of their label values. 499 is a class of its own: the client went away, which is
// neither its error nor the Pod's.
const (
	class1xx = iota
	class2xx
	class3xx
	class499
	class4xx
	class5xx
	numClasses

	// foldedClasses is the number of classes where 1xx is counted as 2xx and 499 as 4xx.
	foldedClasses = numClasses - 2
)

// className returns the label value of a class.
func className(class int) string {
	return [numClasses]string{"1xx", "2xx", "3xx", "499", "4xx", "5xx"}[class]
}

// classOf returns the class of a status. What is no status counts as 5xx, which is how clients take it (RFC 9110 section 15).
func classOf(status int) int {
	switch {
	case status == 499:
		return class499
	case 100 <= status && status < 200:
		return class1xx
	case 200 <= status && status < 300:
		return class2xx
	case 300 <= status && status < 400:
		return class3xx
	case 400 <= status && status < 500:
		return class4xx
	}
	return class5xx
}

// The histograms of a route's requests.
const (
	wholeTime = iota
	firstByteTime
	podTime
	connectTime
	numHistograms
)

// maxBuckets bounds MetricsOptions.Buckets, so that the counters of a histogram are one block of memory.
const maxBuckets = 24

// histogram counts durations in nanoseconds, or sizes in bytes.
type histogram struct {
	sum     atomic.Uint64
	buckets [maxBuckets + 1]atomic.Uint64
}

// observe counts v, which belongs to the first of bounds that is not below it. Most requests are fast and small: the first are the likely ones,
// and a search by halves would guess wrong more often.
func (h *histogram) observe(v int64, bounds []int64) {
	v = max(v, 0)
	h.sum.Add(uint64(v))
	i := 0
	for i < len(bounds) && v > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
}

// RouteMetrics are the counters of one Route and one of its Backends. Begin, End and Observe are for requests: they only add to atomics, and
// any number of goroutines may call them at once, even after Release.
type RouteMetrics struct {
	// What requests write comes first. A RouteMetrics is over 128 bytes long, so that this part of two of them never shares
	// a cache line, and the rest is written by Route and Release alone.
	classes    [numClasses]atomic.Uint64
	inFlight   atomic.Int64
	retries    atomic.Uint64
	in, out    atomic.Uint64 // bytes
	histograms [numHistograms]histogram
	nginx      *nginxTraffic // nil where nobody asked for ingress-nginx's families

	bounds []int64 // of Metrics
	owner  *Metrics
	key    routeKey
	refs   int               // guarded by owner.mu
	groups [numLevels]*group // those that it belongs to
}

// Served is what is counted of a request that is over.
type Served struct {
	// Status is what the client got; 499 where it went away before.
	Status int
	// Whole is the time from the request's first byte to the last of the answer.
	Whole time.Duration
	// FirstByte is the time from the request's first byte until the head of a Pod's answer was there, Pod that part of it since a Pod was asked,
	// and Answer the time from asking to the end of the answer. All are 0 where no Pod answered.
	FirstByte, Pod, Answer time.Duration
	// Connect is how long connections took that were made for the request, 0 where none was.
	Connect time.Duration
	// Tries counts the attempts that reached for an endpoint; 0 where the proxy answered by itself.
	Tries int
	// In and Out are the body bytes from and to the client.
	In, Out int64
}

// Begin counts a request as being in flight. Each Begin has one End.
func (r *RouteMetrics) Begin() { r.inFlight.Add(1) }

// End takes back what Begin did.
func (r *RouteMetrics) End() { r.inFlight.Add(-1) }

// Observe counts a request that is over. It reads s only.
func (r *RouteMetrics) Observe(s *Served) {
	class := classOf(s.Status)
	r.classes[class].Add(1)
	if s.In > 0 {
		r.in.Add(uint64(s.In))
	}
	if s.Out > 0 {
		r.out.Add(uint64(s.Out))
	}
	if s.Tries > 1 {
		r.retries.Add(uint64(s.Tries - 1))
	}
	r.histograms[wholeTime].observe(int64(s.Whole), r.bounds)
	if s.FirstByte > 0 {
		r.histograms[firstByteTime].observe(int64(s.FirstByte), r.bounds)
		r.histograms[podTime].observe(int64(s.Pod), r.bounds)
	}
	if s.Connect > 0 {
		r.histograms[connectTime].observe(int64(s.Connect), r.bounds)
	}
	if r.nginx != nil {
		r.nginx.observe(s, class, r.bounds)
	}
}

// Release ends the use of r by a Route that is gone. The series of r end with its last user, and those that it shares with others with the last of
// them; what requests count afterwards is lost.
func (r *RouteMetrics) Release() {
	m := r.owner
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.refs == 0 {
		return // released once too often: it is gone already
	}
	if r.refs--; r.refs > 0 {
		return
	}
	delete(m.routes, r.key)
	for l := m.finest(); l < numLevels; l++ {
		m.leave(l, r.groups[l], r)
	}
	m.sorted = nil
}

// Route returns the counters of a route's requests to one of its Backends; service is zero for a route without any. All
// callers with the same arguments share them, so that a Route that replaces an equal one goes on counting: Publish
// calls Route for the new one before Release for the old one. Each result is released once.
func (m *Metrics) Route(id router.RouteID, service router.Service) *RouteMetrics {
	return m.counters(keyOf(id, service))
}

// Canary is Route for the Backend of a canary. canary is what ingress-nginx's metrics have as its label.
func (m *Metrics) Canary(id router.RouteID, service router.Service, canary string) *RouteMetrics {
	key := keyOf(id, service)
	key.canary = canary
	return m.counters(key)
}

func keyOf(id router.RouteID, service router.Service) routeKey {
	key := routeKey{namespace: id.Namespace, ingress: id.Ingress, service: service.Name, host: id.Host, path: id.Path}
	if service.Name != "" && service.Namespace != id.Namespace {
		key.service = service.String()
	}
	return key
}

// finest returns the finest level that there may be series of.
func (m *Metrics) finest() level {
	if m.plans.detail == PerRoute {
		return byRoute
	}
	return byService
}

// counters returns the counters of key, of which only what some family has as a label is kept.
func (m *Metrics) counters(key routeKey) *RouteMetrics {
	if m.plans.detail != PerRoute {
		key.host = ""
		if !m.plans.nginx {
			key.path, key.canary = "", ""
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.routes[key]; r != nil {
		r.refs++
		return r
	}
	r := &RouteMetrics{owner: m, key: key, bounds: m.bounds, refs: 1}
	if m.plans.nginx {
		r.nginx = m.newNginxTraffic(key)
	}
	for l := m.finest(); l < numLevels; l++ {
		r.groups[l] = m.join(l, key)
	}
	m.routes[key] = r
	m.sorted = nil
	return r
}
