package limit_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"podlane.dev/podlane/proxy/limit"
)

// model is a zone as nginx has it, slowly: a list of keys, the one that was asked for last at its end; times in milliseconds. The arithmetic
// is that of ngx_http_limit_req_lookup.
type model struct {
	max     int
	rate    int64 // nginx's: requests × 1000 / scale
	burst   int64
	entries []entry
	evicted uint64
}

type entry struct {
	key          int
	excess, last int64
}

func (m *model) configure(r limit.Rate) {
	scale := int64(r.Per / time.Second)
	m.rate, m.burst = max(1, int64(r.Requests)*1000/scale), int64(r.Burst)*1000
}

func (m *model) excess(e entry, now int64) int64 {
	return e.excess - m.rate*max(0, now-e.last)/1000 + 1000
}

func (m *model) find(key int) int {
	return slices.IndexFunc(m.entries, func(e entry) bool { return e.key == key })
}

func (m *model) check(key int, now int64) bool {
	i := m.find(key)
	return i < 0 || m.excess(m.entries[i], now) <= m.burst
}

func (m *model) take(key int, now int64) bool {
	passes := m.check(key, now)
	i := m.find(key)
	if i < 0 {
		for range 2 {
			m.forget(now)
		}
		if len(m.entries) == m.max {
			m.entries = m.entries[1:]
			m.evicted++
		}
		m.entries = append(m.entries, entry{key: key, last: now})
		return true
	}
	e := m.entries[i]
	if passes {
		e.excess, e.last = max(0, m.excess(e, now)), max(e.last, now)
	}
	m.entries = append(slices.Delete(m.entries, i, i+1), e)
	return passes
}

// forget drops the oldest entry where it is empty.
func (m *model) forget(now int64) bool {
	if len(m.entries) == 0 || m.excess(m.entries[0], now) > 0 {
		return false
	}
	m.entries = m.entries[1:]
	return true
}

// TestRateLikeModel: whatever is asked in whatever order, a zone says and remembers what the model does, through changes of its rate, evictions,
// sweeps, and calls that come a little late.
func TestRateLikeModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.IntRange(1, 100).Draw(t, "max")
		rates := rapid.Custom(func(t *rapid.T) limit.Rate {
			return limit.Rate{
				Requests: rapid.IntRange(1, 2000).Draw(t, "requests"), Burst: rapid.IntRange(0, 20).Draw(t, "burst"),
				Per: rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "per"),
			}
		})
		m := &model{max: keys}
		zones := limit.NewZones(keys)
		r := rates.Draw(t, "rate")
		z := zones.Rate(id(0), r)
		m.configure(r)
		now := int64(1_000_000)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += rapid.SampledFrom([]int64{0, 0, 0, 1, 3, 10, 100, 1000, 60_000, 3_600_000, -2}).Draw(t, "later")
			key := rapid.IntRange(0, 120).Draw(t, "client")
			switch rapid.IntRange(0, 20).Draw(t, "what") {
			case 0:
				r := rates.Draw(t, "rate")
				m.configure(r)
				z.Configure(r)
			case 1:
				for m.forget(now) {
				}
				zones.Sweep(at(now))
			case 2, 3:
				if got, want := z.Check(client(key), at(now)), m.check(key, now); got != want {
					t.Fatalf("Check %d at %d: %v, want %v", key, now, got, want)
				}
			default:
				for range rapid.IntRange(1, 8).Draw(t, "times") {
					if got, want := z.Take(client(key), at(now)), m.take(key, now); got != want {
						t.Fatalf("Take %d at %d: %v, want %v", key, now, got, want)
					}
				}
			}
			if z.Len() != len(m.entries) || z.Evicted() != m.evicted {
				t.Fatalf("%d keys, %d evicted; want %d and %d", z.Len(), z.Evicted(), len(m.entries), m.evicted)
			}
		}
	})
}

// TestRate is the documentation in numbers: Burst+1 at once, then as many as have leaked.
func TestRate(t *testing.T) {
	t.Parallel()
	z := limit.NewZones(0).Rate(id(0), limit.Rate{Requests: 10, Per: time.Second, Burst: 5})
	passed := func(n int, ms int64) (count int) {
		for range n {
			if z.Take(client(1), at(ms)) {
				count++
			}
		}
		return count
	}
	for _, step := range []struct {
		asked      int
		ms         int64
		want       int
		whatItShow string
	}{
		{100, 0, 6, "the burst and one"},
		{100, 99, 0, "99 ms leak less than a request"},
		{100, 100, 1, "100 ms leak one, whatever was refused meanwhile"},
		{100, 350, 2, "250 ms leak two and a half"},
		{100, 400, 1, "the half is not lost"},
		{100, 60_000, 6, "all has leaked, and not more than all"},
	} {
		if got := passed(step.asked, step.ms); got != step.want {
			t.Errorf("at %d ms %d of %d pass, want %d: %s", step.ms, got, step.asked, step.want, step.whatItShow)
		}
	}
	if !z.Take(client(2), at(60_000)) {
		t.Error("another client is refused")
	}
	for range 100 {
		if !z.Take(nil, 0) || !z.Check([]byte{}, 0) {
			t.Fatal("an empty key is limited")
		}
	}
}

// TestLateCall: a call whose clock was read before another's leaks nothing twice.
func TestLateCall(t *testing.T) {
	t.Parallel()
	z := limit.NewZones(0).Rate(id(0), limit.Rate{Requests: 1, Per: time.Second, Burst: 2})
	passed := 0
	for range 10 {
		for _, ms := range []int64{5000, 3000} {
			if z.Take(client(1), at(ms)) {
				passed++
			}
		}
	}
	if passed != 3 {
		t.Errorf("%d pass, want 3", passed)
	}
}

// TestRateBounds: no number makes it overflow, panic, or let nothing through.
func TestRateBounds(t *testing.T) {
	t.Parallel()
	times := []int64{math.MinInt64, 0, math.MaxInt64, 1}
	for _, r := range []limit.Rate{
		{}, {Requests: 1}, {Per: time.Second}, {Requests: -1, Per: time.Second}, {Requests: 1, Per: -1},
		{Requests: math.MaxInt, Per: 1, Burst: math.MaxInt}, {Requests: 1, Per: math.MaxInt64, Burst: -5}, {Requests: math.MaxInt, Per: math.MaxInt64},
	} {
		z := limit.NewZones(10).Rate(id(0), r)
		for _, now := range times {
			z.Take(client(1), now)
			z.Check(client(1), now)
		}
		if !z.Take(client(2), 5) {
			t.Errorf("%+v lets nothing through", r)
		}
		unlimited := r.Requests <= 0 || r.Per <= 0 || r.Burst > 0
		if passes := z.Take(client(2), 5); passes != unlimited {
			t.Errorf("%+v: a second request: %v", r, passes)
		}
	}
}

// TestTwoZones: by the way that Take's comment tells, a request that one zone refuses costs nothing in the other.
func TestTwoZones(t *testing.T) {
	t.Parallel()
	zones := limit.NewZones(0)
	second := zones.Rate(limit.ID{Name: "limit-rps"}, limit.Rate{Requests: 1, Per: time.Second, Burst: 9})
	minute := zones.Rate(limit.ID{Name: "limit-rpm"}, limit.Rate{Requests: 1, Per: time.Minute, Burst: 3})
	passed := 0
	for range 100 {
		if second.Check(client(1), 0) && minute.Take(client(1), 0) && second.Take(client(1), 0) {
			passed++
		}
	}
	if passed != 4 {
		t.Errorf("%d passed, want 4", passed)
	}
	left := 0
	for second.Take(client(1), 0) {
		left++
	}
	if left != 6 {
		t.Errorf("the other zone has %d left, want 6", left)
	}
}
