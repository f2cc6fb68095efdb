package observe

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// routeFamilies are the families that routes have.
type routeFamilies struct {
	requests, inFlight, retries, received, sent family
	times                                       [numHistograms]family
}

// groupLabels are those at the level of Ingresses and Services.
func groupLabels() []string { return []string{"ingress", "namespace", "service"} }

func newRouteFamilies() *routeFamilies {
	const counter, gauge, histogram = dto.MetricType_COUNTER, dto.MetricType_GAUGE, dto.MetricType_HISTOGRAM
	l := groupLabels()
	return &routeFamilies{
		requests: family{"podlane_requests_total", "Requests that matched a route, by the class of the answer; 499: the client went away before it.", counter, append([]string{"class"}, l...)},
		inFlight: family{"podlane_requests_in_flight", "Requests that were matched and are not over.", gauge, l},
		retries:  family{"podlane_request_retries_total", "Further attempts for requests that were already tried.", counter, l},
		received: family{"podlane_request_body_bytes_total", "Body bytes that clients sent.", counter, l},
		sent:     family{"podlane_response_body_bytes_total", "Body bytes that clients were sent.", counter, l},
		times: [numHistograms]family{
			wholeTime:     {"podlane_request_duration_seconds", "Time from the first byte of a request to the last byte of its answer.", histogram, l},
			firstByteTime: {"podlane_request_first_byte_seconds", "Time from the first byte of a request to the head of a Pod's answer.", histogram, l},
			podTime:       {"podlane_upstream_first_byte_seconds", "Time from when a Pod was asked to the head of its answer, with tries that failed.", histogram, l},
			connectTime:   {"podlane_upstream_connect_duration_seconds", "Time that connections to Pods took which were made for a request.", histogram, l},
		},
	}
}

// Gatherer returns what /metrics shows, for formats other than text. The families of routes do not go through a prometheus.Registry: to check the
// consistency of 25,000 series that are consistent by construction would take longer than all the rest of a scrape. A
// test checks it instead.
func (m *Metrics) Gatherer() prometheus.Gatherer { return prometheus.GathererFunc(m.gather) }

// gather returns all families by name. As with any Gatherer, there may be an error beside them.
func (m *Metrics) gather() ([]*dto.MetricFamily, error) {
	families, err := m.registry.Gather()
	var e messages
	m.emit(&e)
	families = append(families, e.families...)
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families, err
}

// AppendText appends what /metrics shows in the text format of Prometheus, version 0.0.4. As with a Gatherer, there may be an error beside it.
func (m *Metrics) AppendText(dst []byte) ([]byte, error) {
	families, err := m.registry.Gather()
	e := text{b: dst}
	for _, f := range families {
		if _, broken := expfmt.MetricFamilyToText(&e, f); broken != nil && err == nil {
			err = fmt.Errorf("write metrics: %w", broken)
		}
	}
	m.emit(&e)
	return e.b, err
}

// Write implements io.Writer.
func (t *text) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	return len(p), nil
}

// emit writes the families of routes, family by family.
func (m *Metrics) emit(e emitter) {
	m.mu.Lock()
	s := m.inOrder()
	m.mu.Unlock()
	m.emitRequests(e, s)
	e.in(m.seconds)
	var c counts // one for all: it would be an allocation for each
	for which := range numHistograms {
		l := s.plan.phases
		if which == wholeTime {
			l = s.plan.durations
		}
		e.begin(&m.families.times[which])
		for i := range s.views[l] {
			v := &s.views[l][i]
			if c = v.histogram(which); c.count() > 0 {
				e.histogram(pair{}, v.label, &c)
			}
		}
	}
	m.emitRest(e, s.views[s.plan.rest])
	if m.plans.nginx {
		m.emitNginx(e, s.routes)
	}
}

// emitRequests writes podlane_requests_total. A class that was never answered with has no series.
func (m *Metrics) emitRequests(e emitter, s *sorted) {
	e.begin(&m.families.requests)
	for i := range s.views[s.plan.requests] {
		v := &s.views[s.plan.requests][i]
		classes := v.classes()
		if s.plan.folded {
			classes = fold(classes)
		}
		for class, n := range classes {
			if n > 0 {
				e.count(pair{"class", className(class)}, v.label, n)
			}
		}
	}
}

// emitRest writes what is counted beside classes and times. A group without any request yet has no series.
func (m *Metrics) emitRest(e emitter, views []view) {
	f := m.families
	sums := make([]rest, len(views))
	used := make([]bool, len(views))
	for i := range views {
		used[i], sums[i] = views[i].used(), views[i].rest()
	}
	each := func(f *family, write func(*labels, *rest)) {
		e.begin(f)
		for i := range views {
			if used[i] {
				write(views[i].label, &sums[i])
			}
		}
	}
	each(&f.inFlight, func(l *labels, r *rest) { e.level(pair{}, l, float64(r.inFlight)) })
	each(&f.retries, func(l *labels, r *rest) { e.count(pair{}, l, r.retries) })
	each(&f.received, func(l *labels, r *rest) { e.count(pair{}, l, r.in) })
	each(&f.sent, func(l *labels, r *rest) { e.count(pair{}, l, r.out) })
}
