package observe

import "github.com/prometheus/client_golang/prometheus"

// SpanCounts are numbers of spans since the start, by what became of them.
type SpanCounts struct {
	// Sent spans were taken by the collector of traces, Failed ones were not; Dropped ones found the queue full.
	Sent, Failed, Dropped uint64
}

// NewSpans returns a collector that shows what counts returns. counts is called concurrently.
func NewSpans(counts func() SpanCounts) prometheus.Collector {
	desc := prometheus.NewDesc("podlane_trace_spans_total", "Spans of requests, by whether the collector of traces took them.", []string{"result"}, nil)
	return spans{desc, counts}
}

type spans struct {
	desc   *prometheus.Desc
	counts func() SpanCounts
}

// Describe implements prometheus.Collector.
func (s spans) Describe(c chan<- *prometheus.Desc) { c <- s.desc }

// Collect implements prometheus.Collector.
func (s spans) Collect(c chan<- prometheus.Metric) {
	now := s.counts()
	for _, v := range []struct {
		result string
		n      uint64
	}{{"sent", now.Sent}, {"failed", now.Failed}, {"dropped", now.Dropped}} {
		c <- prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, float64(v.n), v.result)
	}
}
