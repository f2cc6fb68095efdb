package proxy

import (
	"errors"
	"io"
	"time"

	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/upstream"
)

// errTooLarge ends a request body of unknown length that grew beyond the limit.
var errTooLarge = errors.New("request body too large")

// limitedBody ends a body that grows beyond a limit. Bodies of known length were judged by it before.
type limitedBody struct {
	exchange.Body
	left int64
}

// Next returns errTooLarge once more bytes came than were allowed.
func (b *limitedBody) Next() ([]byte, error) {
	p, err := b.Body.Next()
	if b.left -= int64(len(p)); b.left < 0 {
		return nil, errTooLarge
	}
	return p, err
}

// clientError is a fault of the client's side of an upload; any other error is the Pod's.
type clientError struct{ error }

// Unwrap returns the cause.
func (e clientError) Unwrap() error { return e.error }

// prepareBody gets the request's body ready to be sent: a short one is read into the connection's buffer first, so that it leaves
// together with the head, costs no second goroutine, and can be sent again. Longer ones are read first too where the Route says so. It
// reports whether the request can go on to l.
func (s *session) prepareBody(l *lane) bool {
	x, c := s.x, s.c
	if x.Request.Body == nil {
		s.whole = true
		return true
	}
	if x.Request.ExpectContinue && !c.srv.BodyDone() && c.srv.Buffered() == 0 {
		c.enter(writingClient, s.e.timeouts.Stall)
		if err := c.srv.Continue(); err != nil || c.enter(working, 0) != unmarked {
			s.broken = true
			return false
		}
	}
	if n := x.Request.Body.Length(); n < 0 {
		if limit := s.chain.limits.maxBody; limit > 0 {
			c.body = limitedBody{x.Request.Body, limit}
			x.Request.Body = &c.body
		}
		return s.spool(l)
	}
	if !c.srv.OwnsBody(x.Request.Body) {
		return s.spool(l)
	}
	for !c.srv.BodyWhole() {
		if !c.srv.BodyFits() {
			return s.spool(l)
		}
		c.enter(reading, c.terms.timeouts.Body)
		err := c.srv.FillBody()
		if m := c.enter(working, 0); m != unmarked || err != nil {
			s.unreadableBody(m, err)
			return false
		}
	}
	s.whole = true
	c.srv.MarkBody()
	return true
}

// inlineBody is the length up to which a body that was read first is written before anyone looks for the answer: it fits into the buffers of
// sockets, so that a Pod that answers early without reading it is heard.
const inlineBody = 64 << 10

// spool reads the body to its end before a Pod is asked, where the Route says so, and reports whether the request can go on.
func (s *session) spool(l *lane) bool {
	x, c, limits := s.x, s.c, &s.chain.limits
	if !limits.readFirst || len(x.Request.Upgrade) > 0 || l.speech.plain.Protocol == upstream.HTTP2 {
		return true
	}
	p := s.e.spooler.Spool(bodies.SpoolLimits{Memory: limits.memory})
	x.Own(p)
	for {
		c.enter(reading, s.c.terms.timeouts.Body)
		b, err := x.Request.Body.Next()
		m := c.enter(working, 0)
		switch {
		case m == unmarked && errors.Is(err, io.EOF):
			x.Request.Body, s.spooled, s.whole = p, p, true
			return true
		case m != unmarked || err != nil:
			s.unreadableBody(m, err)
			return false
		}
		if _, err := p.Write(b); err != nil {
			s.close = true
			s.fail(s.bodyFailure(err))
			return false
		}
	}
}

// unreadableBody ends an exchange whose body did not come before anything was sent to a Pod.
func (s *session) unreadableBody(m mark, err error) {
	if m == expired {
		s.answer(408, exchange.ClientTimeout, "request body not complete in time\n")
		s.close = true
		s.write()
		return
	}
	// A client that has only closed its sending side can still be told (RFC 9112 section 8).
	if f := s.bodyFailure(err); f != failClient {
		s.close = true
		s.fail(f)
		return
	}
	s.x.Response.Why = exchange.ClientGone
	s.x.Response.Status = 499
	s.broken = true
}

// sendBody writes the body behind the head that is buffered: at once where all of it is here, else by a goroutine that pulls it from
// the client while the connection's own goroutine waits for the answer.
func (s *session) sendBody(pod *pod) error {
	x, codec := s.x, pod.podSide
	if x.Request.Body == nil {
		return codec.Finish()
	}
	if s.whole && (s.spooled == nil || s.spooled.Length() <= inlineBody) && codec.Takes(x.Request.Body.Length()) {
		s.c.bodyMissing.Store(false)
		if err := copyBody(codec, x.Request.Body); err != nil {
			return err
		}
		return codec.Finish()
	}
	s.c.bodyMissing.Store(!s.whole)
	if err := codec.Flush(); err != nil {
		return err
	}
	s.c.bodyRead.Store(false)
	s.c.pulled.Store(false)
	s.c.bodyPause = s.patience(s.c.terms.timeouts.Body)
	s.c.headWait = s.patience(s.chain.limits.header)
	s.c.sent.Store(false)
	s.c.uploading = true
	if s.c.uploaded == nil {
		s.c.uploaded = make(chan error, 1)
	}
	go s.c.stream(x.Request.Body, codec)
	return nil
}

func copyBody(codec podSide, body exchange.Body) error {
	for {
		p, err := body.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return clientError{err}
		}
		if err := codec.Write(p); err != nil {
			return err
		}
	}
}

// stream is the upload goroutine: it pulls the body from the client and writes it to the Pod, until the end, a fault on either side,
// or an interrupt. It touches nothing of the exchange but the body and the Pod's writing half.
func (c *call) stream(body exchange.Body, codec podSide) {
	err := c.streamSafely(body, codec)
	_, over := errors.AsType[clientError](err)
	if c.upload.enter(working, c.e.sweeper.now.Load(), 0) != unmarked && !over {
		err, over = errPodStalled, true
	}
	c.sent.Store(true)
	c.main.await(c.e.sweeper.now.Load(), c.headWait)
	c.uploaded <- err
	if over {
		// The Pod must see that the request is not whole, and whoever waits for its answer must wake up.
		if p := c.pod.Load(); p != nil {
			p.interruptRead()
		}
	}
}

// streamSafely is streamBody where a body that a filter wrapped may panic: nobody else would catch that on this goroutine.
func (c *call) streamSafely(body exchange.Body, codec podSide) (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.e.panicked(v)
			err = clientError{errPanic}
		}
	}()
	return c.streamBody(body, codec)
}

var errPanic = errors.New("a panic ended the upload")

func (c *call) streamBody(body exchange.Body, codec podSide) error {
	for {
		c.upload.enter(reading, c.e.sweeper.now.Load(), c.bodyPause)
		p, err := body.Next()
		if len(p) > 0 {
			c.pulled.Store(true)
		}
		if c.upload.enter(writingPod, c.e.sweeper.now.Load(), c.podPause) != unmarked {
			return clientError{errBodyTimeout}
		}
		switch {
		case errors.Is(err, io.EOF):
			c.pulledAll()
			return codec.Finish()
		case err != nil:
			return clientError{err}
		}
		if c.session.spooled == nil && c.srv.BodyDone() {
			c.pulledAll()
		}
		if err := codec.Write(p); err != nil {
			return err
		}
		if err := codec.Flush(); err != nil {
			return err
		}
	}
}

// pulledAll says that the upload has the whole body.
func (c *call) pulledAll() {
	c.bodyRead.Store(true)
	c.bodyMissing.Store(false)
}

// errPodStalled ends an upload of which the Pod takes nothing.
var errPodStalled = errors.New("the pod took no byte of the request body in time")

var errBodyTimeout = errors.New("no byte of the request body in time")

// stopUpload ends an upload that the answer has overtaken.
func (s *session) stopUpload() {
	c := s.c
	select {
	case <-c.uploaded: //nolint:errcheck // the answer counts, not how its request ended
	default:
		c.wire.interruptRead()
		if p := c.pod.Load(); p != nil {
			p.interruptWrite()
		}
		<-c.uploaded //nolint:errcheck // as above
		c.wire.resumeRead()
	}
	c.uploading = false
}

// uploadOver ends an upload whose answer is complete, and reports whether the Pod has taken all of it. It is given a moment for the end of what
// the client has sent: the last bytes and the answer to them cross.
func (s *session) uploadOver() bool {
	c := s.c
	if ended, err := s.uploadResult(); ended {
		return err == nil
	}
	if c.bodyRead.Load() {
		moment := time.NewTimer(goneAfter)
		defer moment.Stop()
		select {
		case err := <-c.uploaded:
			c.uploading = false
			return err == nil
		case <-moment.C:
		}
	}
	s.stopUpload()
	return false
}

// uploadResult returns the error of an upload that has ended; ended is false while it goes on.
func (s *session) uploadResult() (ended bool, err error) {
	if !s.c.uploading {
		return true, nil
	}
	select {
	case err = <-s.c.uploaded:
		s.c.uploading = false
		return true, err
	default:
		return false, nil
	}
}
