package dashboard

import (
	"math"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/observe"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// totals are counts whose requests took up to 10 ms, 100 ms, 1 s, and longer.
func totals(requests, client, server uint64, times ...uint64) observe.Totals {
	return observe.Totals{
		Requests: requests, ClientErrors: client, ServerErrors: server, InFlight: int64(requests % 7),
		Bounds: []float64{0.01, 0.1, 1}, Times: append(times, make([]uint64, 4-len(times))...),
	}
}

func TestRates(t *testing.T) {
	var r ring
	r.take(totals(1000, 10, 5, 900, 80, 20), start) // what was before says nothing
	r.take(totals(1100, 20, 5, 950, 130, 20), start.Add(10*time.Second))
	got := r.all()
	if len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	// Half of 100 requests took up to 10 ms, and half from there to 100 ms.
	want := Sample{At: start.Add(10 * time.Second).UnixMilli(), Rate: 10, ClientErrors: 1, InFlight: 1, P50: 10, P99: 98.2}
	if s := got[0]; math.Abs(s.P99-want.P99) > 1e-9 || math.Abs(s.P50-want.P50) > 1e-9 {
		t.Errorf("%+v, want %+v", s, want)
	}
	got[0].P50, got[0].P99 = want.P50, want.P99
	if got[0] != want {
		t.Errorf("%+v, want %+v", got[0], want)
	}
	if r.all()[0].P99 == want.P99 && r.all()[0] != want {
		t.Error("the caller's copy is the ring's own")
	}
}

// TestShrunk: counters that are read while they move may seem to shrink; no rate is below 0, nor huge.
func TestShrunk(t *testing.T) {
	var r ring
	r.take(totals(100, 10, 5, 50, 50), start)
	r.take(totals(99, 9, 4, 49, 50), start.Add(5*time.Second))
	if s := r.all()[0]; s.Rate != 0 || s.ClientErrors != 0 || s.ServerErrors != 0 || s.P50 != 0 || s.P99 != 0 {
		t.Errorf("%+v", s)
	}
}

// TestClock: a clock that stands still or goes back gives no sample, and none with a rate of infinity.
func TestClock(t *testing.T) {
	var r ring
	r.take(totals(1, 0, 0), start)
	r.take(totals(2, 0, 0), start)
	r.take(totals(3, 0, 0), start.Add(-time.Hour))
	if got := r.all(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	r.take(totals(13, 0, 0), start.Add(-time.Hour+5*time.Second))
	if got := r.all(); len(got) != 1 || got[0].Rate != 2 {
		t.Errorf("%+v", got)
	}
}

// TestKept: a quarter of an hour is kept, the oldest goes first.
func TestKept(t *testing.T) {
	var r ring
	for i := range 200 {
		r.take(totals(uint64(i*i), 0, 0), start.Add(time.Duration(i)*time.Second))
	}
	got := r.all()
	if len(got) != 180 {
		t.Fatalf("%d samples", len(got))
	}
	for i, s := range got {
		n := i + 20 // of the 199 samples, those from 20 on are kept
		if s.At != start.Add(time.Duration(n)*time.Second).UnixMilli() || s.Rate != float64(2*n-1) {
			t.Fatalf("sample %d: %+v", i, s)
		}
	}
	before := &r.samples[0]
	r.take(totals(1<<20, 0, 0), start.Add(time.Hour))
	if &r.samples[0] != before {
		t.Error("another sample moves them all to a new place")
	}
}

func TestQuantile(t *testing.T) {
	bounds := []float64{0.01, 0.1, 1}
	for _, test := range []struct {
		q      float64
		counts []uint64
		want   float64
	}{
		{0.5, []uint64{0, 0, 0, 0}, 0},
		{0.5, []uint64{10, 0, 0, 0}, 0.005},
		{0.99, []uint64{100, 0, 0, 0}, 0.0099},
		{0.5, []uint64{0, 10, 0, 0}, 0.055},
		{0.5, []uint64{1, 0, 0, 1}, 0.01},
		{0.99, []uint64{0, 0, 0, 1}, 1}, // above all bounds: the highest
		{0.5, []uint64{0, 0, 2, 0}, 0.55},
		{1, []uint64{1, 1, 1, 0}, 1},
	} {
		if got := quantile(test.q, bounds, test.counts); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("quantile(%g) of %v is %g, want %g", test.q, test.counts, got, test.want)
		}
	}
}
