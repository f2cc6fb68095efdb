package http2

import (
	"crypto/rand"
	"encoding/base64"

	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy/exchange"
)

// head is a header section: its fields as HTTP/1.1 writes them, so that they are copied in one piece toward a Pod that speaks it, and
// where each lies in that text.
type head struct {
	text  []byte
	lines []line
}

type line struct {
	id                             exchange.ID
	name, nameEnd, value, valueEnd int32
}

// keptText bounds the memory of a head that is kept for the next.
const keptText = 4 << 10

func (h *head) reset() {
	if cap(h.text) > keptText {
		h.text = nil
	}
	h.text, h.lines = h.text[:0], h.lines[:0]
}

// add appends a field.
func (h *head) add(id exchange.ID, name, value string) {
	at := int32(len(h.text))
	h.text = append(h.text, name...)
	h.text = append(h.text, ": "...)
	h.text = append(h.text, value...)
	h.text = append(h.text, "\r\n"...)
	end := at + int32(len(name))
	h.lines = append(h.lines, line{id, at, end, end + 2, end + 2 + int32(len(value))})
}

// keep appends bytes that are no field.
func (h *head) keep(s string) span {
	at := len(h.text)
	h.text = append(h.text, s...)
	return span{at, len(h.text)}
}

// fill makes f the fields of h. They lie in h's memory.
func (h *head) fill(f *exchange.Fields) {
	f.Reset(h.text)
	for i := range h.lines {
		l := &h.lines[i]
		f.Parsed(l.id, int(l.name), int(l.nameEnd), int(l.value), int(l.valueEnd))
	}
}

// span is a range of a head's text.
type span struct{ from, to int }

func (s span) of(text []byte) []byte { return text[s.from:s.to:s.to] }

// The pseudo-header fields of a request, as bits.
const (
	pseudoMethod uint8 = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
)

// requestHead is built from the fields of a request's header block, one by one, by the rules of RFC 9113 section 8 and of the contract.
type requestHead struct {
	head
	o         *Options
	seen      uint8 // pseudo-header fields
	inFields  bool  // a field that is none has come
	host      bool  // a Host field has come
	method    span
	path      span
	authority span
	protocol  span
	kind      span   // a Content-Type of a reasonable length
	cookie    []byte // crumbs, joined
	crumbs    int
	count     int
	size      int
	length    int64 // Content-Length, or -1
	// malformed says that the request is none (RFC 9113 section 8.1.1): its stream is reset. reject is the first rule of the contract
	// that it breaks: it is answered with that.
	malformed bool
	reject    *exchange.Reject
}

func (h *requestHead) begin(o *Options) {
	h.reset()
	if cap(h.cookie) > keptText {
		h.cookie = nil
	}
	*h = requestHead{head: h.head, cookie: h.cookie[:0], o: o, length: -1}
}

// judged reports whether the verdict is clear, and done whether the rest of the block need not be looked at either: of a request that is refused, what
// kind it is remains to be found, unless it is too large for that.
func (h *requestHead) judged() bool { return h.malformed || h.reject != nil }

func (h *requestHead) done() bool {
	return h.malformed || h.reject != nil && (h.kind != span{} || h.size > h.o.HeaderList || h.reject == errFieldsMany)
}

func (h *requestHead) refuse(r *exchange.Reject) {
	if h.reject == nil {
		h.reject = r
	}
}

// field takes the next field of the block.
func (h *requestHead) field(f hpack.HeaderField) {
	h.size += len(f.Name) + len(f.Value) + 32
	switch {
	case h.done():
	case h.size > h.o.HeaderList:
		h.refuse(errFieldsLarge)
	case h.reject != nil:
		if f.Name == knownNames[exchange.ContentType].name && len(f.Value) <= maxKind && isValue(f.Value) {
			h.kind = h.keep(f.Value)
		}
	case f.Name == "":
		h.malformed = true
	case f.Name[0] == ':':
		h.pseudo(f.Name, f.Value)
	default:
		if !h.inFields {
			h.endPseudo()
		}
		if !h.malformed {
			h.regular(f.Name, f.Value)
		}
	}
}

// pseudo takes a pseudo-header field: each at most once, and before all others.
func (h *requestHead) pseudo(name, value string) {
	bit, at := h.pseudoField(name)
	if bit == 0 || h.seen&bit != 0 || h.inFields || !isValue(value) {
		h.malformed = true
		return
	}
	h.seen |= bit
	if at != nil {
		*at = h.keep(value)
	}
	switch bit {
	case pseudoMethod:
		if len(value) > maxMethod || !isToken(value) {
			h.refuse(errMethod)
		}
	case pseudoScheme:
		if !exchange.EqualFold(value, "https") && !exchange.EqualFold(value, "http") {
			h.refuse(errScheme)
		}
	case pseudoPath:
		h.target(value)
	case pseudoProtocol:
		h.malformed = !h.o.ExtendedConnect || !isToken(value)
	}
}

// pseudoField returns the bit of a pseudo-header field, 0 for one that requests do not have, and where its value goes.
func (h *requestHead) pseudoField(name string) (bit uint8, at *span) {
	switch name {
	case ":method":
		return pseudoMethod, &h.method
	case ":scheme":
		return pseudoScheme, nil
	case ":authority":
		return pseudoAuthority, &h.authority
	case ":path":
		return pseudoPath, &h.path
	case ":protocol":
		return pseudoProtocol, &h.protocol
	}
	return 0, nil
}

// target judges the characters of a request target; its form is judged with the whole head. What RFC 3986 does not allow is refused, but
// for what real clients send raw: bytes from 0x80 on, and in the query quotes, angle brackets and backslashes.
func (h *requestHead) target(value string) {
	if value == "" {
		h.malformed = true
		return
	}
	if len(value) > maxTarget {
		h.refuse(errTargetLarge)
		return
	}
	for i := range len(value) {
		c := value[i]
		if classes[c]&pathChar == 0 {
			h.refuse(errTargetChar)
			return
		}
		if c == '?' {
			if !all(value[i:], targetChar) {
				h.refuse(errTargetChar)
			}
			return
		}
	}
}

// endPseudo judges the pseudo-header fields when the last has come, and makes a Host field of :authority: the message model knows no other.
func (h *requestHead) endPseudo() {
	h.inFields = true
	const all = pseudoMethod | pseudoScheme | pseudoPath
	connect := string(h.method.of(h.text)) == "CONNECT"
	switch {
	case connect && h.seen&pseudoProtocol == 0:
		// RFC 9113 section 8.5: no more than the authority. The engine refuses it.
		h.malformed = h.seen != pseudoMethod|pseudoAuthority
	case h.seen&all != all, h.seen&pseudoProtocol != 0 && (!connect || h.seen&pseudoAuthority == 0):
		h.malformed = true
	}
	if h.seen&pseudoAuthority != 0 {
		h.count++
		at := len(h.text)
		h.text = append(h.text, "host: "...)
		h.text = append(h.text, h.authority.of(h.text)...)
		h.text = append(h.text, "\r\n"...)
		h.lines = append(h.lines, line{exchange.Host, int32(at), int32(at + 4), int32(at + 6), int32(len(h.text) - 2)})
	}
}

// regular takes a field that is no pseudo-header field.
func (h *requestHead) regular(name, value string) {
	id := exchange.IDOf(name)
	if id != exchange.Unknown {
		h.malformed = name != knownNames[id].name
	} else if !all(name, lowerTchar) {
		h.malformed = true
	}
	if h.malformed || !isValue(value) {
		h.malformed = true
		return
	}
	if id == exchange.Cookie {
		h.crumb(value)
		return
	}
	if h.count++; h.count > h.o.Fields {
		h.refuse(errFieldsMany)
		return
	}
	if len(name) > maxName {
		h.refuse(errName)
		return
	}
	if id == exchange.Unknown && h.o.Underscores != KeepUnderscores && hasUnderscore(name) {
		if h.o.Underscores == RejectUnderscores {
			h.refuse(errUnderscore)
		}
		return
	}
	if h.special(id, value) {
		h.add(id, name, value)
	}
	if end := len(h.text) - len("\r\n"); id == exchange.ContentType && len(value) <= maxKind {
		h.kind = span{end - len(value), end} // it stands there
	}
}

// special judges fields that HTTP/2 itself gives a meaning, or takes it, and reports whether the field stays.
func (h *requestHead) special(id exchange.ID, value string) bool {
	switch id {
	case exchange.ContentLength:
		n, ok := parseLength(value)
		h.malformed = !ok || h.length >= 0
		h.length = n
	case exchange.TE:
		h.malformed = !exchange.EqualFold(value, "trailers")
	case exchange.Connection, exchange.KeepAlive, exchange.ProxyConnection, exchange.TransferEncoding, exchange.Upgrade:
		h.malformed = true
	case exchange.Host:
		if h.host {
			h.refuse(errHostTwice)
		}
		h.host = true
		if h.seen&pseudoAuthority == 0 {
			return true
		}
		// :authority is the Host already, and counted.
		h.count--
		if !exchange.EqualFold(h.authority.of(h.text), value) {
			h.refuse(errHosts)
		}
		return false
	}
	return true
}

func hasUnderscore(name string) bool {
	for i := range len(name) {
		if name[i] == '_' {
			return true
		}
	}
	return false
}

// crumb joins a piece of the cookie to those before it (RFC 9113 section 8.2.3).
func (h *requestHead) crumb(value string) {
	if h.crumbs++; h.crumbs > h.o.Crumbs {
		h.refuse(errFieldsMany)
		return
	}
	if h.crumbs == 1 {
		if h.count++; h.count > h.o.Fields {
			h.refuse(errFieldsMany)
			return
		}
	} else {
		h.cookie = append(h.cookie, "; "...)
	}
	h.cookie = append(h.cookie, value...)
}

// end judges the whole head after its last field.
func (h *requestHead) end() {
	if h.judged() {
		h.shrink()
		return
	}
	if !h.inFields {
		h.endPseudo()
	}
	if h.crumbs > 0 {
		at := len(h.text)
		h.text = append(h.text, "cookie: "...)
		h.text = append(h.text, h.cookie...)
		h.text = append(h.text, "\r\n"...)
		h.lines = append(h.lines, line{exchange.Cookie, int32(at), int32(at + 6), int32(at + 8), int32(len(h.text) - 2)})
	}
	if h.malformed || h.seen&pseudoPath == 0 {
		return
	}
	// The form of the target. What else is wrong with it, Validate finds.
	path := h.path.of(h.text)
	if path[0] != '/' && !(len(path) == 1 && path[0] == '*' && string(h.method.of(h.text)) == "OPTIONS") {
		h.refuse(errTarget)
	}
}

// shrink drops what nobody will read of a head that is refused: an attacker's is large, and its stream may stay for a minute.
func (h *requestHead) shrink() {
	if cap(h.text) <= keptText && cap(h.cookie) <= keptText {
		return
	}
	method, kind := h.method.of(h.text), h.kind.of(h.text)
	text := append(append(make([]byte, 0, len(method)+len(kind)), method...), kind...)
	h.text, h.lines, h.cookie = text, nil, nil
	h.method, h.kind = span{0, len(method)}, span{len(method), len(text)}
}

// maxKind bounds the Content-Type that is kept of a request that is refused.
const maxKind = 64

// fillRequest makes x's request of the head. It returns the rule that the request breaks, if any.
func (h *requestHead) fillRequest(x *exchange.Exchange) error {
	r := &x.Request
	r.Version = exchange.HTTP2
	r.Method = h.method.of(h.text)
	if h.reject != nil {
		r.Fields.Reset(nil)
		if kind := h.kind.of(h.text); len(kind) > 0 {
			r.Fields.Set(exchange.ContentType, kind) // by which a client of gRPC is known
		}
		return h.reject
	}
	r.Target = h.path.of(h.text)
	h.fill(&r.Fields)
	if h.seen&pseudoProtocol != 0 {
		// A WebSocket or the like: what HTTP/1.1 says with an upgrade (RFC 8441 section 5).
		r.Method = []byte("GET")
		r.Upgrade = h.protocol.of(h.text)
		if exchange.EqualFold(r.Upgrade, "websocket") {
			// HTTP/2 has no need of the key, HTTP/1.1 has.
			var nonce [16]byte
			_, _ = rand.Read(nonce[:])
			r.Fields.SetString(exchange.SecWebSocketKey, base64.StdEncoding.EncodeToString(nonce[:]))
		}
	}
	return nil
}
