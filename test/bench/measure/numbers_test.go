package measure

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQuantiles compares with the exact ones: at most 1/64 too high, never too low.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, scale := range []time.Duration{50, time.Microsecond, time.Millisecond, time.Hour} {
		var h Histogram
		var all []time.Duration
		for range 10_000 {
			d := time.Duration(random.ExpFloat64() * float64(scale))
			h.Record(d)
			all = append(all, d)
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
			exact := all[max(int(q*float64(len(all))+0.5), 1)-1]
			if got := h.Quantile(q); got < exact || got > exact+exact/64 {
				t.Errorf("scale %v: quantile %v = %v, exact %v", scale, q, got, exact)
			}
		}
		if h.Max() != all[len(all)-1] || h.Count() != uint64(len(all)) {
			t.Errorf("scale %v: most %v of %d", scale, h.Max(), h.Count())
		}
	}
}

func TestHistogramEdges(t *testing.T) {
	t.Parallel()
	var h Histogram
	if h.Quantile(0.99) != 0 || h.Max() != 0 {
		t.Error("an empty histogram has durations")
	}
	h.Record(-5)
	h.Record(1<<63 - 1)
	if h.Quantile(0.5) != 0 || h.Quantile(1) != 1<<63-1 {
		t.Errorf("quantiles %v and %v", h.Quantile(0.5), h.Quantile(1))
	}
	// Every bucket's end is in it, and what follows is in the next.
	for i := range buckets - 1 {
		if at := bucket(upper(i)); at != i {
			t.Fatalf("the end of bucket %d, %d, is in %d", i, upper(i), at)
		}
		if at := bucket(upper(i) + 1); at != i+1 {
			t.Fatalf("%d, behind bucket %d, is in %d", upper(i)+1, i, at)
		}
	}
}

func TestRecordAllocatesNothing(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Record(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1, 4}, Spread{4, 1, 9}},
		{[]float64{9, 1, 4, 5}, Spread{4.5, 1, 9}},
	} {
		before := slices.Clone(c.values)
		if got := SpreadOf(c.values); got != c.want {
			t.Errorf("SpreadOf(%v) = %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("SpreadOf changed %v to %v", before, c.values)
		}
	}
}
