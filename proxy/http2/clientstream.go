package http2

import (
	"errors"
	"io"
	"os"

	"golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
)

// ClientStream is the side of one exchange to a Pod: it writes the request and reads the response. It belongs to the goroutine of the
// exchange; while a request body streams, one more goroutine may use the writing methods. Those methods that say so may be called from any
// goroutine, until Finished or Close, after which the ClientStream must not be used any more.
type ClientStream struct {
	stream
	c        *ClientConn
	cur      *responseHead    // of the response that was read last
	trailers *exchange.Fields // of the request
	noBody   bool             // the request was HEAD
	dataEnds bool             // the request ends with a DATA frame, even an empty one
	heads    []*responseHead  // that were not read yet; guarded by the lock, as what follows
	final    bool             // the last of heads, or one before, is no interim one
	started  bool             // a head has come
}

// maxHeads bounds the interim responses that wait to be read.
const maxHeads = 10

// begin makes s ready for a request. The lock is held.
func (s *ClientStream) begin(l *link) {
	s.stream.begin(l)
	s.cur, s.trailers, s.noBody, s.heads, s.final, s.started = nil, nil, false, s.heads[:0], false, false
}

// number gives s its number on the wire; before, it is in the table under 0. The lock is held.
func (s *ClientStream) number() error {
	c := s.c
	if c.leaves || c.mute() {
		s.fail(ErrRefused)
		return ErrRefused
	}
	id := c.maxID + 2
	if c.maxID == 0 {
		id = 1
	}
	c.maxID = id
	c.streams.remove(&s.stream)
	s.enroll(id)
	return nil
}

// StartRequest buffers the head of x's request: nothing is written before Flush, Finish or a large Write.
func (s *ClientStream) StartRequest(x *exchange.Exchange) {
	r, o := &x.Request, &s.send
	s.noBody = string(r.Method) == "HEAD"
	// gRPC wants its requests, which are all POST, to end so; its Go server waits for ever for the end of one that ends with its head.
	s.dataEnds = string(r.Method) == "POST"
	s.trailers = &r.Trailers
	f := &r.Fields
	switch {
	case r.Body == nil:
		o.left = 0
		if f.Has(exchange.ContentLength) {
			setLength(f, 0)
		}
	case r.Body.Length() < 0:
		o.left = -1
		f.Del(exchange.ContentLength)
	default:
		o.left = r.Body.Length()
		if f.Has(exchange.ContentLength) {
			setLength(f, o.left)
		}
	}
	b := o.head[:0]
	switch string(r.Method) {
	case "GET":
		b = appendInt(b, indexed, 7, indexMethodGet)
	case "POST":
		b = appendInt(b, indexed, 7, indexMethodPost)
	default:
		b = appendIndexed(b, indexMethodGet, r.Method)
	}
	scheme := uint64(indexHTTP)
	if s.c.o.Secure {
		scheme = indexHTTPS
	}
	b = appendInt(b, indexed, 7, scheme)
	if host := f.Get(exchange.Host); len(host) > 0 {
		b = appendIndexed(b, indexAuthority, host)
	}
	b = appendPath(b, r)
	for i := range f.Len() {
		if id, name, value, ok := f.At(i); ok && id != exchange.Host && !connectionSpecific(id) {
			b = appendField(b, id, name, value)
		}
	}
	o.head = b
}

// appendPath appends :path: the path that is sent, and the query.
func appendPath(b []byte, r *exchange.Request) []byte {
	path := r.SendPath()
	n := len(path)
	if r.HasQuery {
		n += 1 + len(r.RawQuery)
	}
	b = appendInt(b, literal, 4, indexPath)
	b = appendInt(b, 0, 7, uint64(n))
	b = append(b, path...)
	if r.HasQuery {
		b = append(append(b, '?'), r.RawQuery...)
	}
	return b
}

// Write adds bytes of the request body.
func (s *ClientStream) Write(p []byte) error { return s.write(p) }

// Takes reports whether the windows that the Pod has given have room for n bytes of a request body, so that writing them is no wait for it.
func (s *ClientStream) Takes(n int64) bool {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return n <= s.send.window && n <= s.l.window
}

// Flush writes what is buffered.
func (s *ClientStream) Flush() error { return s.flush() }

// Finish ends the request, with its trailers.
func (s *ClientStream) Finish() error {
	o := &s.send
	if o.left > 0 {
		return io.ErrUnexpectedEOF
	}
	if s.trailers != nil && s.trailers.Len() > 0 {
		if o.tail = appendTrailers(o.tail[:0], s.trailers); len(o.tail) > 0 {
			return s.push(nil, endWithTrail)
		}
	}
	if !s.dataEnds || len(o.head) == 0 || len(o.data) > 0 {
		return s.push(nil, endStream)
	}
	s.l.mu.Lock()
	err := s.pushAll(nil, more)
	if err == nil {
		err = s.pushAll(nil, endStream)
	}
	s.l.unlockAndFlush()
	return err
}

// Begun reports whether any byte of the request may have gone to the Pod.
func (s *ClientStream) Begun() bool {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.send.begun
}

// Started reports whether any byte of a response has come.
func (s *ClientStream) Started() bool {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return s.started
}

// Refused reports whether err says that the Pod has not processed the request, so that it may be sent again whatever its method.
func (s *ClientStream) Refused(err error) bool {
	var reset *ResetError
	return errors.Is(err, ErrRefused) || errors.As(err, &reset) && reset.Code == http2.ErrCodeRefusedStream
}

// takes accepts a response's head in. The lock is held.
func (s *ClientStream) takes(h *responseHead) *InvalidResponse {
	switch {
	case h.err != nil:
		return h.err
	case len(s.heads) == maxHeads:
		return errInterims
	}
	if h.status >= 200 {
		s.final = true
		switch {
		case s.noBody || h.bodyless():
			s.body.declared = 0
		default:
			s.body.declared = h.length
		}
		if h.ends && s.body.declared > 0 {
			return errResponseLength
		}
	}
	s.started = true
	s.heads = append(s.heads, h)
	s.body.ready.Broadcast()
	return nil
}

// ReadResponse reads the next response head into x and attaches its body; a 1xx head has none, and the caller reads on. Errors: an
// *InvalidResponse, os.ErrDeadlineExceeded after InterruptRead, ErrReset, ErrRefused, ErrConnection. Started reports whether a byte had
// come.
func (s *ClientStream) ReadResponse(x *exchange.Exchange) error {
	res := &x.Response
	res.Fields.Reset(nil)
	res.Body, res.Local, res.Why = nil, false, exchange.NoReason
	h, err := s.nextHead()
	if err != nil {
		return err
	}
	h.fillResponse(x)
	if h.status < 200 || h.ends || s.noBody || h.bodyless() {
		return nil
	}
	s.body.length = s.body.declared
	res.Trailers.Reset(nil)
	s.body.trailers = &res.Trailers
	res.Body = &s.body
	return nil
}

// nextHead waits for the next head.
func (s *ClientStream) nextHead() (*responseHead, error) {
	l, b := s.l, &s.body
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(s.heads) == 0 {
		switch {
		case b.stopped:
			return nil, os.ErrDeadlineExceeded
		case b.err != nil:
			return nil, b.err
		}
		b.ready.Wait()
	}
	if s.cur != nil {
		responseHeads.Put(s.cur)
	}
	s.cur = s.heads[0]
	s.heads = s.heads[:copy(s.heads, s.heads[1:])]
	return s.cur, nil
}

// Ready reports whether reading on will not wait for the Pod.
func (s *ClientStream) Ready() bool { return s.body.Ready() }

// InterruptRead makes waiting and later reads fail with os.ErrDeadlineExceeded. Any goroutine may call it.
func (s *ClientStream) InterruptRead() { s.interruptRead() }

// ResumeRead ends what InterruptRead began.
func (s *ClientStream) ResumeRead() { s.resumeRead() }

// InterruptWrite makes waiting and later writes fail with os.ErrDeadlineExceeded. Any goroutine may call it.
func (s *ClientStream) InterruptWrite() { s.interruptWrite() }

// OnProgress sets the function that is called when the Pod has made room for a part of what is being written. It must be quick, and call
// nothing of the stream.
func (s *ClientStream) OnProgress(f func()) { s.send.progress = f }

// Cancel tells the Pod that nobody wants the answer any more: waiting and later calls fail. Any goroutine may call it.
func (s *ClientStream) Cancel() {
	s.l.mu.Lock()
	s.fail(ErrEnded)
	s.l.reset(&s.stream, http2.ErrCodeCancel)
	s.l.unlockAndFlush()
}

// Finished ends the exchange and reports whether the connection may carry another. What is left of the request or the response goes
// nowhere.
func (s *ClientStream) Finished() bool {
	s.Close()
	return s.c.Usable()
}

// Close ends the exchange.
func (s *ClientStream) Close() {
	c := s.c
	c.mu.Lock()
	if s.open {
		s.fail(ErrEnded)
		c.reset(&s.stream, http2.ErrCodeCancel)
	}
	s.body.discard()
	for i, h := range s.heads {
		responseHeads.Put(h)
		s.heads[i] = nil
	}
	if s.cur != nil {
		responseHeads.Put(s.cur)
		s.cur = nil
	}
	c.held--
	c.active--
	if len(c.free) < freeStreams {
		c.free = append(c.free, s)
	}
	c.stepped()
	c.unlockAndFlush()
}

// freeStreams bounds the ClientStreams that are kept for later.
const freeStreams = 16
