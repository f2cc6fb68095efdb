package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// latency is an Endpoint's peak-sensitive moving average of the time to the first byte: microseconds in the upper half of
// one word, the instant of the last change in milliseconds in the lower, so that both change at once. 0 means unknown.
type latency struct{ packed atomic.Uint64 }

// latencyDecay is the time in which an old value loses all but 1/e of its weight.
const latencyDecay = 10 * time.Second

func packLatency(us float64, now int64) uint64 {
	return uint64(min(us, math.MaxUint32))<<32 | uint64(uint32(now/int64(time.Millisecond)))
}

// read returns the average in microseconds as it has decayed until now; known is false where nothing was observed.
func (l *latency) read(now int64) (us float64, known bool) {
	p := l.packed.Load()
	if p == 0 {
		return 0, false
	}
	age := uint32(now/int64(time.Millisecond)) - uint32(p) // wraps after 49 days, as it should
	return float64(p>>32) * math.Exp(-float64(age)/float64(latencyDecay/time.Millisecond)), true
}

// observe enters a measured time: a longer one replaces the average, a shorter one pulls it down in the course of latencyDecay.
func (l *latency) observe(now int64, took time.Duration) {
	us := max(float64(took)/float64(time.Microsecond), 1)
	for {
		old := l.packed.Load()
		next := us
		if old != 0 {
			was := float64(old >> 32)
			age := uint32(now/int64(time.Millisecond)) - uint32(old)
			if w := math.Exp(-float64(age) / float64(latencyDecay/time.Millisecond)); was > us {
				next = was*w + us*(1-w)
			}
		}
		if l.packed.CompareAndSwap(old, packLatency(next, now)) {
			return
		}
	}
}

// delay is what a further request has to expect. An Endpoint of which nothing is known gets one request to find out, and
// further ones only when all others are busier still.
func (e *Endpoint) delay(now int64) float64 {
	n := float64(e.inflight.Load()) / e.weight(now)
	us, known := e.latency.read(now)
	if !known {
		return n * float64(time.Second/time.Microsecond)
	}
	return (us + 1) * (n + 1)
}
