package http1

import (
	"bytes"
	"errors"
	"io"

	"podlane.dev/podlane/proxy/exchange"
)

// requestParser reads one request head from a connection's buffer into an Exchange.
type requestParser struct {
	lines
	empty  int // empty lines before the request line
	inHead bool
	used   int // bytes of the field lines so far
	count  int // fields so far, dropped ones included
	length int64
	coding bool // a Transfer-Encoding: chunked was seen

	method, target span
}

// span is a range of the connection's buffer: it stays true when the buffer moves.
type span struct{ from, to int }

func (s span) of(buf []byte) []byte { return buf[s.from:s.to:s.to] }

// begin makes p ready for the next request.
func (p *requestParser) begin() { *p = requestParser{length: -1} }

// advance parses what has arrived in buf and reports whether the head is complete. The request's fields refer to offsets in buf.
func (p *requestParser) advance(buf []byte, req *exchange.Request, lim *Limits) (done bool, err error) {
	req.Fields.Rebase(buf)
	if !p.inHead {
		at, line, more, err := p.startLine(buf, lim)
		if more || err != nil {
			return false, err
		}
		if err := p.requestLine(at, line, req); err != nil {
			return false, bareCR(line, err)
		}
		p.inHead = true
	}
	for {
		at := p.start
		line, more, err := p.next(buf, lim.HeaderBlock-p.used-2, errHeaderLarge)
		if more || err != nil {
			return false, err
		}
		if len(line) == 0 {
			req.Method, req.Target = p.method.of(buf), p.target.of(buf)
			return true, p.frame(req)
		}
		p.used += len(line) + 2
		if err := p.field(at, line, req, lim); err != nil {
			return false, bareCR(line, err)
		}
	}
}

// startLine returns the request line and its offset, after at most two empty lines (RFC 9112 section 2.2).
func (p *requestParser) startLine(buf []byte, lim *Limits) (at int, line []byte, more bool, err error) {
	for {
		at = p.start
		line, more, err = p.next(buf, lim.RequestLine, errURITooLong)
		if more || err != nil || len(line) > 0 {
			return at, line, more, err
		}
		if p.empty++; p.empty > maxEmptyLines {
			return at, nil, false, errEmptyLines
		}
	}
}

// requestLine splits method SP target SP version. The target's form is judged with the whole head.
func (p *requestParser) requestLine(at int, line []byte, req *exchange.Request) error {
	sp := bytes.IndexByte(line, ' ')
	if sp < 1 || sp > maxMethod || !isToken(line[:sp]) {
		return errRequestLine
	}
	rest := line[sp+1:]
	end := bytes.IndexByte(rest, ' ')
	if end < 1 {
		return errRequestLine
	}
	target, version := rest[:end], rest[end+1:]
	if err := checkTarget(target); err != nil {
		return err
	}
	v, err := parseVersion(version)
	if err != nil {
		return err
	}
	req.Version = v
	p.method = span{at, at + sp}
	p.target = span{at + sp + 1, at + sp + 1 + end}
	return nil
}

// checkTarget refuses what RFC 3986 does not allow, but for characters that real clients send raw: bytes from 0x80 on, and in the query
// quotes, angle brackets and backslashes.
func checkTarget(target []byte) error {
	for i, c := range target {
		if classes[c]&pathChar != 0 {
			if c != '?' {
				continue
			}
			if !all(target[i:], targetChar) {
				return errTargetChar
			}
			return nil
		}
		return errTargetChar
	}
	return nil
}

func parseVersion(v []byte) (exchange.Version, error) {
	if len(v) != len("HTTP/1.1") || string(v[:5]) != "HTTP/" || v[6] != '.' || !isDigit(v[5]) || !isDigit(v[7]) {
		return 0, errVersion
	}
	switch {
	case v[5] == '1' && v[7] == '1':
		return exchange.HTTP11, nil
	case v[5] == '1' && v[7] == '0':
		return exchange.HTTP10, nil
	}
	return 0, errVersionNot1
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// field parses one field line that starts at offset at of the buffer.
func (p *requestParser) field(at int, line []byte, req *exchange.Request, lim *Limits) error {
	if p.count++; p.count > lim.Fields {
		return errHeaderCount
	}
	if line[0] == ' ' || line[0] == '\t' {
		return errFold
	}
	n := tokenLen(line)
	if n == 0 || n > maxName || n == len(line) || line[n] != ':' {
		return errFieldName
	}
	from, to := valueSpan(line, n+1)
	value := line[from:to]
	if !all(value, fieldVchar) {
		return errFieldValue
	}
	if keep, err := lim.underscores(line[:n]); !keep {
		return err
	}
	id := exchange.IDOf(line[:n])
	req.Fields.Parsed(id, at, at+n, at+from, at+to)
	switch id {
	case exchange.ContentLength:
		return p.contentLength(value)
	case exchange.TransferEncoding:
		return p.transferEncoding(value)
	}
	return nil
}

// underscores says whether a field of this name stays, and otherwise whether the request is refused for it.
func (l *Limits) underscores(name []byte) (keep bool, err error) {
	if l.Underscores == KeepUnderscores || bytes.IndexByte(name, '_') < 0 {
		return true, nil
	}
	if l.Underscores == RejectUnderscores {
		return false, errUnderscore
	}
	return false, nil
}

// valueSpan returns the bounds of line[from:] without optional whitespace at both ends.
func valueSpan(line []byte, from int) (start, end int) {
	end = len(line)
	for from < end && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	for end > from && (line[end-1] == ' ' || line[end-1] == '\t') {
		end--
	}
	return from, end
}

func (p *requestParser) contentLength(value []byte) error {
	if p.length >= 0 {
		return errLengthTwice
	}
	n, ok := parseLength(value)
	if !ok {
		return errLength
	}
	p.length = n
	return nil
}

// parseLength reads 1 to 19 digits up to 2^63-1 without leading zeros (RFC 9110 section 8.6, without lists).
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 19 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n <= 1<<63-1
}

// transferEncoding accepts exactly one field with exactly the coding "chunked".
func (p *requestParser) transferEncoding(value []byte) error {
	if p.coding {
		return errCoding
	}
	p.coding = true
	if exchange.EqualFold(value, "chunked") {
		return nil
	}
	return judgeCodings(value)
}

// judgeCodings says why a Transfer-Encoding other than "chunked" is refused: 501 where a well-formed list names a coding that we do not
// implement, 400 where the list is malformed or chunked is not its last member or comes twice.
func judgeCodings(value []byte) error {
	unknown, chunked := false, false
	for member := range bytes.SplitSeq(value, []byte{','}) {
		member = trim(member)
		if !isToken(member) || chunked {
			return errCoding
		}
		if exchange.EqualFold(member, "chunked") {
			chunked = true
			continue
		}
		unknown = true
	}
	if unknown {
		return errCodingNot
	}
	return errCoding
}

// frame decides the framing of the body once the head is complete (RFC 9112 section 6.3).
func (p *requestParser) frame(req *exchange.Request) error {
	if p.coding {
		if p.length >= 0 {
			return errCodingLength
		}
		if req.Version == exchange.HTTP10 {
			return errCoding10
		}
	}
	if p.length > 0 && req.Version == exchange.HTTP10 {
		switch string(req.Method) {
		case "GET", "HEAD", "DELETE":
			return errBody10
		}
	}
	return nil
}

// ReadRequest reads the next request head into x and attaches its body. It waits for as long as the connection's deadline
// allows. Errors: io.EOF where the client ended the connection between requests, io.ErrUnexpectedEOF where it did so inside a
// head, an *exchange.Reject where the request must be refused, else the connection's own.
func (s *Server) ReadRequest(x *exchange.Exchange) error {
	in := &s.in
	s.parser.begin()
	req := &x.Request
	req.Fields.Reset(nil)
	limit := s.limits.RequestLine + s.limits.HeaderBlock + 16
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return err
		}
	}
	for {
		done, err := s.parser.advance(in.buf[:in.w], req, &s.limits)
		if err != nil {
			return err
		}
		if done {
			break
		}
		if !in.room(1, limit) {
			return errHeaderLarge
		}
		req.Fields.Rebase(in.buf)
		if err := in.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	in.r = s.parser.start
	in.keep = in.r
	s.attachBody(x)
	return nil
}
