package observe

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"

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

// maxBuckets bounds MetricsOptions.Buckets, so that the counters of a histogram are one block of memory.
const maxBuckets = 24

// routeKey is what the series of a route are told apart by: the values of its labels. Two routes that differ only in the
// type of their path share it, and their counters.
type routeKey struct{ namespace, ingress, service, host, path string }

func (k routeKey) compare(o routeKey) int {
	return cmp.Or(
		strings.Compare(k.namespace, o.namespace), strings.Compare(k.ingress, o.ingress), strings.Compare(k.service, o.service),
		strings.Compare(k.host, o.host), strings.Compare(k.path, o.path))
}

// RouteMetrics are the counters of one Route and one of its Backends. Begin, End, Observe and Retry are for requests: they
// only add to atomics, and any number of goroutines may call them at once, even after Release.
//
// Requests are counted by route and class; the rest by what MetricsOptions.Detail says, and so shared with other routes.
type RouteMetrics struct {
	// What requests write comes first. A RouteMetrics is over 128 bytes long, so that this part of two of them never shares
	// a cache line, and the rest is written by Route and Release alone.
	classes [numClasses]atomic.Uint64
	traffic *traffic

	owner *Metrics
	key   routeKey
	refs  int // guarded by owner.mu

	// labels of each class, made by the first scrape that needs them; guarded by owner.gathering.
	labels [numClasses][]*dto.LabelPair
}

// traffic is what the routes of one group have in common.
type traffic struct {
	inFlight atomic.Int64
	retries  atomic.Uint64
	in, out  atomic.Uint64 // bytes
	sum      atomic.Uint64 // nanoseconds
	buckets  [maxBuckets + 1]atomic.Uint64

	bounds []time.Duration // of Metrics
	key    routeKey        // with the labels only that Detail keeps
	refs   int             // RouteMetrics that use it; guarded by Metrics.mu

	labels []*dto.LabelPair // guarded by Metrics.gathering
}

// Begin counts a request as being in flight. Each Begin has one End.
func (r *RouteMetrics) Begin() { r.traffic.inFlight.Add(1) }

// End takes back what Begin did.
func (r *RouteMetrics) End() { r.traffic.inFlight.Add(-1) }

// Retry counts another attempt for a request that was already tried.
func (r *RouteMetrics) Retry() { r.traffic.retries.Add(1) }

// Observe counts a request that is over: the status that the client got (499 where it went away before), how long it took
// from its first byte to the last of the answer, and the body bytes from and to the client.
func (r *RouteMetrics) Observe(status int, d time.Duration, in, out int64) {
	r.classes[classOf(status)].Add(1)
	t := r.traffic
	t.in.Add(uint64(max(in, 0)))
	t.out.Add(uint64(max(out, 0)))
	d = max(d, 0)
	t.sum.Add(uint64(d))
	// Most requests are fast: the first buckets are the likely ones, and a search by halves would guess wrong more often.
	i := 0
	for i < len(t.bounds) && d > t.bounds[i] {
		i++
	}
	t.buckets[i].Add(1)
}

// Release ends the use of r by a Route that is gone. The series of r end with its last user; what requests count
// afterwards is lost.
func (r *RouteMetrics) Release() {
	m := r.owner
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.refs--; r.refs > 0 {
		return
	}
	if r.refs < 0 {
		r.refs = 0 // released once too often: it is gone already
		return
	}
	delete(m.routes, r.key)
	if r.traffic.refs--; r.traffic.refs == 0 {
		delete(m.traffic, r.traffic.key)
	}
	m.sorted = nil
}

// Route returns the counters of a route's requests to one of its Backends; service is zero for a route without any. All
// callers with the same arguments share them, so that a Route that replaces an equal one goes on counting: Publish
// calls Route for the new one before Release for the old one. Each result is released once.
func (m *Metrics) Route(id router.RouteID, service router.Service) *RouteMetrics {
	key := routeKey{namespace: id.Namespace, ingress: id.Ingress, service: service.Name, host: id.Host, path: id.Path}
	if service.Name != "" && service.Namespace != id.Namespace {
		key.service = service.String()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.routes[key]; r != nil {
		r.refs++
		return r
	}
	group := m.detail.group(key)
	t := m.traffic[group]
	if t == nil {
		t = &traffic{key: group, bounds: m.bounds}
		m.traffic[group] = t
	}
	t.refs++
	r := &RouteMetrics{owner: m, key: key, traffic: t, refs: 1}
	m.routes[key] = r
	m.sorted = nil
	return r
}

// Detail says which labels the series have that would be too many with those of a route: durations, bytes, retries and
// requests in flight. A route has at most 6 series beside them, one for each class of answers that it has given.
type Detail uint8

const (
	// PerService has the labels namespace, ingress and service.
	PerService Detail = iota
	// PerRoute adds host and path.
	PerRoute
	// PerNamespace has the label namespace alone, for clusters of many thousand Ingresses.
	PerNamespace
)

// group returns the part of k that d keeps.
func (d Detail) group(k routeKey) routeKey {
	switch d {
	case PerRoute:
		return k
	case PerNamespace:
		return routeKey{namespace: k.namespace}
	}
	return routeKey{namespace: k.namespace, ingress: k.ingress, service: k.service}
}

// labels returns the labels of a group, by name.
func (d Detail) labels(k routeKey) []*dto.LabelPair {
	switch d {
	case PerRoute:
		return []*dto.LabelPair{label("host", k.host), label("ingress", k.ingress), label("namespace", k.namespace),
			label("path", k.path), label("service", k.service)}
	case PerNamespace:
		return []*dto.LabelPair{label("namespace", k.namespace)}
	}
	return []*dto.LabelPair{label("ingress", k.ingress), label("namespace", k.namespace), label("service", k.service)}
}

// label returns a label whose value is valid UTF-8, as the formats of Prometheus demand. Objects of Kubernetes always are.
func label(name, value string) *dto.LabelPair {
	value = strings.ToValidUTF8(value, "\ufffd")
	return &dto.LabelPair{Name: &name, Value: &value}
}

// sortedTraffic is all counters in the order of their labels. It is immutable.
type sortedTraffic struct {
	routes []*RouteMetrics
	groups []*traffic
}

// inOrder returns all counters. They are sorted after a change only.
func (m *Metrics) inOrder() *sortedTraffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sorted != nil {
		return m.sorted
	}
	s := &sortedTraffic{routes: make([]*RouteMetrics, 0, len(m.routes)), groups: make([]*traffic, 0, len(m.traffic))}
	for _, r := range m.routes {
		s.routes = append(s.routes, r)
	}
	for _, t := range m.traffic {
		s.groups = append(s.groups, t)
	}
	slices.SortFunc(s.routes, func(a, b *RouteMetrics) int { return a.key.compare(b.key) })
	slices.SortFunc(s.groups, func(a, b *traffic) int { return a.key.compare(b.key) })
	m.sorted = s
	return s
}
