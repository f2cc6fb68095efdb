package observe

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestSpanCounts(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(NewSpans(func() SpanCounts { return SpanCounts{Sent: 1, Failed: 2, Dropped: 3} })); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "podlane_trace_spans_total" {
		t.Fatalf("%v, %v", families, err)
	}
	got := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	if len(got) != 3 || got["sent"] != 1 || got["failed"] != 2 || got["dropped"] != 3 {
		t.Errorf("%v", got)
	}
}
