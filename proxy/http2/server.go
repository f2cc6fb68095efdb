package http2

import (
	"io"
	"strconv"

	"golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
)

// Persistence says whether the connection goes on after a response. Streams end one by one, so here it has no effect.
type Persistence = exchange.Persistence

// The two kinds of persistence.
const (
	KeepOpen   = exchange.KeepOpen
	CloseAfter = exchange.CloseAfter
)

// Stream is the side of one exchange to a client. It belongs to the goroutine on which it was begun; while a request body streams, one
// more goroutine may pull the body. Those methods that say so may be called from any goroutine, until the stream has ended.
type Stream struct {
	// Own is the user's own state. It stays when the Stream is used again, for another request of the connection.
	Own any

	stream
	c    *Conn
	head *requestHead
	wake chan struct{}
	// bodyless says that the response begun last has no body on the wire, whatever its Body holds.
	bodyless bool
}

// ReadRequest fills x's request, whose head is complete, and attaches its body. The request's bytes lie in the stream until it ends.
// The error is an *exchange.Reject where the request must be refused.
func (s *Stream) ReadRequest(x *exchange.Exchange) error {
	req := &x.Request
	req.Body = nil
	if err := s.head.fillRequest(x); err != nil {
		return err
	}
	if s.attachBody() && len(req.Upgrade) == 0 {
		req.Trailers.Reset(nil)
		s.body.trailers = &req.Trailers
		req.Body = &s.body
	}
	return nil
}

// attachBody reports whether the request has a body. The length of one that has arrived already is known, whatever its head says.
func (s *Stream) attachBody() bool {
	b := &s.body
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	switch {
	case !b.done:
		b.length = b.declared
	case b.received == 0 && !b.hasTail:
		b.length = 0
		return false
	default:
		b.length = b.received
	}
	return true
}

// TunnelBody is what the client sends on a stream that ReadRequest gave an Upgrade (RFC 8441). It is pulled after the Pod has switched
// protocols; Write and Flush are the other direction.
func (s *Stream) TunnelBody() exchange.Body { return &s.body }

// OwnsBody reports whether b is the body that ReadRequest attached, and not one that a filter wrapped around it.
func (s *Stream) OwnsBody(b exchange.Body) bool { return b == exchange.Body(&s.body) }

// BodyFits reports whether the body's length is known, and small enough to be kept until the exchange ends.
func (s *Stream) BodyFits() bool { return s.body.fits() }

// FillBody waits for more of a body that fits.
func (s *Stream) FillBody() error { return s.body.fill() }

// MarkBody remembers a body that is whole, so that Rewind can give it out again.
func (s *Stream) MarkBody() { s.body.mark() }

// Rewind makes the body marked last begin anew.
func (s *Stream) Rewind() { s.body.rewind() }

// BodyDone reports whether the request's body was read to its end.
func (s *Stream) BodyDone() bool {
	_, complete := s.body.pulled()
	return complete
}

// BodyWhole reports whether all of the request body has arrived.
func (s *Stream) BodyWhole() bool { return s.body.whole() }

// BodyBytes is the number of bytes of the request's body that were pulled.
func (s *Stream) BodyBytes() int64 {
	n, _ := s.body.pulled()
	return n
}

// Buffered is the number of bytes of the body that have been received and not pulled.
func (s *Stream) Buffered() int { return s.body.buffered() }

// Continue writes an interim 100 response at once.
func (s *Stream) Continue() error { return s.interim(appendStatus(nil, 100)) }

// Interim writes the interim head that x's response holds (103 Early Hints, say) at once.
func (s *Stream) Interim(x *exchange.Exchange) error {
	res := &x.Response
	res.RemoveHopByHop()
	res.Fields.Del(exchange.ContentLength)
	return s.interim(appendFields(appendStatus(nil, res.Status), &res.Fields))
}

func (s *Stream) interim(block []byte) error {
	s.l.mu.Lock()
	begun := s.send.begun
	err := s.pushHead(block, 0)
	s.send.begun = begun
	s.l.unlockAndFlush()
	return err
}

// StartResponse buffers the head of x's response: nothing is written before Flush, Finish or a large Write. Persistence is that of other
// codecs: a stream ends alone.
func (s *Stream) StartResponse(x *exchange.Exchange, _ Persistence) Persistence {
	res, o := &x.Response, &s.send
	o.data, o.tail = o.data[:0], o.tail[:0]
	o.written, o.left = 0, -1
	f := &res.Fields
	status := res.Status
	if status == 101 {
		status = 200 // RFC 8441 section 5
	}
	s.bodyless = status < 200 || status == 204 || status == 304 || string(x.Request.Method) == "HEAD"
	switch {
	case res.Status == 101:
		f.Del(exchange.ContentLength)
	case status < 200 || status == 204:
		f.Del(exchange.ContentLength)
		o.left = 0
	case s.bodyless:
		if res.Local && res.Body != nil {
			setLength(f, res.Body.Length())
		}
		o.left = 0
	case res.Body == nil:
		setLength(f, 0)
		o.left = 0
	case res.Body.Length() >= 0:
		o.left = res.Body.Length()
		setLength(f, o.left)
	default:
		f.Del(exchange.ContentLength)
	}
	o.head = s.appendOwn(appendFields(appendStatus(o.head[:0], status), f), res)
	return KeepOpen
}

// appendOwn appends the fields that are the server's own.
func (s *Stream) appendOwn(b []byte, res *exchange.Response) []byte {
	if !res.Fields.Has(exchange.Date) {
		b = appendIndexed(b, indexDate, s.c.clock.Date())
	}
	if !res.Fields.Has(exchange.Server) && !res.Anonymous {
		b = appendIndexed(b, indexServer, "podlane")
	}
	return b
}

// setLength makes Content-Length n, and leaves a field that says so where it is.
func setLength(f *exchange.Fields, n int64) {
	if f.Has(exchange.ContentLength) {
		if have, ok := parseLength(f.Get(exchange.ContentLength)); ok && have == n && f.Count(exchange.ContentLength) == 1 {
			return
		}
	}
	var buf [20]byte
	f.Set(exchange.ContentLength, strconv.AppendInt(buf[:0], n, 10))
}

// Bodyless reports whether the response begun last has no body on the wire.
func (s *Stream) Bodyless() bool { return s.bodyless }

// Write adds bytes of the response body. It returns io.ErrShortWrite for bytes beyond the declared length, of which none is sent.
func (s *Stream) Write(p []byte) error { return s.write(p) }

func (s *stream) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	o := &s.send
	if o.left >= 0 {
		if int64(len(p)) > o.left {
			return io.ErrShortWrite
		}
		o.left -= int64(len(p))
	}
	o.written += int64(len(p))
	if len(o.data)+len(p) <= holdBack {
		o.data = append(o.data, p...)
		return nil
	}
	return s.push(p, more)
}

// Flush writes what is buffered.
func (s *Stream) Flush() error { return s.flush() }

func (s *stream) flush() error {
	if len(s.send.head) == 0 && len(s.send.data) == 0 {
		return nil
	}
	return s.push(nil, more)
}

// Finish ends the response, with x's trailers. It returns io.ErrUnexpectedEOF, and leaves the response unfinished, where fewer bytes came
// than were declared.
func (s *Stream) Finish(x *exchange.Exchange) error {
	o := &s.send
	if o.left > 0 {
		return io.ErrUnexpectedEOF
	}
	if x.Response.Trailers.Len() > 0 && !s.bodyless {
		if o.tail = appendTrailers(o.tail[:0], &x.Response.Trailers); len(o.tail) > 0 {
			return s.push(nil, endWithTrail)
		}
	}
	return s.push(nil, endStream)
}

// Written is the number of body bytes of the response begun last.
func (s *Stream) Written() int64 { return s.send.written }

// Begun reports whether a byte of the response begun last may have reached the client.
func (s *Stream) Begun() bool {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.send.begun
}

// Discard ends a response that was begun and not written, so that another can be begun in its place.
func (s *Stream) Discard() {
	o := &s.send
	o.head, o.data, o.tail, o.written = o.head[:0], o.data[:0], o.tail[:0], 0
}

// InterruptRead makes waiting and later reads of the body fail with os.ErrDeadlineExceeded. Any goroutine may call it.
func (s *Stream) InterruptRead() { s.interruptRead() }

// ResumeRead ends what InterruptRead began.
func (s *Stream) ResumeRead() { s.resumeRead() }

// InterruptWrite makes waiting and later writes fail with os.ErrDeadlineExceeded. Any goroutine may call it.
func (s *Stream) InterruptWrite() { s.interruptWrite() }

// Codes with which streams are reset (RFC 9113 section 7), as far as users of this package tell them apart.
const (
	Internal = http2.ErrCodeInternal
	Cancel   = http2.ErrCodeCancel
	Refused  = http2.ErrCodeRefusedStream
	Calm     = http2.ErrCodeEnhanceYourCalm
	Insecure = http2.ErrCodeInadequateSecurity
)

// Reset ends the stream with RST_STREAM: the client sees that its answer is not whole. Any goroutine may call it.
func (s *Stream) Reset(code http2.ErrCode) {
	s.l.mu.Lock()
	s.body.fail(ErrEnded)
	if s.broken == nil {
		s.broken = ErrEnded
	}
	s.resume()
	s.l.reset(&s.stream, code)
	s.l.unlockAndFlush()
}

// OnProgress sets the function that is called when the client has made room for a part of what is being written, so that a client that
// takes its bytes slowly is told from one that takes none. It must be quick, and call nothing of the stream.
func (s *Stream) OnProgress(f func()) { s.send.progress = f }

// OnGone sets the function that is called, once and from another goroutine, when the client resets the stream or its connection ends
// before the exchange has: at once where that has happened already. It is not called any more when the stream has ended.
func (s *Stream) OnGone(f func()) {
	s.l.mu.Lock()
	late := s.broken != nil
	if !late {
		s.gone = f
	}
	s.l.mu.Unlock()
	if late {
		f()
	}
}
