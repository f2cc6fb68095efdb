package dashboard

import (
	"sync"
	"time"

	"podlane.dev/podlane/proxy/observe"
)

// The plots show a quarter of an hour.
const (
	every = 5 * time.Second
	kept  = 180
)

// Sample is what happened between two looks at the totals.
type Sample struct {
	// At is when it ended, in milliseconds since 1970.
	At int64 `json:"at"`
	// Rate is requests per second, and ClientErrors and ServerErrors are those of them that were answered 4xx and 5xx.
	Rate         float64 `json:"rate"`
	ClientErrors float64 `json:"clientErrors"`
	ServerErrors float64 `json:"serverErrors"`
	InFlight     int64   `json:"inFlight"`
	// P50 and P99 are quantiles of the whole times of requests in milliseconds, as far as buckets tell; 0 where there were no requests.
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// ring keeps the last samples. It is safe for concurrent use.
type ring struct {
	mu      sync.Mutex
	samples []Sample
	last    observe.Totals
	at      time.Time
}

// take adds a sample of what has happened since the last call, of which the first has none.
func (r *ring) take(now observe.Totals, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, since := r.last, at.Sub(r.at).Seconds()
	first := r.at.IsZero()
	r.last, r.at = now, at
	if first || since <= 0 {
		return
	}
	times := make([]uint64, len(now.Times))
	for i := range times {
		times[i] = grown(before.Times[i], now.Times[i])
	}
	s := Sample{
		At: at.UnixMilli(), InFlight: now.InFlight,
		Rate:         float64(grown(before.Requests, now.Requests)) / since,
		ClientErrors: float64(grown(before.ClientErrors, now.ClientErrors)) / since,
		ServerErrors: float64(grown(before.ServerErrors, now.ServerErrors)) / since,
		P50:          1000 * quantile(0.5, now.Bounds, times),
		P99:          1000 * quantile(0.99, now.Bounds, times),
	}
	if len(r.samples) == kept {
		r.samples = append(r.samples[:0], r.samples[1:]...)
	}
	r.samples = append(r.samples, s)
}

// grown is by how much a counter has grown. One that is read while it is moved may seem to have shrunk.
func grown(before, now uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

// all returns a copy of the samples, the oldest first.
func (r *ring) all() []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Sample{}, r.samples...)
}

// quantile estimates a quantile from counts between bounds as Prometheus does: evenly spread within a bucket, and the highest bound for what is
// above all of them.
func quantile(q float64, bounds []float64, counts []uint64) float64 {
	var total uint64
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank, below := q*float64(total), uint64(0)
	for i, upper := range bounds {
		if n := counts[i]; n > 0 && float64(below+n) >= rank {
			lower := 0.0
			if i > 0 {
				lower = bounds[i-1]
			}
			return lower + (upper-lower)*(rank-float64(below))/float64(n)
		}
		below += counts[i]
	}
	return bounds[len(bounds)-1]
}
