package http1

import (
	"bytes"
	"errors"
	"io"
	"os"

	"podlane.dev/podlane/proxy/exchange"
)

// framing is how the end of a body is found (RFC 9112 section 6.3).
type framing uint8

const (
	noBody framing = iota
	byLength
	byChunks
	byClose
)

// body is the pulled body of the message that was read last on an input. It implements exchange.Body. What Next returns lies in the
// connection's buffers: nothing is copied.
type body struct {
	in      *input
	framing framing
	left    int64 // bytes of the body (byLength) or of the chunk (byChunks) that are still to come
	length  int64
	phase   chunkPhase
	excess  int   // chunk overhead beyond what honest senders need
	read    int64 // bytes given out
	done    bool
	err     error
	// trailers receives the trailer section of a chunked body.
	trailers     *exchange.Fields
	trailerBytes int
	trailerCount int
}

type chunkPhase uint8

const (
	chunkSize chunkPhase = iota
	chunkData
	chunkEnd
	chunkTrailer
)

func (b *body) start(in *input, f framing, length int64) {
	*b = body{in: in, framing: f, left: length, length: -1}
	switch f {
	case byLength:
		b.length = length
		b.done = length == 0
	case byChunks:
		b.left = 0
	case noBody:
		b.length, b.done = 0, true
	}
}

// Length implements exchange.Body.
func (b *body) Length() int64 { return b.length }

// Done reports whether the whole body, with its trailers, was read.
func (b *body) Done() bool { return b.done }

// Ready reports whether the next call of Next will not wait for the peer. It may say no where it would not: then what is buffered for
// the other side leaves earlier than it must. It never says yes where Next would wait, or what the Pod sent last would be held back for as
// long as the Pod is silent.
func (b *body) Ready() bool {
	if b.done || b.err != nil {
		return true
	}
	if b.framing == byChunks {
		return b.chunkReady()
	}
	return b.in.r < b.in.w
}

// chunkReady is Ready for a chunked body: framing that has arrived is not data that has.
func (b *body) chunkReady() bool {
	p := b.in.buffered()
	switch b.phase {
	case chunkData:
		return len(p) > 0
	case chunkTrailer:
		return trailersEnd(p)
	case chunkEnd:
		if len(p) < len(crlf) {
			return false
		}
		p = p[len(crlf):]
	}
	line := bytes.IndexByte(p, '\n') + 1
	if line > 0 && isLastChunk(p[:line]) {
		return trailersEnd(p[line:])
	}
	return line > 0 && len(p) > line
}

// isLastChunk reports whether a chunk's first line says that the chunk has no data.
func isLastChunk(line []byte) bool {
	n := 0
	for n < len(line) && line[n] == '0' {
		n++
	}
	return n > 0 && (n == len(line) || classes[line[n]]&hexDigit == 0)
}

// trailersEnd reports whether p holds a trailer section to its end.
func trailersEnd(p []byte) bool {
	return bytes.HasPrefix(p, crlf) || bytes.Contains(p, []byte("\r\n\r\n"))
}

// Whole reports whether all of a body of known length has arrived.
func (b *body) Whole() bool {
	return b.done || b.framing == byLength && int64(b.in.w-b.in.r) >= b.left
}

// Next implements exchange.Body. Errors: io.EOF at the end, io.ErrUnexpectedEOF where the peer ended the connection
// inside the body, an *exchange.Reject for malformed chunks, else the connection's own.
func (b *body) Next() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	if b.done {
		return nil, io.EOF
	}
	p, err := b.next()
	b.read += int64(len(p))
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) { // who was interrupted may read on
		b.err = err
	}
	return p, err
}

func (b *body) next() ([]byte, error) {
	switch b.framing {
	case byLength:
		p, err := b.pull(b.left)
		b.left -= int64(len(p))
		b.done = b.left == 0
		return p, err
	case byClose:
		p, err := b.pull(1 << 62)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			b.done = true
			return nil, io.EOF
		}
		return p, err
	}
	return b.nextChunk()
}

// pull returns at most limit bytes: what is buffered, else what one read brings. Long rests are read into the bulk buffer, and never
// past limit, so that bytes of the next message stay in the head's buffer.
func (b *body) pull(limit int64) ([]byte, error) {
	in := b.in
	if in.r == in.w {
		if limit > bufferSize {
			return b.pullBulk(limit)
		}
		if err := b.fill(1); err != nil {
			return nil, err
		}
	}
	n := int(min(int64(in.w-in.r), limit))
	p := in.buf[in.r : in.r+n]
	in.r += n
	return p, nil
}

func (b *body) pullBulk(limit int64) ([]byte, error) {
	in := b.in
	if in.bulk == nil {
		in.bulk = bulks.Get().(*buffer)
	}
	n, err := in.read(in.bulk.b[:min(int64(len(in.bulk.b)), limit)])
	if err != nil {
		return nil, midBody(err)
	}
	return in.bulk.b[:n], nil
}

// fill waits until at least n more bytes are behind buf[w:]'s present end, keeping the head where it is.
func (b *body) fill(n int) error {
	in := b.in
	if in.r == in.w {
		in.r, in.w = in.keep, in.keep
	}
	// A head may have left little room: the buffer then grows by what chunk lines and short bodies need.
	if !in.room(n, in.keep+bufferSize) {
		return errChunk
	}
	return midBody(in.fill())
}

// nextChunk decodes chunked framing (RFC 9112 section 7.1): CRLF everywhere, extensions checked and dropped.
func (b *body) nextChunk() ([]byte, error) {
	for {
		switch b.phase {
		case chunkData:
			p, err := b.pull(b.left)
			b.left -= int64(len(p))
			if b.left == 0 {
				b.phase = chunkEnd
			}
			return p, err
		case chunkEnd:
			line, err := b.line(0)
			if err != nil {
				return nil, err
			}
			if len(line) != 0 {
				return nil, errChunk
			}
			b.phase = chunkSize
		case chunkSize:
			line, err := b.line(16 + maxChunkExt)
			if err != nil {
				return nil, err
			}
			if err := b.sizeLine(line); err != nil {
				return nil, err
			}
		case chunkTrailer:
			line, err := b.line(maxTrailer)
			if err != nil {
				return nil, err
			}
			if len(line) == 0 {
				b.done = true
				return nil, io.EOF
			}
			if err := b.trailer(line); err != nil {
				return nil, chunkError(bareCR(line, err))
			}
		}
	}
}

// line returns the next line of the chunked framing without its CRLF, valid until the next read.
func (b *body) line(limit int) ([]byte, error) {
	in := b.in
	l := lines{}
	for {
		line, more, err := l.next(in.buf[in.r:in.w], limit, errChunk)
		if err != nil {
			return nil, chunkError(err)
		}
		if !more {
			in.r += len(line) + 2
			return line, nil
		}
		if err := b.fill(1); err != nil {
			return nil, err
		}
	}
}

func chunkError(err error) error {
	if errors.Is(err, errLineEnding) {
		return errChunk
	}
	return err
}

// sizeLine reads chunk-size and the extensions behind it.
func (b *body) sizeLine(line []byte) error {
	n := 0
	var size uint64
	for n < len(line) && classes[line[n]]&hexDigit != 0 {
		if n == 16 {
			return errChunk
		}
		size = size<<4 | uint64(unhex(line[n]))
		n++
	}
	if n == 0 || size > 1<<63-1 || len(line)-n > maxChunkExt || !isChunkExt(line[n:]) {
		return errChunk
	}
	// Honest senders put at least as much data as framing on the wire; net/http's rule and numbers (CVE-2023-39326).
	b.excess = max(0, b.excess+len(line)+2-16-2*int(min(size, maxChunkExcess)))
	if b.excess > maxChunkExcess {
		return errChunkExcess
	}
	b.left = int64(size)
	b.phase = chunkData
	if size == 0 {
		b.phase = chunkTrailer
	}
	return nil
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// isChunkExt checks *( ";" name [ "=" ( token / quoted-string ) ] ), without white space.
func isChunkExt(b []byte) bool {
	for len(b) > 0 {
		if b[0] != ';' {
			return false
		}
		b = b[1:]
		n := tokenLen(b)
		if n == 0 {
			return false
		}
		b = b[n:]
		if len(b) == 0 || b[0] != '=' {
			continue
		}
		b = b[1:]
		n = tokenLen(b)
		if n == 0 {
			n = quotedLen(b)
		}
		if n == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

func tokenLen(b []byte) int {
	n := 0
	for n < len(b) && classes[b[n]]&tchar != 0 {
		n++
	}
	return n
}

func quotedLen(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i++
			if i == len(b) || classes[b[i]]&fieldVchar == 0 {
				return 0
			}
		case classes[c]&fieldVchar == 0:
			return 0
		}
	}
	return 0
}

// trailer parses one trailer field by the rules of header fields and keeps it unless it is forbidden there.
func (b *body) trailer(line []byte) error {
	b.trailerBytes += len(line) + 2
	b.trailerCount++
	n := tokenLen(line)
	if b.trailerBytes > maxTrailer || b.trailerCount > maxTrailers || n == 0 || n > maxName || n == len(line) || line[n] != ':' {
		return errTrailer
	}
	from, to := valueSpan(line, n+1)
	if !all(line[from:to], fieldVchar) {
		return errTrailer
	}
	if b.trailers != nil && !forbiddenTrailer(line[:n]) {
		b.trailers.Add(string(line[:n]), line[from:to])
	}
	return nil
}

// forbiddenTrailer reports whether a field must not come in a trailer section, because it frames, routes, authenticates or
// describes the message (RFC 9110 section 6.5.1).
func forbiddenTrailer(name []byte) bool {
	switch exchange.IDOf(name) {
	case exchange.Host, exchange.TransferEncoding, exchange.TE, exchange.Connection, exchange.Authorization, exchange.Cookie,
		exchange.SetCookie, exchange.CacheControl, exchange.Expect, exchange.Forwarded, exchange.Range, exchange.Upgrade,
		exchange.KeepAlive, exchange.ProxyConnection, exchange.ProxyAuthenticate, exchange.ProxyAuthorization, exchange.Trailer:
		return true
	}
	return hasPrefixFold(name, "content-") || hasPrefixFold(name, "x-forwarded-") || bytes.IndexByte(name, '_') >= 0
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && exchange.EqualFold(b[:len(prefix)], prefix)
}
