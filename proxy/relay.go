package proxy

import (
	"errors"
	"io"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// deliver passes the Pod's answer, whose head was read, on to the client.
func (s *session) deliver(pod *pod) {
	x := s.x
	s.head(pod)
	if x.Response.Status == 101 {
		s.tunnel(pod)
		return
	}
	if err := s.headEarly(); err != nil {
		s.close = true
	}
	if isGRPC(x) {
		// It may go on for long, and is no measure of how busy the Pod is.
		pod.uncount()
	}
	x.Response.RemoveHopByHop()
	s.chain.filters.FilterResponse(x)
	s.setCookie()
	ok := s.relay(pod)
	if s.c.uploading && !s.uploadOver() {
		// The answer is complete and the request is not: what is left of it goes nowhere.
		ok = false
	}
	s.c.pod.Store(nil)
	how := cutShort
	switch {
	case ok && len(x.Request.Upgrade) == 0 && !s.broken:
		how = reusable
	case ok:
		how = complete
	}
	pod.end(how)
}

// headEarly looks at an upload when the answer's head has come. It returns an error where the whole request has not been read by
// then: the connection must end after such an answer, because nobody knows where the next request would begin.
func (s *session) headEarly() error {
	if !s.c.uploading {
		return nil
	}
	if s.c.bodyRead.Load() || s.spooled != nil {
		// The client has sent everything. Whether the Pod takes it, which answers already, is not worth a wait of the client.
		_, err := s.uploadResult()
		return err
	}
	return errEarly
}

var errEarly = errors.New("answered before the request was complete")

// relay writes the response that x holds to the client, its body as it comes. pod is nil for answers of the proxy's own. It
// reports whether the response was passed on to its end.
func (s *session) relay(pod *pod) bool {
	x, c, srv := s.x, s.c, s.c.srv
	persistence := exchange.KeepOpen
	s.close = s.close || s.e.leaving.Load() || s.e.gate.crowded.Load() || s.e.memory.now() != calm
	if s.close || x.Request.Body != nil && !srv.BodyDone() && !c.uploading {
		persistence = exchange.CloseAfter
	}
	c.enter(writingClient, s.e.timeouts.Stall)
	if srv.StartResponse(x, persistence) == exchange.CloseAfter {
		s.close = true
	}
	if pod != nil && s.format() != nil {
		x.Response.Fields.Own() // the line is written when others may use the Pod's connection
	}
	err := s.relayBody(pod)
	if err == nil {
		err = srv.Finish(x)
	}
	m := c.enter(working, 0)
	x.BytesOut = srv.Written()
	if err == nil && m == unmarked {
		return true
	}
	s.interrupted(m, err)
	return false
}

// relayBody pulls the body and writes it. What has arrived is written at once; while nothing has, what is buffered is flushed. A body that is
// paced is pulled when its time has come.
func (s *session) relayBody(pod *pod) error {
	x, c, srv := s.x, s.c, s.c.srv
	if srv.Bodyless() || x.Response.Body == nil {
		return nil
	}
	wait, limit := s.pause()
	paced, _ := x.Response.Body.(exchange.Paced)
	for {
		if paced != nil {
			if err := s.pace(paced); err != nil {
				return err
			}
		}
		if pod != nil && !pod.Ready() {
			if err := srv.Flush(); err != nil {
				return err
			}
			if m := c.enter(wait, limit); m != unmarked {
				return clientError{io.ErrShortWrite}
			}
		}
		p, err := x.Response.Body.Next()
		switch c.enter(writingClient, s.e.timeouts.Stall) {
		case unmarked:
		case gone:
			return clientError{errLeft}
		default:
			return podError{errBodyTimeout}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return podError{err}
		}
		if err := srv.Write(p); err != nil {
			return clientError{err}
		}
	}
}

// errLeft ends an answer in whose middle the client has left.
var errLeft = errors.New("the client has left")

// pause is the wait for more of the answer's body, and how long it may last. An event stream is silent for long by nature, like a tunnel.
func (s *session) pause() (phase, time.Duration) {
	const events = "text/event-stream"
	kind := s.x.Response.Fields.Get(exchange.ContentType)
	if len(kind) >= len(events) && exchange.EqualFold(kind[:len(events)], events) {
		return receivingEvents, s.chain.limits.quiet
	}
	return receiving, s.patience(s.chain.limits.body)
}

// patience is how long a side may be silent for which the limit is usual. Streams of gRPC are silent for long by nature; both ends have deadlines of
// their own.
func (s *session) patience(usual time.Duration) time.Duration {
	if isGRPC(s.x) {
		return s.chain.limits.quiet
	}
	return usual
}

// podError is a fault of the Pod's side while its answer was under way.
type podError struct{ error }

// Unwrap returns the cause.
func (e podError) Unwrap() error { return e.error }

// interrupted ends an answer that was not passed on to its end. The client must see that: its connection is cut.
func (s *session) interrupted(m mark, err error) {
	s.broken = true
	x := s.x
	if s.c.aborted.Load() {
		err = clientError{err}
	}
	if _, ok := errors.AsType[podError](err); ok {
		f := failTruncated
		if cause, ok := s.clientFault(err); ok {
			f = cause // an upload beside the answer has failed, and ended it
		}
		x.Response.Why = f.why
		if !s.c.srv.Begun() && f != failClient {
			// Nothing has left yet: the client can still be told.
			s.c.srv.Discard()
			s.broken = false
			s.answer(f.status, f.why, f.text)
			s.close = true
			s.relay(nil)
			return
		}
		if !s.endGRPC(err) {
			s.c.wire.reset()
		}
		return
	}
	x.Response.Why = exchange.ClientGone
	if m == expired {
		x.Response.Why = exchange.ClientTimeout
	}
	s.c.wire.reset()
}

// statusSeen is the status that is counted and logged.
func (s *session) statusSeen() int {
	if s.status != 0 {
		return s.status
	}
	return s.x.Response.Status
}

// record counts and logs the exchange at its end.
func (s *session) record() {
	x := s.x
	s.recorded = true
	if s.rehearsal != nil {
		return
	}
	x.Timing.End = time.Now()
	s.lastLeg()
	if x.Response.Status != 101 && x.Request.Version != exchange.TLS {
		x.BytesIn = s.c.srv.BodyBytes()
	}
	s.e.tally.local(x.Response.Why)
	s.count()
	if s.e.opts.AccessLog != nil {
		if s.chain.filters.LogRewrites {
			s.logRewrite()
		}
		if s.logs() {
			s.log()
		}
	}
	s.endTrace()
}
