package expr

import "podlane.dev/podlane/proxy/exchange"

func traceID(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if !x.Trace.Known() {
		return dst, false
	}
	return exchange.AppendHex(dst, x.Trace.TraceID[:]), true
}

func spanID(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if !x.Trace.Known() {
		return dst, false
	}
	return exchange.AppendHex(dst, x.Trace.SpanID[:]), true
}

func traceParent(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if !x.Trace.Known() {
		return dst, false
	}
	return x.Trace.AppendParent(dst), true
}
