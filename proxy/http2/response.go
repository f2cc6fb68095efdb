package http2

import (
	"errors"
	"sync"

	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy/exchange"
)

// InvalidResponse is an answer of a Pod that breaks the rules of HTTP; the client gets 502. Detail says which rule.
type InvalidResponse struct{ Detail string }

// Error returns the detail.
func (e *InvalidResponse) Error() string { return "invalid response: " + e.Detail }

// IsInvalid reports whether err is a violation of HTTP by the Pod.
func IsInvalid(err error) bool {
	_, ok := errors.AsType[*InvalidResponse](err)
	return ok || errors.Is(err, ErrMalformed)
}

var (
	errStatus         = &InvalidResponse{"malformed status"}
	errResponseField  = &InvalidResponse{"malformed header field"}
	errResponseLarge  = &InvalidResponse{"header too large"}
	errResponseLength = &InvalidResponse{"malformed or repeated Content-Length"}
	errResponseOrder  = &InvalidResponse{"header block out of order"}
	errInterims       = &InvalidResponse{"too many interim responses"}
)

// responseHead is built from the fields of a response's header block. It is more tolerant than requestHead: names may hold underscores,
// fields may repeat, and those that describe an HTTP/1.1 connection, which some Pods send on, are dropped: in HTTP/2 they mean nothing.
type responseHead struct {
	head
	o      *Options
	status int
	count  int
	size   int
	length int64 // Content-Length, or -1
	ends   bool  // the stream ends with it
	err    *InvalidResponse
}

var responseHeads = sync.Pool{New: func() any { return new(responseHead) }}

func (h *responseHead) begin(o *Options) {
	h.reset()
	*h = responseHead{head: h.head, o: o, length: -1}
}

// field takes the next field of the block.
func (h *responseHead) field(f hpack.HeaderField) {
	h.size += len(f.Name) + len(f.Value) + 32
	h.count++
	switch {
	case h.err != nil:
	case h.size > h.o.HeaderList || h.count > h.o.Fields:
		h.err = errResponseLarge
	case f.Name == ":status":
		h.statusField(f.Value)
	case h.status == 0:
		h.err = errStatus
	case !isLowerToken(f.Name) || !isValue(f.Value):
		h.err = errResponseField
	default:
		h.regular(f.Name, f.Value)
	}
}

func isLowerToken(s string) bool { return s != "" && all(s, lowerTchar) }

// statusField takes :status: once, and first.
func (h *responseHead) statusField(value string) {
	n, ok := parseLength(value)
	if !ok || len(value) != 3 || n < 100 || n == 101 || h.status != 0 {
		h.err = errStatus
		return
	}
	h.status = int(n)
}

func (h *responseHead) regular(name, value string) {
	id := exchange.IDOf(name)
	if connectionSpecific(id) {
		return
	}
	if id == exchange.ContentLength {
		n, ok := parseLength(value)
		if !ok || h.length >= 0 {
			h.err = errResponseLength
			return
		}
		h.length = n
	}
	h.add(id, name, value)
}

// end judges the whole head after its last field.
func (h *responseHead) end() {
	if h.err == nil && h.status == 0 {
		h.err = errStatus
	}
	if h.err == nil && h.status < 200 && h.ends {
		h.err = errResponseOrder
	}
}

// bodyless reports whether the answer has no body, whatever its Content-Length says.
func (h *responseHead) bodyless() bool { return h.status < 200 || h.status == 204 || h.status == 304 }

// fillResponse makes x's response of the head.
func (h *responseHead) fillResponse(x *exchange.Exchange) {
	r := &x.Response
	r.Status, r.Version, r.Reason = h.status, exchange.HTTP2, nil
	h.fill(&r.Fields)
	if h.status < 200 || h.status == 204 {
		r.Fields.Del(exchange.ContentLength)
	}
}
