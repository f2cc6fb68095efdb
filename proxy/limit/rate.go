package limit

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Rate is what a RateZone allows each key. The zero Rate allows everything. It is comparable.
type Rate struct {
	// Requests in each Per. As in nginx the rate is a whole number of thousandths of a request a second, rounded down, and at least one.
	Requests int
	Per      time.Duration
	// Burst is how many requests more than the rate are let through, at once, before one is refused.
	Burst int
}

// one is a request in the unit of excess: a thousandth.
const one = 1000

// allowance is a Rate in units of calculation.
type allowance struct {
	rate  int64 // thousandths of a request a second; 0 allows everything
	burst int64 // thousandths of a request
}

func (r Rate) allowance() allowance {
	if r.Requests <= 0 || r.Per <= 0 {
		return allowance{}
	}
	// A product of 128 bits: no number of requests overflows it.
	hi, lo := bits.Mul64(uint64(r.Requests), one*uint64(time.Second))
	rate := uint64(math.MaxInt64)
	if hi < uint64(r.Per) {
		rate, _ = bits.Div64(hi, lo, uint64(r.Per))
	}
	return allowance{
		rate:  int64(min(max(rate, 1), math.MaxInt64)),
		burst: int64(min(max(r.Burst, 0), math.MaxInt64/one-1)) * one,
	}
}

// RateZone is a leaky bucket for each key. A request adds one to the key's bucket, which leaks at the Rate, and is refused where the bucket then
// holds more than Burst; what is refused adds nothing. A key that is new, or whose bucket is empty, gets one request for nothing, so that Burst+1 pass
// at once. It is safe for concurrent use, and one call locks one shard of the keys, for well under a microsecond.
//
// A zone remembers a bounded number of keys. Buckets that have run empty are forgotten, which nobody notices. Where all are in use, the one that was
// asked for longest ago goes, as in nginx: whoever owns it starts anew. To refuse new keys instead would let one client with many addresses lock
// everybody else out.
type RateZone struct {
	zones   *Zones
	hold    hold
	allowed atomic.Pointer[allowance]
	shards  []shard
}

func newRateZone(z *Zones) *RateZone {
	count := 1
	if z.maxKeys >= minSharded {
		count = shardCount
	}
	zone := &RateZone{zones: z, shards: make([]shard, count)}
	for i := range zone.shards {
		zone.shards[i].max = z.maxKeys / count
	}
	return zone
}

// Configure makes r what the zone allows. Buckets keep what they hold.
func (z *RateZone) Configure(r Rate) {
	a := r.allowance()
	if now := z.allowed.Load(); now == nil || *now != a {
		z.allowed.Store(&a)
	}
}

// Release says that the caller of Zones.Rate needs the zone no more. It may still be used by requests under way.
func (z *RateZone) Release() {
	z.zones.mu.Lock()
	defer z.zones.mu.Unlock()
	z.hold.give()
}

// Take counts a request of key and reports whether it may pass. now is in nanoseconds on any clock that does not go back, the same for all
// calls. An empty key is not limited, as in nginx. It does not keep key, and allocates nothing for a key that it remembers.
//
// A request that two zones limit is counted in neither where one refuses it: Check the first, then Take from the second, then from the first.
func (z *RateZone) Take(key []byte, now int64) bool {
	a := z.allowed.Load()
	if len(key) == 0 || a.rate == 0 {
		return true
	}
	d := z.zones.digest(key)
	s := &z.shards[d.shard(len(z.shards))]
	s.mu.Lock()
	passes := s.take(d, now, a)
	s.mu.Unlock()
	return passes
}

// Check reports what Take would, and counts nothing.
func (z *RateZone) Check(key []byte, now int64) bool {
	a := z.allowed.Load()
	if len(key) == 0 || a.rate == 0 {
		return true
	}
	d := z.zones.digest(key)
	s := &z.shards[d.shard(len(z.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	i, known := s.index[d]
	return !known || s.buckets[i].with(now, a.rate) <= a.burst
}

// Len is the number of keys that are remembered.
func (z *RateZone) Len() int {
	n := 0
	for i := range z.shards {
		s := &z.shards[i]
		s.mu.Lock()
		n += len(s.index)
		s.mu.Unlock()
	}
	return n
}

// Evicted is how many buckets were forgotten that were not empty, because the zone was full.
func (z *RateZone) Evicted() uint64 {
	var n uint64
	for i := range z.shards {
		s := &z.shards[i]
		s.mu.Lock()
		n += s.evicted
		s.mu.Unlock()
	}
	return n
}

// sweep forgets empty buckets and gives back memory.
func (z *RateZone) sweep(now int64) {
	a := z.allowed.Load()
	for i := range z.shards {
		s := &z.shards[i]
		s.mu.Lock()
		s.sweep(now, a.rate)
		s.mu.Unlock()
	}
}
