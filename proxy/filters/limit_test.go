package filters_test

import (
	"net/netip"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/limit"
	"podlane.dev/podlane/router/policy"
)

// limited returns a Chain with all limits.
func limited(t testing.TB) *filters.Chain {
	t.Helper()
	rt := filters.NewRuntime(0)
	r := route(t, "/", policy.Values{"limit-rps": "1000000", "limit-rpm": "1000000", "limit-connections": "10", "limit-whitelist": "10.0.0.0/8"}, filters.Limit())
	return filters.Compile([]filters.Policy{filters.Limit()}, r, &rt)
}

// once sends a request through the limits, to its end, and reports whether it passed.
func once(c *filters.Chain, x *exchange.Exchange) bool {
	verdict := c.FilterRequest(x)
	x.End()
	return verdict == exchange.Continue
}

func TestLimitsAllocateNothing(t *testing.T) {
	chain, x := limited(t), request("a.example", "/")
	x.Client.Addr, x.Timing.Start = netip.MustParseAddr("192.0.2.1"), time.Now()
	if n := testing.AllocsPerRun(200, func() {
		if !once(chain, x) {
			t.Fatal("refused")
		}
	}); n >= 1 && !raceEnabled { // the pool of places may be emptied meanwhile
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLimits(b *testing.B) {
	chain, x := limited(b), request("a.example", "/")
	x.Client.Addr, x.Timing.Start = netip.MustParseAddr("192.0.2.1"), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		x.Timing.Start = x.Timing.Start.Add(time.Millisecond)
		if !once(chain, x) {
			b.Fatal("refused")
		}
	}
}

// TestZonesAreGivenBack: a Chain that is released leaves its zones to those that come after it, and then to nobody.
func TestZonesAreGivenBack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	rt := filters.NewRuntime(0)
	v := policy.Values{"limit-rps": "1", "limit-rpm": "1", "limit-connections": "1"}
	one := filters.Compile([]filters.Policy{filters.Limit()}, route(t, "/", v, filters.Limit()), &rt)
	two := filters.Compile([]filters.Policy{filters.Limit()}, route(t, "/two", v, filters.Limit()), &rt)
	if n := rt.Zones.Len(); n != 3 {
		t.Errorf("%d zones, want 3 of the one Ingress", n)
	}
	one.Release()
	for _, later := range []time.Duration{0, limit.Keep + time.Minute} {
		if rt.Sweep(now.Add(later)); rt.Zones.Len() != 3 {
			t.Errorf("%d zones while one Chain has them", rt.Zones.Len())
		}
	}
	two.Release()
	rt.Sweep(now.Add(time.Hour))
	if rt.Sweep(now.Add(time.Hour + limit.Keep + time.Minute)); rt.Zones.Len() != 0 {
		t.Errorf("%d zones that nobody has", rt.Zones.Len())
	}
}
