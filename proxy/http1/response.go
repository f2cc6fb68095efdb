package http1

import (
	"errors"
	"io"

	"podlane.dev/podlane/proxy/exchange"
)

// InvalidResponse is an answer of a Pod that breaks the rules of framing; the client gets 502. Detail says which rule.
type InvalidResponse struct{ Detail string }

// Error returns the detail.
func (e *InvalidResponse) Error() string { return "invalid response: " + e.Detail }

var (
	errStatusLine     = &InvalidResponse{"malformed status line"}
	errResponseLine   = &InvalidResponse{"line does not end in CRLF"}
	errResponseField  = &InvalidResponse{"malformed header field"}
	errResponseLarge  = &InvalidResponse{"header too large"}
	errResponseLength = &InvalidResponse{"malformed or repeated Content-Length"}
	errResponseCoding = &InvalidResponse{"transfer coding not supported"}
)

// responseParser reads one response head from a connection's buffer into an Exchange. It is more tolerant than the request parser:
// obsolete line folding becomes one space, names may hold underscores, fields may repeat, the reason phrase may be missing.
type responseParser struct {
	lines
	inHead   bool
	count    int
	length   int64
	coded    bool // a Transfer-Encoding field was seen
	keep     bool // Connection: keep-alive
	close    bool // Connection: close
	reason   span
	lastName span // the field that a folded line continues
	last     span // its value
	lastID   exchange.ID
	pending  bool // lastName and last are not in the Fields yet
}

func (p *responseParser) begin() { *p = responseParser{length: -1} }

// advance is requestParser.advance for responses.
func (p *responseParser) advance(buf []byte, res *exchange.Response, lim *Limits) (done bool, err error) {
	res.Fields.Rebase(buf)
	for {
		at := p.start
		line, more, err := p.next(buf, lim.ResponseHead-p.start-2, errHeaderLarge)
		if errors.Is(err, errHeaderLarge) {
			return false, errResponseLarge
		}
		if err != nil {
			return false, errResponseLine
		}
		if more {
			return false, nil
		}
		switch {
		case !p.inHead:
			if err := p.statusLine(at, line, res); err != nil {
				return false, responseLine(line, err)
			}
			p.inHead = true
			continue
		case len(line) == 0:
			if err := p.commit(buf, res); err != nil {
				return false, err
			}
			res.Reason = p.reason.of(buf)
			return true, nil
		case line[0] == ' ' || line[0] == '\t':
			err = p.fold(buf, at, line)
		default:
			if err = p.commit(buf, res); err == nil {
				err = p.field(at, line, lim)
			}
		}
		if err != nil {
			return false, responseLine(line, err)
		}
	}
}

// responseLine is bareCR for responses.
func responseLine(line []byte, why error) error {
	if errors.Is(bareCR(line, why), errLineEnding) {
		return errResponseLine
	}
	return why
}

// statusLine reads HTTP-version SP 3DIGIT [ SP reason ].
func (p *responseParser) statusLine(at int, line []byte, res *exchange.Response) error {
	if len(line) < len("HTTP/1.1 200") || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return errStatusLine
	}
	switch line[7] {
	case '0':
		res.Version = exchange.HTTP10
	case '1':
		res.Version = exchange.HTTP11
	default:
		return errStatusLine
	}
	code := 0
	for _, c := range line[9:12] {
		if !isDigit(c) {
			return errStatusLine
		}
		code = code*10 + int(c-'0')
	}
	if code < 100 || len(line) > 12 && line[12] != ' ' || !all(line[12:], fieldVchar) {
		return errStatusLine
	}
	res.Status = code
	p.reason = span{min(at+13, at+len(line)), at + len(line)}
	return nil
}

// field reads one field line and holds it back until the next line shows that it is not folded.
func (p *responseParser) field(at int, line []byte, lim *Limits) error {
	n := tokenLen(line)
	if n == 0 || n == len(line) || line[n] != ':' {
		return errResponseField
	}
	if p.count++; p.count > lim.ResponseFields {
		return errResponseLarge
	}
	from, to := valueSpan(line, n+1)
	if !all(line[from:to], fieldVchar) {
		return errResponseField
	}
	p.lastName, p.last = span{at, at + n}, span{at + from, at + to}
	p.lastID = exchange.IDOf(line[:n])
	p.pending = true
	return nil
}

// fold appends a folded line to the value before it, behind one space (RFC 9112 section 5.2). The value only grows into bytes that
// were already read.
func (p *responseParser) fold(buf []byte, at int, line []byte) error {
	if !p.pending || !all(line, fieldVchar) {
		return errResponseField
	}
	from, to := valueSpan(line, 0)
	if from == to {
		return nil
	}
	end := p.last.to
	if end > p.last.from {
		buf[end] = ' '
		end++
	}
	p.last.to = end + copy(buf[end:], buf[at+from:at+to])
	return nil
}

// commit adds the field that was held back.
func (p *responseParser) commit(buf []byte, res *exchange.Response) error {
	if !p.pending {
		return nil
	}
	p.pending = false
	value := p.last.of(buf)
	switch p.lastID {
	case exchange.ContentLength:
		n, ok := parseLength(value)
		if !ok || p.length >= 0 {
			return errResponseLength
		}
		p.length = n
	case exchange.TransferEncoding:
		if p.coded || res.Version == exchange.HTTP10 || !exchange.EqualFold(value, "chunked") {
			return errResponseCoding
		}
		p.coded = true
	case exchange.Connection:
		p.options(value)
	}
	res.Fields.Parsed(p.lastID, p.lastName.from, p.lastName.to, p.last.from, p.last.to)
	return nil
}

func (p *responseParser) options(value []byte) {
	for len(value) > 0 {
		option := value
		value = nil
		for i, c := range option {
			if c == ',' {
				option, value = option[:i], option[i+1:]
				break
			}
		}
		switch option = trim(option); {
		case exchange.EqualFold(option, "close"):
			p.close = true
		case exchange.EqualFold(option, "keep-alive"):
			p.keep = true
		}
	}
}

// ReadResponse reads the next response head into x and attaches its body; a 1xx head has none, and the caller reads on. Errors:
// io.EOF where the Pod closed before the first byte, io.ErrUnexpectedEOF inside the head, an *InvalidResponse, else the
// connection's own. Started reports whether a byte had come.
func (c *Client) ReadResponse(x *exchange.Exchange) error {
	in := &c.in
	c.nextHead()
	res := &x.Response
	res.Fields.Reset(nil)
	res.Body, res.Local, res.Why = nil, false, exchange.NoReason
	c.parser.begin()
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return err
		}
	}
	c.started = true
	for {
		done, err := c.parser.advance(in.buf[:in.w], res, &c.limits)
		if err != nil {
			return err
		}
		if done {
			break
		}
		if in.w >= c.limits.ResponseHead || !in.room(1, c.limits.ResponseHead+2) {
			return errResponseLarge
		}
		res.Fields.Rebase(in.buf)
		if err := in.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	in.r = c.parser.start
	in.keep = in.r
	c.frame(x)
	return nil
}

// nextHead moves what was read behind an interim head to the front of the buffer, where heads begin.
func (c *Client) nextHead() {
	in := &c.in
	in.keep = 0
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
}

// frame decides the framing of the response's body (RFC 9112 section 6.3).
func (c *Client) frame(x *exchange.Exchange) {
	res, p := &x.Response, &c.parser
	persistent := !p.close && (res.Version == exchange.HTTP11 || p.keep)
	c.persistent = persistent
	switch {
	case res.Status < 200, res.Status == 204, res.Status == 304, string(x.Request.Method) == "HEAD":
		c.body.start(&c.in, noBody, 0)
		if res.Status >= 200 && (res.Status == 204) && (p.coded || p.length > 0) {
			// A Pod that announces a body that must not be there cannot be trusted with the next answer.
			c.persistent = false
		}
	case p.coded:
		// A Content-Length beside Transfer-Encoding loses, and the connection with it (RFC 9112 section 6.1).
		if p.length >= 0 {
			c.persistent = false
			res.Fields.Del(exchange.ContentLength)
		}
		c.body.start(&c.in, byChunks, -1)
	case p.length >= 0:
		c.body.start(&c.in, byLength, p.length)
	default:
		c.persistent = false
		c.body.start(&c.in, byClose, -1)
	}
	if c.body.framing != noBody && !(c.body.framing == byLength && p.length == 0) {
		res.Trailers.Reset(nil)
		c.body.trailers = &res.Trailers
		res.Body = &c.body
	}
}
