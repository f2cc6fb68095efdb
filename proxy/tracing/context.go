package tracing

import (
	"math/rand/v2"

	"podlane.dev/podlane/proxy/exchange"
)

// The lengths of a traceparent: the version, the trace's ID, the parent's, and flags, in hexadecimal digits with dashes between them.
const (
	traceAt  = 3
	parentAt = traceAt + 2*16 + 1
	flagsAt  = parentAt + 2*8 + 1
	length   = flagsAt + 2
)

// sampledFlag says that whoever sent the context records the trace.
const sampledFlag = 1

// ParseParent reads a traceparent (W3C Trace Context, level 1). ok is false for one that must be ignored.
func ParseParent(value []byte) (c exchange.TraceContext, ok bool) {
	if len(value) < length || value[traceAt-1] != '-' || value[parentAt-1] != '-' || value[flagsAt-1] != '-' {
		return c, false
	}
	var version, flags [1]byte
	if !unhex(version[:], value) || !unhex(flags[:], value[flagsAt:]) || !unhex(c.TraceID[:], value[traceAt:]) || !unhex(c.SpanID[:], value[parentAt:]) {
		return exchange.TraceContext{}, false
	}
	// Versions to come may say more behind it; version 0 may not, and 255 is none.
	if version[0] == 0xff || len(value) > length && (version[0] == 0 || value[length] != '-') {
		return exchange.TraceContext{}, false
	}
	if !c.Known() || c.SpanID == [8]byte{} {
		return exchange.TraceContext{}, false
	}
	c.Sampled = flags[0]&sampledFlag != 0
	return c, true
}

// unhex reads lower-case hexadecimal digits into dst; text must be long enough.
func unhex(dst, text []byte) bool {
	for i := range dst {
		high, low := digit(text[2*i]), digit(text[2*i+1])
		if high|low > 0xf {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

// digit returns the value of a lower-case hexadecimal digit, 0xff for none.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// newSpanID returns an ID that is not zero.
func newSpanID() (id [8]byte) {
	for id == [8]byte{} {
		putUint64(id[:], rand.Uint64())
	}
	return id
}

// newTraceID returns an ID that is not zero. IDs are no secrets: they need not be hard to guess.
func newTraceID() (id [16]byte) {
	for id == [16]byte{} {
		putUint64(id[:8], rand.Uint64())
		putUint64(id[8:], rand.Uint64())
	}
	return id
}

func putUint64(dst []byte, n uint64) {
	for i := range 8 {
		dst[i] = byte(n >> (56 - 8*i))
	}
}
