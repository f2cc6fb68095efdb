package observe

import dto "github.com/prometheus/client_model/go"

// This file shows what is counted under the names of ingress-nginx, for the dashboards and alerts of those who come from it. They differ from
// its own in this: status is a class ("2xx"), as with its --report-status-classes, and there is no method, which is the client's to choose.

// NginxOptions ask for the families of ingress-nginx beside ours.
type NginxOptions struct {
	On bool
	// Class, Namespace and Pod are the labels controller_class, controller_namespace and controller_pod.
	Class, Namespace, Pod string
}

// nginxPrefix is the beginning of all names of ingress-nginx.
const nginxPrefix = "nginx_ingress_controller_"

// sizeBounds are the buckets of ingress-nginx's sizes, in bytes.
func sizeBounds() *bounds {
	uppers := []float64{10, 100, 1e3, 1e4, 1e5, 1e6, 1e7}
	limits := make([]int64, len(uppers))
	for i, upper := range uppers {
		limits[i] = int64(upper)
	}
	return newBounds(limits, uppers, 1)
}

// numSizes is the number of buckets of sizeBounds.
const numSizes = 7

// nginxSeries is how many series a group of ingress-nginx's families can have.
func nginxSeries(buckets int) int {
	times := numClasses * histogramSeries(buckets) // whole, by class
	times += 3 * histogramSeries(buckets)          // to the head, to the end, connect
	return numClasses + times + 3*histogramSeries(numSizes) + 2
}

// nginxTraffic is what only ingress-nginx's families need.
type nginxTraffic struct {
	label         labels
	limits        []int64 // of sizes
	whole         [numClasses]histogram
	answer        histogram
	received, out histogram
}

func (n *nginxTraffic) observe(s *Served, class int, seconds []int64) {
	n.whole[class].observe(int64(s.Whole), seconds)
	if s.FirstByte > 0 {
		n.answer.observe(int64(s.Answer), seconds)
	}
	n.received.observe(s.In, n.limits)
	n.out.observe(s.Out, n.limits)
}

// newNginxTraffic returns counters with ingress-nginx's labels for key.
func (m *Metrics) newNginxTraffic(key routeKey) *nginxTraffic {
	n := &nginxTraffic{limits: m.sizes.limits}
	n.label = newLabels([]pair{
		{"canary", key.canary}, {"controller_class", m.nginx.Class}, {"controller_namespace", m.nginx.Namespace}, {"controller_pod", m.nginx.Pod},
		{"host", key.host}, {"ingress", key.ingress}, {"namespace", key.namespace}, {"path", key.path}, {"service", key.service},
	})
	return n
}

// nginxFamilies are the families of ingress-nginx that routes have.
type nginxFamilies struct {
	requests, whole, answer, head, connect, received, sent, bytes, latency family
}

func newNginxFamilies() *nginxFamilies {
	const counter, histogram, summary = dto.MetricType_COUNTER, dto.MetricType_HISTOGRAM, dto.MetricType_SUMMARY
	l := []string{"canary", "controller_class", "controller_namespace", "controller_pod", "host", "ingress", "namespace", "path", "service"}
	withStatus := append([]string{"status"}, l...)
	return &nginxFamilies{
		requests: family{nginxPrefix + "requests", "podlane_requests_total by its name in ingress-nginx; status is a class.", counter, withStatus},
		whole:    family{nginxPrefix + "request_duration_seconds", "Time from the first byte of a request to the last byte of its answer.", histogram, withStatus},
		answer:   family{nginxPrefix + "response_duration_seconds", "Time from when a Pod was asked to the last byte of its answer.", histogram, l},
		head:     family{nginxPrefix + "header_duration_seconds", "Time from when a Pod was asked to the head of its answer.", histogram, l},
		connect:  family{nginxPrefix + "connect_duration_seconds", "Time that connections to Pods took which were made for a request.", histogram, l},
		received: family{nginxPrefix + "request_size", "Body bytes of requests.", histogram, l},
		sent:     family{nginxPrefix + "response_size", "Body bytes of answers.", histogram, l},
		bytes:    family{nginxPrefix + "bytes_sent", "The same as response_size.", histogram, l},
		latency:  family{nginxPrefix + "ingress_upstream_latency_seconds", "The sum and the count of header_duration_seconds.", summary, l},
	}
}

// emitNginx writes the families of ingress-nginx, in which each RouteMetrics is a group. One that counted nothing has no series.
func (m *Metrics) emitNginx(e emitter, routes []*RouteMetrics) {
	f := m.nginxFamilies
	e.begin(&f.requests)
	for _, r := range routes {
		for class := range r.classes {
			if n := r.classes[class].Load(); n > 0 {
				e.count(pair{"status", className(class)}, &r.nginx.label, n)
			}
		}
	}
	var c counts
	each := func(f *family, b *bounds, which func(*RouteMetrics) *histogram) {
		e.begin(f)
		e.in(b)
		for _, r := range routes {
			c = counts{}
			c.add(which(r), len(b.limits)+1)
			switch {
			case c.count() == 0:
			case f.kind == dto.MetricType_SUMMARY:
				e.summary(&r.nginx.label, &c)
			default:
				e.histogram(pair{}, &r.nginx.label, &c)
			}
		}
	}
	m.emitNginxWhole(e, routes)
	each(&f.answer, m.seconds, func(r *RouteMetrics) *histogram { return &r.nginx.answer })
	each(&f.head, m.seconds, func(r *RouteMetrics) *histogram { return &r.histograms[podTime] })
	each(&f.connect, m.seconds, func(r *RouteMetrics) *histogram { return &r.histograms[connectTime] })
	each(&f.received, m.sizes, func(r *RouteMetrics) *histogram { return &r.nginx.received })
	each(&f.sent, m.sizes, func(r *RouteMetrics) *histogram { return &r.nginx.out })
	each(&f.bytes, m.sizes, func(r *RouteMetrics) *histogram { return &r.nginx.out })
	each(&f.latency, m.seconds, func(r *RouteMetrics) *histogram { return &r.histograms[podTime] })
}

func (m *Metrics) emitNginxWhole(e emitter, routes []*RouteMetrics) {
	e.begin(&m.nginxFamilies.whole)
	e.in(m.seconds)
	var c counts
	for _, r := range routes {
		for class := range r.nginx.whole {
			c = counts{}
			if c.add(&r.nginx.whole[class], len(m.seconds.limits)+1); c.count() > 0 {
				e.histogram(pair{"status", className(class)}, &r.nginx.label, &c)
			}
		}
	}
}
