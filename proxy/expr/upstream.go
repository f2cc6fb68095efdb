package expr

import (
	"strconv"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// eachLeg appends what value appends for each try, with commas between them as nginx has them, and a dash where a try has none. Where tries are not
// kept, because there is no log, the last is all that is known.
func eachLeg(dst []byte, x *exchange.Exchange, value func(dst []byte, x *exchange.Exchange, l *exchange.Leg) []byte) []byte {
	for i := range x.Upstream.Legs {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		from := len(dst)
		if dst = value(dst, x, &x.Upstream.Legs[i]); len(dst) == from {
			dst = append(dst, '-')
		}
	}
	return dst
}

func upstreamAddr(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if len(x.Upstream.Legs) > 0 {
		return eachLeg(dst, x, func(dst []byte, _ *exchange.Exchange, l *exchange.Leg) []byte { return l.Addr.AppendTo(dst) }), true
	}
	if !x.Upstream.Addr.IsValid() {
		return dst, false
	}
	return x.Upstream.Addr.AppendTo(dst), true
}

func upstreamStatus(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	if len(x.Upstream.Legs) > 0 {
		return eachLeg(dst, x, func(dst []byte, _ *exchange.Exchange, l *exchange.Leg) []byte {
			if status := statusOf(l); status != 0 {
				dst = strconv.AppendInt(dst, int64(status), 10)
			}
			return dst
		}), true
	}
	if !tried(x) {
		return dst, false
	}
	return status(dst, x, n)
}

// statusOf returns the status of a try: where it had no answer, that which nginx counts it as, 0 where the client ended it.
func statusOf(l *exchange.Leg) int {
	switch {
	case l.Status != 0:
		return l.Status
	case l.Why == exchange.NoReason, l.Why == exchange.ClientGone:
		return 0
	case l.Why == exchange.ConnectTimeout, l.Why == exchange.UpstreamTimeout:
		return 504
	}
	return 502
}

func upstreamLength(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	length := x.BytesOut
	if x.Response.Local {
		length = 0
	}
	if legs := x.Upstream.Legs; len(legs) > 0 {
		return eachLeg(dst, x, func(dst []byte, x *exchange.Exchange, l *exchange.Leg) []byte {
			if l == &x.Upstream.Legs[len(x.Upstream.Legs)-1] && !x.Response.Local {
				return strconv.AppendInt(dst, x.BytesOut, 10)
			}
			return append(dst, '0')
		}), true
	}
	if !tried(x) {
		return dst, false
	}
	return strconv.AppendInt(dst, length, 10), true
}

func upstreamTime(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	if len(x.Upstream.Legs) > 0 {
		return eachLeg(dst, x, func(dst []byte, x *exchange.Exchange, l *exchange.Leg) []byte {
			if l.Whole == 0 {
				return milliseconds(dst, now(x).Sub(l.Start).Milliseconds())
			}
			return milliseconds(dst, l.Whole.Milliseconds())
		}), true
	}
	if !tried(x) {
		return dst, false
	}
	return requestTime(dst, x, n)
}

func upstreamConnectTime(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return eachLeg(dst, x, func(dst []byte, _ *exchange.Exchange, l *exchange.Leg) []byte {
		if l.Connect == 0 && !l.Reused {
			return dst
		}
		return milliseconds(dst, l.Connect.Milliseconds())
	}), len(x.Upstream.Legs) > 0
}

func upstreamHeaderTime(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if len(x.Upstream.Legs) > 0 {
		return eachLeg(dst, x, func(dst []byte, _ *exchange.Exchange, l *exchange.Leg) []byte { return reached(dst, l.FirstByte) }), true
	}
	if x.Timing.FirstByte.IsZero() || x.Timing.Start.IsZero() {
		return dst, false
	}
	return milliseconds(dst, x.Timing.FirstByte.Sub(x.Timing.Start).Milliseconds()), true
}

// reached appends a time that is 0 where nothing was reached.
func reached(dst []byte, d time.Duration) []byte {
	if d == 0 {
		return dst
	}
	return milliseconds(dst, d.Milliseconds())
}
