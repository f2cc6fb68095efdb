package http2

import (
	"io"

	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy/exchange"
)

// ReadFields fills x's request from the fields of a header block that no client has sent, by the rules for those that one has sent: names are in lower case,
// and pseudo-header fields come first (RFC 9113 section 8.3). A request with a Content-Length has a body of that length, of which no byte comes. The error is an *exchange.Reject where the request must be refused, and ErrMalformed where its stream
// would be reset. What x's request holds stays valid for as long as x is used.
func ReadFields(x *exchange.Exchange, fields []exchange.Field, o Options) error {
	o = o.withDefaults()
	h := new(requestHead)
	h.begin(&o)
	for _, f := range fields {
		h.field(hpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	h.end()
	x.Request.Version = exchange.HTTP2
	if h.malformed {
		return ErrMalformed
	}
	x.Request.Body = nil
	if err := h.fillRequest(x); err != nil {
		return err
	}
	if h.length > 0 {
		x.Request.Body = absent(h.length)
	}
	return nil
}

// absent is a body of known length of which nothing comes.
type absent int64

// Next returns io.ErrUnexpectedEOF: there is nothing.
func (absent) Next() ([]byte, error) { return nil, io.ErrUnexpectedEOF }

// Length is the length that was declared.
func (n absent) Length() int64 { return int64(n) }
