package tracing

import (
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of opentelemetry.proto.trace.v1.Span, and of what lies in it.
const (
	scopeSpansSpan = 2

	spanTraceID    = 1
	spanID         = 2
	spanState      = 3
	spanParent     = 4
	spanName       = 5
	spanKind       = 6
	spanStart      = 7
	spanEnd        = 8
	spanAttributes = 9
	spanEvents     = 11
	spanStatus     = 15
	spanFlags      = 16

	eventTime = 1
	eventName = 2

	statusCode = 3

	pairKey   = 1
	pairValue = 2

	valueString = 1
	valueBool   = 2
	valueInt    = 3
)

// The kinds of spans, and the code of a status that is an error.
const (
	kindInternal = 1
	kindServer   = 2
	kindClient   = 3
	codeError    = 2
)

// The flags of a span whose parent is in another process.
const (
	flagsKnown  = 0x100
	flagsRemote = 0x200
)

// maxText bounds a text in a span: what clients send may be as long as the head of a request.
const maxText = 1 << 10

// message appends the tag and the length of the message that was appended to b from start on: where it is, b[start:] moves.
func message(b []byte, start int, number protowire.Number) []byte {
	size := len(b) - start
	head := protowire.SizeTag(number) + protowire.SizeVarint(uint64(size))
	for range head {
		b = append(b, 0)
	}
	copy(b[start+head:], b[start:start+size])
	protowire.AppendVarint(protowire.AppendTag(b[:start], number, protowire.BytesType), uint64(size))
	return b
}

// appendBytes appends a field of bytes.
func appendBytes(b []byte, number protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
}

// appendText appends a field of text, cut to maxText. Bytes that are not UTF-8 become U+FFFD: a collector would refuse all.
func appendText[T string | []byte](b []byte, number protowire.Number, v T) []byte {
	start := len(b)
	for i := 0; i < len(v) && len(b)-start < maxText; {
		if v[i] < utf8.RuneSelf {
			b = append(b, v[i])
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(string(v[i:min(i+utf8.UTFMax, len(v))]))
		b = utf8.AppendRune(b, r)
		i += size
	}
	return message(b, start, number)
}

func appendTime(b []byte, number protowire.Number, t time.Time) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, number, protowire.Fixed64Type), uint64(max(t.UnixNano(), 0)))
}

func appendVarint(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

// attribute appends a KeyValue with a text, or nothing where it is empty.
func attribute[T string | []byte](b []byte, number protowire.Number, name string, v T) []byte {
	if len(v) == 0 {
		return b
	}
	start := len(b)
	b = appendText(b, pairKey, name)
	value := len(b)
	b = message(appendText(b, valueString, v), value, pairValue)
	return message(b, start, number)
}

// number appends a KeyValue with a number.
func number(b []byte, name string, v int64) []byte {
	start := len(b)
	b = appendText(b, pairKey, name)
	value := len(b)
	b = message(appendVarint(b, valueInt, uint64(v)), value, pairValue)
	return message(b, start, spanAttributes)
}

// truth appends a KeyValue with a bool.
func truth(b []byte, name string, v bool) []byte {
	start := len(b)
	b = appendText(b, pairKey, name)
	value := len(b)
	b = message(appendVarint(b, valueBool, protowire.EncodeBool(v)), value, pairValue)
	return message(b, start, spanAttributes)
}

// text appends a KeyValue of a span with a text, or nothing where it is empty.
func text[T string | []byte](b []byte, name string, v T) []byte {
	return attribute(b, spanAttributes, name, v)
}

// address appends an address and its port under two names, or nothing where there is none.
func address(b []byte, name, port string, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	var buf [64]byte
	b = text(b, name, a.Addr().AppendTo(buf[:0]))
	return number(b, port, int64(a.Port()))
}

// appendResource appends the Resource of o as a field of ResourceSpans.
func appendResource(b []byte, o *Options) []byte {
	const resource, attributes = 1, 1
	start := len(b)
	all := append([]Attribute{{"service.name", o.Service}, {"service.version", o.Version}}, o.Resource...)
	for i, a := range all {
		// The last of a name counts: collectors want each once.
		if !slices.ContainsFunc(all[i+1:], func(later Attribute) bool { return later.Name == a.Name }) {
			b = attribute(b, attributes, a.Name, a.Value)
		}
	}
	return message(b, start, resource)
}

// appendScope appends the InstrumentationScope as a field of ScopeSpans.
func appendScope(b []byte, version string) []byte {
	const scope, name, versionField = 1, 1, 2
	start := len(b)
	b = appendText(b, name, "podlane.dev/podlane/proxy/tracing")
	b = appendText(b, versionField, version)
	return message(b, start, scope)
}
