package http1

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// Server is the side of a connection to a client: it reads requests and writes responses, one at a time. It belongs to the
// connection's goroutine; while a request body streams, one more goroutine may pull the body.
type Server struct {
	in     input
	out    output
	body   body
	parser requestParser
	limits Limits
	clock  *Clock
	// bodyless says that the response begun last has no body on the wire, whatever its Body holds.
	bodyless bool
	mark     body
	markAt   int
}

// NewServer returns the codec of an accepted connection. clock may be shared by any number of Servers.
func NewServer(conn net.Conn, limits Limits, clock *Clock) *Server {
	s := &Server{limits: limits.withDefaults(), clock: clock}
	s.in.init(conn)
	s.in.yield = limits.Yield
	s.out.init(conn, s.in.raw)
	return s
}

// OnProgress has f called whenever the client has taken a part of a long write.
func (s *Server) OnProgress(f func()) { s.out.progress = f }

// attachBody gives x's request its body.
func (s *Server) attachBody(x *exchange.Exchange) {
	req := &x.Request
	req.Body = nil
	switch {
	case s.parser.coding:
		s.body.start(&s.in, byChunks, -1)
	case s.parser.length > 0:
		s.body.start(&s.in, byLength, s.parser.length)
	default:
		s.body.start(&s.in, noBody, 0)
		return
	}
	req.Trailers.Reset(nil)
	s.body.trailers = &req.Trailers
	req.Body = &s.body
}

// Await waits for the first bytes of the next request. While it waits, an idle connection holds no buffer.
func (s *Server) Await() error {
	if s.in.r < s.in.w {
		return nil
	}
	return s.in.fill()
}

// Starts reports whether the next bytes of the connection are those of prefix, and reads until it knows.
func (s *Server) Starts(prefix string) (bool, error) {
	for {
		b := s.in.buffered()
		n := min(len(b), len(prefix))
		switch {
		case string(b[:n]) != prefix[:n]:
			return false, nil
		case n == len(prefix):
			return true, nil
		}
		if err := s.in.fill(); err != nil {
			return false, err
		}
	}
}

// Unused returns what was read and not used. It is valid until the next call.
func (s *Server) Unused() []byte { return s.in.buffered() }

// More reads more behind what Unused returns. It fails where that has limit bytes already.
func (s *Server) More(limit int) error {
	if !s.in.room(1, limit) {
		return io.ErrShortBuffer
	}
	return s.in.fill()
}

// Skip uses up n bytes of Unused, which come before HTTP. While nothing lies behind them the connection holds no buffer again.
func (s *Server) Skip(n int) {
	s.in.r += n
	s.in.reset()
}

// Take returns a copy of what was read and not used, and gives all buffers back: another codec takes the connection over.
func (s *Server) Take() []byte {
	b := bytes.Clone(s.in.buffered())
	s.Close()
	return b
}

// OwnsBody reports whether b is the body that ReadRequest attached, and not one that a filter wrapped around it.
func (s *Server) OwnsBody(b exchange.Body) bool { return b == exchange.Body(&s.body) }

// BodyFits reports whether the whole body, whose length is known, has room in the connection's buffer.
func (s *Server) BodyFits() bool {
	return s.body.framing == byLength && s.body.left <= int64(len(s.in.buf)-s.in.r)
}

// FillBody reads more of a body that fits. It returns io.ErrUnexpectedEOF where the client ended the connection.
func (s *Server) FillBody() error { return midBody(s.in.fill()) }

// MarkBody remembers a body that is whole in the buffer, so that Rewind can give it out again.
func (s *Server) MarkBody() { s.mark, s.markAt = s.body, s.in.r }

// Rewind makes the body marked last begin anew.
func (s *Server) Rewind() { s.body, s.in.r = s.mark, s.markAt }

// BodyDone reports whether the request's body was read to its end: only then can another request follow.
func (s *Server) BodyDone() bool { return s.body.done }

// BodyWhole reports whether all of a request body of known length has arrived.
func (s *Server) BodyWhole() bool { return s.body.Whole() }

// BodyBytes is the number of bytes of the request's body that were pulled.
func (s *Server) BodyBytes() int64 { return s.body.read }

// Buffered is the number of bytes that have been read and not used.
func (s *Server) Buffered() int { return s.in.w - s.in.r }

// Continue writes an interim 100 response at once.
func (s *Server) Continue() error { return s.interim([]byte("HTTP/1.1 100 Continue\r\n\r\n")) }

// Interim writes the interim head that x's response holds (103 Early Hints, say) at once.
func (s *Server) Interim(x *exchange.Exchange) error {
	res := &x.Response
	res.RemoveHopByHop()
	res.Fields.Del(exchange.ContentLength)
	res.Fields.Del(exchange.Trailer)
	b := appendStatus(nil, res)
	b = res.Fields.AppendTo(b)
	return s.interim(append(b, "\r\n"...))
}

func (s *Server) interim(b []byte) error {
	return s.out.writeAll(b, nil, nil)
}

// StartResponse buffers the head of x's response: nothing is written before Flush, Finish or a large Write. It decides the
// framing and reports whether the connection must close after it, which it also tells the client.
func (s *Server) StartResponse(x *exchange.Exchange, p exchange.Persistence) exchange.Persistence {
	res, req := &x.Response, &x.Request
	o := &s.out
	o.hold()
	o.written, o.begun = 0, false
	b := appendStatus(o.buf, res)
	f := &res.Fields
	s.bodyless = res.Status < 200 || res.Status == 204 || res.Status == 304 || string(req.Method) == "HEAD"
	if s.frame(x) == byClose || req.Version == exchange.HTTP10 && !f.Has(exchange.ContentLength) {
		p = exchange.CloseAfter
	}
	if !o.chunked || !req.TrailersOK {
		f.Del(exchange.Trailer)
	}
	b = f.AppendTo(b)
	o.buf = s.endHead(b, x, p)
	return p
}

// frame decides how the body of x's response ends, and makes Content-Length agree.
func (s *Server) frame(x *exchange.Exchange) framing {
	res := &x.Response
	f := &res.Fields
	how, length := noBody, int64(0)
	switch {
	case res.Status < 200 || res.Status == 204:
		f.Del(exchange.ContentLength)
	case s.bodyless:
		if res.Local && res.Body != nil {
			setLength(f, res.Body.Length())
		}
	case res.Body == nil:
		setLength(f, 0)
		how = byLength
	case res.Body.Length() >= 0:
		how, length = byLength, res.Body.Length()
		setLength(f, length)
	default:
		f.Del(exchange.ContentLength)
		how, length = byClose, -1
		if x.Request.Version == exchange.HTTP11 {
			how = byChunks
		}
	}
	s.out.frame(how, length)
	return how
}

// endHead appends the fields that are the server's own, and the end of the head.
func (s *Server) endHead(b []byte, x *exchange.Exchange, p exchange.Persistence) []byte {
	f := &x.Response.Fields
	if s.out.chunked {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if !f.Has(exchange.Date) {
		b = append(b, "Date: "...)
		b = append(b, s.clock.Date()...)
		b = append(b, "\r\n"...)
	}
	if !f.Has(exchange.Server) && !x.Response.Anonymous {
		b = append(b, "Server: podlane\r\n"...)
	}
	switch {
	case x.Response.Status == 101:
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, x.Request.Upgrade...)
		b = append(b, "\r\n"...)
	case p == exchange.CloseAfter:
		b = append(b, "Connection: close\r\n"...)
	case x.Request.Version == exchange.HTTP10:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return append(b, "\r\n"...)
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
func (s *Server) Bodyless() bool { return s.bodyless }

// Write adds bytes of the response body.
func (s *Server) Write(p []byte) error { return s.out.Write(p) }

// Flush writes what is buffered.
func (s *Server) Flush() error { return s.out.Flush() }

// Finish ends the response, with trailers where x's client takes them.
func (s *Server) Finish(x *exchange.Exchange) error {
	if x.Request.TrailersOK && x.Response.Trailers.Len() > 0 {
		return s.out.Finish(&x.Response.Trailers)
	}
	return s.out.Finish(nil)
}

// Written is the number of body bytes of the response begun last.
func (s *Server) Written() int64 { return s.out.written }

// Begun reports whether a byte of the response begun last may have reached the client.
func (s *Server) Begun() bool { return s.out.begun }

// Next ends the exchange: buffers go back, and bytes of a pipelined request move to the front.
func (s *Server) Next() {
	s.in.reset()
	s.out.reset()
}

// Discard ends a response that was begun and not written, so that another can be begun in its place. Its buffer goes back.
func (s *Server) Discard() { s.out.reset() }

// Pull returns the next bytes of a tunnel, those first that came behind the request; they are valid until the next call. While it waits
// on a plain socket it holds no buffer. No exchange can follow.
func (s *Server) Pull() ([]byte, error) { return s.in.pull() }

// Close gives the buffers back; the connection itself is the caller's.
func (s *Server) Close() {
	s.in.close()
	s.out.reset()
}

// Clock formats the Date field once a second. It may be used concurrently; the zero value is ready.
type Clock struct{ now atomic.Pointer[stamp] }

type stamp struct {
	second int64
	text   []byte
}

// Date returns the present time as an IMF-fixdate (RFC 9110 section 5.6.7). The caller must not change it.
func (c *Clock) Date() []byte {
	t := time.Now()
	if s := c.now.Load(); s != nil && s.second == t.Unix() {
		return s.text
	}
	s := &stamp{t.Unix(), t.UTC().AppendFormat(nil, "Mon, 02 Jan 2006 15:04:05 GMT")}
	c.now.Store(s)
	return s.text
}
