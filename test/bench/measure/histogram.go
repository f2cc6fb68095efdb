package measure

import (
	"math/bits"
	"time"
)

// A Histogram counts durations in buckets whose width grows with them: what it returns is at most 1.6% too high, and recording
// allocates nothing. The zero value is empty.
type Histogram struct {
	counts [buckets]uint64
	total  uint64
	most   time.Duration
}

// fine is the bits of a duration that are kept; below 2^(fine+1) ns buckets are 1 ns wide.
const (
	fine    = 6
	buckets = (63-fine)<<fine + 1<<fine
)

// Record counts one duration. Negative ones, which a clock cannot give, count as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(d)]++
	h.total++
	h.most = max(h.most, d)
}

// bucket is the index of the bucket of d: the exponent above the fine bits, then those.
func bucket(d time.Duration) int {
	exponent := max(bits.Len64(uint64(d))-fine-1, 0)
	return exponent<<fine + int(uint64(d)>>exponent)
}

// upper is the largest duration that falls into a bucket.
func upper(bucket int) time.Duration {
	exponent := max(bucket>>fine-1, 0)
	return time.Duration(uint64(bucket-exponent<<fine+1)<<exponent - 1)
}

// Count is how many were recorded.
func (h *Histogram) Count() uint64 { return h.total }

// Max is the longest, exactly.
func (h *Histogram) Max() time.Duration { return h.most }

// Quantile is the duration that the part q of all recorded did not exceed, 0 where there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := max(uint64(q*float64(h.total)+0.5), 1)
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return min(upper(i), h.most)
		}
	}
	return h.most
}
