package observe

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The names of the families that routes have.
const (
	requestsName      = "podlane_requests_total"
	durationName      = "podlane_request_duration_seconds"
	inFlightName      = "podlane_requests_in_flight"
	retriesName       = "podlane_request_retries_total"
	requestBytesName  = "podlane_request_body_bytes_total"
	responseBytesName = "podlane_response_body_bytes_total"
)

// Gatherer returns what /metrics shows. The families of routes do not go through a prometheus.Registry: to check the
// consistency of 25,000 series that are consistent by construction would take longer than all the rest of a scrape. A
// test checks it instead.
func (m *Metrics) Gatherer() prometheus.Gatherer { return prometheus.GathererFunc(m.gather) }

// gather returns all families by name. As with any Gatherer, there may be an error beside them.
func (m *Metrics) gather() ([]*dto.MetricFamily, error) {
	families, err := m.registry.Gather()
	m.gathering.Lock()
	defer m.gathering.Unlock()
	s := m.inOrder()
	families = append(families, m.requests(s.routes))
	families = append(families, m.groups(s.groups)...)
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families, err
}

// A slab hands out values from arrays: a scrape needs three for each series, which would be most of its cost.
type slab[T any] struct{ free []T }

func (s *slab[T]) next() *T {
	if len(s.free) == 0 {
		s.free = make([]T, 256)
	}
	v := &s.free[0]
	s.free = s.free[1:]
	return v
}

// scrape makes the values of one call of gather, which belong to its caller.
type scrape struct {
	metrics    slab[dto.Metric]
	counters   slab[dto.Counter]
	gauges     slab[dto.Gauge]
	histograms slab[dto.Histogram]
	buckets    slab[dto.Bucket]
	floats     slab[float64]
	uints      slab[uint64]
}

func (s *scrape) float(v float64) *float64 {
	p := s.floats.next()
	*p = v
	return p
}

func (s *scrape) uint(v uint64) *uint64 {
	p := s.uints.next()
	*p = v
	return p
}

func (s *scrape) counter(labels []*dto.LabelPair, v float64) *dto.Metric {
	metric := s.metrics.next()
	metric.Label = labels
	metric.Counter = s.counters.next()
	metric.Counter.Value = s.float(v)
	return metric
}

func (s *scrape) gauge(labels []*dto.LabelPair, v float64) *dto.Metric {
	metric := s.metrics.next()
	metric.Label = labels
	metric.Gauge = s.gauges.next()
	metric.Gauge.Value = s.float(v)
	return metric
}

// duration returns t's histogram. Its count is the sum of the buckets that were read, so that the two always agree,
// although requests go on.
func (s *scrape) duration(t *traffic, bounds []float64) *dto.Metric {
	h := s.histograms.next()
	h.Bucket = make([]*dto.Bucket, len(bounds))
	var count uint64
	for i := range bounds {
		count += t.buckets[i].Load()
		b := s.buckets.next()
		b.UpperBound, b.CumulativeCount = &bounds[i], s.uint(count)
		h.Bucket[i] = b
	}
	count += t.buckets[len(bounds)].Load()
	h.SampleCount = s.uint(count)
	h.SampleSum = s.float(time.Duration(t.sum.Load()).Seconds())
	metric := s.metrics.next()
	metric.Label = t.labels
	metric.Histogram = h
	return metric
}

func family(name, help string, kind dto.MetricType) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Help: &help, Type: &kind}
}

// requests returns podlane_requests_total. A class that a route never answered with has no series.
func (m *Metrics) requests(routes []*RouteMetrics) *dto.MetricFamily {
	f := family(requestsName, "Requests that matched a route, by the class of the answer; 499: the client went away before it.", dto.MetricType_COUNTER)
	var s scrape
	for _, r := range routes {
		for class := range r.classes {
			n := r.classes[class].Load()
			if n == 0 {
				continue
			}
			if r.labels[class] == nil {
				r.labels[class] = append([]*dto.LabelPair{label("class", className(class))}, PerRoute.labels(r.key)...)
			}
			f.Metric = append(f.Metric, s.counter(r.labels[class], float64(n)))
		}
	}
	return f
}

// groups returns the families that Detail is about. A group without any request yet has no series.
func (m *Metrics) groups(groups []*traffic) []*dto.MetricFamily {
	durations := family(durationName, "Time from the first byte of a request to the last byte of its answer.", dto.MetricType_HISTOGRAM)
	inFlight := family(inFlightName, "Requests that were matched and are not over.", dto.MetricType_GAUGE)
	retries := family(retriesName, "Further attempts for requests that were already tried.", dto.MetricType_COUNTER)
	in := family(requestBytesName, "Body bytes that clients sent.", dto.MetricType_COUNTER)
	out := family(responseBytesName, "Body bytes that clients were sent.", dto.MetricType_COUNTER)
	var s scrape
	for _, t := range groups {
		if !t.used() {
			continue
		}
		if t.labels == nil {
			t.labels = m.detail.labels(t.key)
		}
		durations.Metric = append(durations.Metric, s.duration(t, m.buckets))
		inFlight.Metric = append(inFlight.Metric, s.gauge(t.labels, float64(t.inFlight.Load())))
		retries.Metric = append(retries.Metric, s.counter(t.labels, float64(t.retries.Load())))
		in.Metric = append(in.Metric, s.counter(t.labels, float64(t.in.Load())))
		out.Metric = append(out.Metric, s.counter(t.labels, float64(t.out.Load())))
	}
	return []*dto.MetricFamily{durations, inFlight, retries, in, out}
}

// used reports whether t has counted anything.
func (t *traffic) used() bool {
	if t.inFlight.Load() != 0 || t.retries.Load() != 0 {
		return true
	}
	for i := range t.buckets {
		if t.buckets[i].Load() != 0 {
			return true
		}
	}
	return false
}
