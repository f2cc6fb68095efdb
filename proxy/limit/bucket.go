package limit

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

// bucket is the state of one key. It has no pointers: the collector has nothing to scan in a zone.
type bucket struct {
	of     digest
	excess int64 // thousandths of a request
	last   int64 // when excess was true
	// The list of all buckets by when they were asked for. Bucket 0 is none: newer is the one that was longest ago, older the last one.
	newer, older uint32
}

// with returns the excess with one more request at now: what nginx's ngx_http_limit_req_lookup calculates, in nanoseconds.
func (b *bucket) with(now, rate int64) int64 {
	return max(0, b.excess-leaked(rate, now-b.last)+one)
}

// empty reports whether b is like one that was never asked for.
func (b *bucket) empty(now, rate int64) bool {
	return b.excess-leaked(rate, now-b.last)+one <= 0
}

// leaked is rate × elapsed, rounded down to a thousandth of a request. Callers on two processors may come in another order than they read the clock: then
// elapsed is negative, and nothing has leaked.
func leaked(rate, elapsed int64) int64 {
	if elapsed <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(rate), uint64(elapsed))
	if hi >= uint64(time.Second) {
		return math.MaxInt64
	}
	amount, _ := bits.Div64(hi, lo, uint64(time.Second))
	return int64(min(amount, math.MaxInt64))
}

// shard is a part of a zone's keys.
type shard struct {
	mu      sync.Mutex
	index   map[digest]uint32
	buckets []bucket // bucket 0 is the list's anchor
	unused  uint32   // first of the buckets that hold nothing, linked by newer; 0 is none
	max     int
	evicted uint64

	_ [64]byte // the next shard's lock lies in another cache line
}

// take counts a request of d and reports whether it may pass.
func (s *shard) take(d digest, now int64, a *allowance) bool {
	i, known := s.index[d]
	if !known {
		s.add(d, now, a.rate)
		return true
	}
	s.unlink(i)
	s.link(i)
	b := &s.buckets[i]
	excess := b.with(now, a.rate)
	if excess > a.burst {
		return false
	}
	b.excess, b.last = excess, max(b.last, now)
	return true
}

// add makes a bucket for d. Up to two that are empty go for it, so that their number falls again after a flood.
func (s *shard) add(d digest, now, rate int64) {
	if s.buckets == nil {
		s.index, s.buckets = map[digest]uint32{}, make([]bucket, 1, 4)
	}
	for range 2 {
		oldest := s.buckets[0].newer
		if oldest == 0 || !s.buckets[oldest].empty(now, rate) {
			break
		}
		s.remove(oldest)
	}
	if len(s.index) >= s.max {
		s.remove(s.buckets[0].newer)
		s.evicted++
	}
	i := s.unused
	if i == 0 {
		i = uint32(len(s.buckets))
		s.buckets = append(s.buckets, bucket{})
	} else {
		s.unused = s.buckets[i].newer
	}
	s.buckets[i] = bucket{of: d, last: now}
	s.index[d] = i
	s.link(i)
}

func (s *shard) remove(i uint32) {
	s.unlink(i)
	delete(s.index, s.buckets[i].of)
	s.buckets[i] = bucket{newer: s.unused}
	s.unused = i
}

// link makes bucket i the one that was asked for last.
func (s *shard) link(i uint32) {
	last := s.buckets[0].older
	s.buckets[i].older, s.buckets[i].newer = last, 0
	s.buckets[last].newer = i
	s.buckets[0].older = i
}

func (s *shard) unlink(i uint32) {
	b := &s.buckets[i]
	s.buckets[b.older].newer = b.newer
	s.buckets[b.newer].older = b.older
}

// sweep forgets buckets that are empty, from the one on that was asked for longest ago, and gives back memory where most of it is unused.
func (s *shard) sweep(now, rate int64) {
	for s.buckets != nil {
		oldest := s.buckets[0].newer
		if oldest == 0 {
			s.index, s.buckets, s.unused = nil, nil, 0
			return
		}
		if rate != 0 && !s.buckets[oldest].empty(now, rate) {
			break
		}
		s.remove(oldest)
	}
	const small = 64
	if len(s.buckets) > small && len(s.buckets) > 4*len(s.index) {
		s.compact()
	}
}

// compact moves the buckets to memory of their size, in the order of the list.
func (s *shard) compact() {
	from := s.buckets
	n := len(s.index)
	s.index, s.buckets, s.unused = make(map[digest]uint32, n), make([]bucket, 1, n+1), 0
	for i := from[0].newer; i != 0; i = from[i].newer {
		at := uint32(len(s.buckets))
		s.buckets = append(s.buckets, from[i])
		s.index[from[i].of] = at
		s.link(at)
	}
}
