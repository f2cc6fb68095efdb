package observe_test

import (
	"testing"
	"time"

	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
)

// TestTotals: what all routes counted, and what those counted that are gone.
func TestTotals(t *testing.T) {
	t.Parallel()
	m, err := observe.NewMetrics(observe.MetricsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Totals(); got.Requests != 0 || len(got.Times) != len(got.Bounds)+1 {
		t.Errorf("before the first route: %+v", got)
	}
	a := m.Route(router.RouteID{Namespace: "a", Ingress: "a"}, router.Service{Namespace: "a", Name: "s"})
	b := m.Route(router.RouteID{Namespace: "b", Ingress: "b"}, router.Service{Namespace: "b", Name: "s"})
	a.Begin()
	for i, status := range []int{200, 204, 301, 404, 499, 500, 503} {
		r := a
		if i%2 == 1 {
			r = b
		}
		r.Observe(&observe.Served{Status: status, Whole: 3 * time.Millisecond})
	}
	b.Release()
	got := m.Totals()
	if got.Requests != 7 || got.ClientErrors != 2 || got.ServerErrors != 2 || got.InFlight != 1 {
		t.Errorf("%+v", got)
	}
	if got.Times[1] != 7 || got.Bounds[1] != 0.005 { // 1 to 5 ms
		t.Errorf("times %v in %v", got.Times, got.Bounds)
	}
	a.End()
	a.Release()
	if got := m.Totals(); got.Requests != 7 || got.InFlight != 0 {
		t.Errorf("once all routes are gone: %+v", got)
	}
}
