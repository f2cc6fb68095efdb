package exchange

// TraceContext is where a request stands in a distributed trace (W3C Trace Context). The zero value is in none.
type TraceContext struct {
	TraceID [16]byte
	// SpanID is the ID of the span that is the parent of what comes next.
	SpanID [8]byte
	// Sampled says that the trace is recorded.
	Sampled bool
}

// Known reports whether c is in a trace.
func (c *TraceContext) Known() bool { return c.TraceID != [16]byte{} }

// AppendParent appends c as the value of traceparent.
func (c *TraceContext) AppendParent(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = append(AppendHex(dst, c.TraceID[:]), '-')
	dst = append(AppendHex(dst, c.SpanID[:]), "-0"...)
	if c.Sampled {
		return append(dst, '1')
	}
	return append(dst, '0')
}

// AppendHex appends lower-case hexadecimal digits.
func AppendHex(dst, id []byte) []byte {
	const digits = "0123456789abcdef"
	for _, b := range id {
		dst = append(dst, digits[b>>4], digits[b&0xf])
	}
	return dst
}
