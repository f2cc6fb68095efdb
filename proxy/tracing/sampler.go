package tracing

import (
	"fmt"

	"podlane.dev/podlane/proxy/exchange"
)

// Rule says which traces that begin here are recorded.
type Rule uint8

// The rules. Ratio records a share, by the trace's ID, so that all who sample by it choose alike.
const (
	Always Rule = iota
	Never
	Ratio
)

// String returns the rule in one word.
func (r Rule) String() string { return [...]string{"always", "never", "ratio"}[r] }

// Sampler decides which requests are recorded. The zero Sampler records all. It is comparable.
type Sampler struct {
	Rule Rule
	// Share is that of Ratio, from 0 to 1.
	Share float64
	// ParentBased says that a request which continues a trace is recorded where that is, whatever Rule says.
	ParentBased bool
}

// String returns the sampler for messages and for the text of a Table.
func (s Sampler) String() string {
	text := s.Rule.String()
	if s.Rule == Ratio {
		text += fmt.Sprintf(" %g", s.Share)
	}
	if s.ParentBased {
		text += ", or as the parent"
	}
	return text
}

// Samples reports whether a request is recorded: parent is the context that it continues, or the zero value, and id the ID of its trace.
func (s Sampler) Samples(parent exchange.TraceContext, id [16]byte) bool {
	if s.ParentBased && parent.Known() {
		return parent.Sampled
	}
	switch s.Rule {
	case Never:
		return false
	case Ratio:
		// As OpenTelemetry's SDKs do: the lower half of the ID, as a number of 63 bits.
		var low uint64
		for _, b := range id[8:] {
			low = low<<8 | uint64(b)
		}
		return float64(low>>1) < s.Share*(1<<63)
	}
	return true
}
