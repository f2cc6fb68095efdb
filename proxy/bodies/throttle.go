package bodies

import (
	"math"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// Throttle limits how fast the bodies of answers leave, each by itself. The zero value limits nothing. It is immutable, and an
// exchange.ResponseFilter, which must come behind all others that wrap the body: it counts the bytes that leave.
//
// It counts as nginx does: after n seconds of a request at most After + PerSecond × (n + 1) bytes of its answer have left. So an answer
// begins with the bytes of one second, and an answer that was slow for a while, or came late, may be faster after that.
type Throttle struct {
	// PerSecond is the rate in bytes; 0 or less means that there is no limit.
	PerSecond int64
	// After is the number of bytes that leave at full speed before.
	After int64
}

// FilterResponse paces the body of x's answer, where it has one.
func (t Throttle) FilterResponse(x *exchange.Exchange) {
	if t.PerSecond > 0 && x.Response.Body != nil {
		x.Response.Body = t.body(x.Response.Body, x.Timing.Start)
	}
}

// quanta is the number of parts in which the bytes of a second leave: the wait between two is long enough to be worth it, and short enough
// that a video does not stutter, and that a client that has gone away is noticed.
const quanta = 10

func (t Throttle) body(source exchange.Body, start time.Time) *throttled {
	return &throttled{
		Body: source, start: start, after: min(max(t.After, 0), plenty), rate: float64(t.PerSecond), quantum: max(t.PerSecond/quanta, 1),
	}
}

// throttled implements exchange.Paced.
type throttled struct {
	exchange.Body
	start       time.Time
	after, sent int64
	rate        float64
	quantum     int64
	rest        []byte // of what the source gave last
}

// credit is the number of bytes that may leave now.
func (b *throttled) credit() int64 {
	// In floating point, because rate × time of long answers is beyond an int64; it is exact to a byte in the first 2^53.
	earned := b.rate * (time.Since(b.start).Seconds() + 1)
	return int64(min(earned, plenty)) + b.after - b.sent
}

// plenty is more bytes than any answer has; twice as many are still an int64.
const plenty = math.MaxInt64 / 4

// Wait implements exchange.Paced. Where nothing may leave, the wait is for a part that is worth it.
func (b *throttled) Wait() time.Duration {
	credit := b.credit()
	if credit > 0 || b.sent == b.Length() {
		return 0 // at its end there is nothing to wait for
	}
	seconds := float64(b.quantum-credit) / b.rate
	return max(time.Duration(seconds*float64(time.Second)), 1)
}

// Next implements exchange.Body. It does not wait for time: who calls it too early gets a part early, and waits for it later.
func (b *throttled) Next() ([]byte, error) {
	if len(b.rest) == 0 {
		p, err := b.Body.Next()
		if err != nil {
			return nil, err
		}
		b.rest = p
	}
	credit := b.credit()
	if credit <= 0 {
		credit = b.quantum
	}
	n := min(int64(len(b.rest)), credit)
	p := b.rest[:n:n]
	b.rest = b.rest[n:]
	b.sent += n
	return p, nil
}

// Ready reports whether Next will return without a wait for the peer.
func (b *throttled) Ready() bool { return len(b.rest) > 0 || exchange.Ready(b.Body) }
