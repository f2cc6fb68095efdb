package http2

import (
	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy/exchange"
)

// trailers is a trailer section.
type trailers struct {
	head
	o         *Options
	size      int
	malformed bool
}

func (t *trailers) begin(o *Options) {
	t.reset()
	t.size, t.malformed, t.o = 0, false, o
}

// field takes the next field of the block. What must not come in a trailer section is dropped.
func (t *trailers) field(f hpack.HeaderField) {
	t.size += len(f.Name) + len(f.Value) + len(": \r\n")
	if t.malformed || t.size > maxTrailer || len(t.lines) == maxTrailers || f.Name == "" || len(f.Name) > maxName ||
		!all(f.Name, lowerTchar) || !isValue(f.Value) {
		t.malformed = true
		return
	}
	id := exchange.IDOf(f.Name)
	if connectionSpecific(id) {
		t.malformed = true
		return
	}
	if !forbiddenTrailer(id, f.Name) && (t.o.Underscores == KeepUnderscores || !hasUnderscore(f.Name)) {
		t.add(id, f.Name, f.Value)
	}
}
