package proxy

import (
	"errors"
	"time"

	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/tracing"
)

// session takes one request from its validation to the end of its answer. It belongs to the connection's goroutine.
type session struct {
	c     *call
	e     *Engine
	x     *exchange.Exchange
	chain *chain
	// last says that the connection has served as many requests as it may with this one.
	last bool
	// close says that the connection ends after this exchange.
	close bool
	// broken says that it ends at once, without ceremony.
	broken bool
	// whole says that the request's body lies in the connection's buffer, or is spooled, so that it can be sent again.
	whole   bool
	spooled *bodies.Spool
	// lane is where the request goes, and cookie what the client is told of the endpoint that was chosen for it, "" for nothing.
	lane   *lane
	cookie string
	// status, where it is not 0, is what is counted and logged in place of the response's.
	status int
	// asked is when a Pod was first asked, and connects how long connections took that were made for it; for metrics.
	asked    time.Time
	connects time.Duration
	// gone says that the client went away while a filter waited.
	gone bool
	// erring says that the error service is being asked.
	erring bool
	// recorded says that record was called.
	recorded bool
	// generation is that of the table that routed the request.
	generation uint64
	// settings are those of that table, nil before.
	settings *filters.Settings
	// direction says whether this connection may carry the request.
	direction direction
	// rehearsal is set where nobody sent the request.
	rehearsal *rehearsal
	// trace is what is noted of the request, nil where it is not traced.
	trace *tracing.Trace
}

// run serves a request that was read, and reports whether the connection may carry another.
func (s *session) run() bool {
	x := s.x
	if reject := x.Validate(); reject != nil {
		s.refuse(reject.Status, exchange.BadRequest, reject.Detail)
		return false
	}
	// After an attempt to switch protocols nobody knows whose bytes come next, whatever the Pod answers.
	s.close = x.Request.Close || len(x.Request.Upgrade) > 0 || s.last
	s.identify()
	if s.e.memory.now() == refusing {
		s.overload()
		return s.finish()
	}
	if len(x.Request.Target) == 1 && x.Request.Target[0] == '*' {
		s.answerServer()
		return s.finish()
	}
	var ambiguous bool
	if s.chain, ambiguous = s.match(); ambiguous {
		s.refuse(400, exchange.BadRequest, "path with an encoded slash that leads to differently protected places")
		return false
	}
	if s.direction != right {
		return s.misdirected()
	}
	s.begin()
	s.respond()
	return s.finish()
}

// unreadable ends an exchange whose request could not be read: with an answer where the client is owed one.
func (s *session) unreadable(m mark, err error) {
	var reject *exchange.Reject
	switch {
	case m == expired:
		s.refuse(408, exchange.ClientTimeout, "request not complete in time")
	case errors.As(err, &reject):
		s.refuse(reject.Status, exchange.BadRequest, reject.Detail)
	}
}

// answerServer answers OPTIONS *, which asks about the proxy and not about a resource (RFC 9110 section 9.3.7).
func (s *session) answerServer() {
	s.chain = s.e.fallback
	s.begin()
	s.answer(200, exchange.NoReason, "")
	s.x.Response.Fields.SetString(exchange.Allow, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	s.write()
}

// overload answers that the process has no memory for the request.
func (s *session) overload() {
	s.chain = s.e.fallback
	s.begin()
	s.traceUnmatched()
	s.close = true
	s.fail(failMemory)
}

// respond finds an answer and writes it.
func (s *session) respond() {
	switch {
	case s.settings.Block != nil && s.settings.Block.FilterRequest(s.x) == exchange.Answered:
	case s.chain.route == nil:
		s.answer(404, exchange.NoRoute, "no route for this host and path\n")
	case s.chain.route.Denied != "":
		s.answer(503, exchange.RouteDenied, "this route is disabled: a policy of it is not valid\n")
	case s.tooLarge():
		s.fail(failTooLarge)
		return
	default:
		s.filter()
		return
	}
	s.write()
}

// filter runs the request filters, and goes on as they say.
func (s *session) filter() {
	x := s.x
	verdict := s.chain.filters.FilterRequest(x)
	switch {
	case s.gone:
		s.fail(failClient)
	case verdict == exchange.Continue:
		s.forward()
	case x.Response.Why == exchange.ClientCertificate:
		s.leave() // a connection shows one certificate: with another the client must make another
		s.write()
	default:
		s.write()
	}
}

// tooLarge reports whether the announced length of the request body is beyond the limit.
func (s *session) tooLarge() bool {
	limit := s.chain.limits.maxBody
	return limit > 0 && s.x.Request.Body != nil && s.x.Request.Body.Length() > limit
}

// answer makes the response the proxy's own.
func (s *session) answer(status int, why exchange.Why, body string) { s.x.Answer(status, why, body) }

// write sends the response that x holds, which the proxy or a filter made.
func (s *session) write() {
	s.page()
	s.chain.filters.FilterResponse(s.x)
	s.sayToGRPC()
	s.relay(nil)
}

// refuse is the reject procedure: an answer that echoes nothing, Connection: close, a short drain, and the end of the connection. No
// byte of the request has gone anywhere.
func (s *session) refuse(status int, why exchange.Why, detail string) {
	x := s.x
	if x.Request.Version == 0 || len(x.Request.Method) == 0 {
		x.Request.Version = exchange.HTTP11
		x.Request.Method = nil
	}
	x.Request.Body = nil
	s.chain = s.e.fallback
	s.begin()
	s.traceUnmatched()
	s.answer(status, why, detail+"\n")
	if status == 405 {
		x.Response.Fields.SetString(exchange.Allow, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	s.sayToGRPC()
	s.close = true
	srv := s.c.srv
	s.c.enter(writingClient, s.e.timeouts.Stall)
	srv.StartResponse(x, exchange.CloseAfter)
	if !srv.Bodyless() && x.Response.Body != nil {
		_ = srv.Write([]byte(detail + "\n"))
	}
	err := srv.Finish(x)
	if s.c.enter(working, 0) != unmarked || err != nil {
		s.broken = true
	}
	s.record()
	if !s.broken {
		s.c.wire.lingerBriefly()
	}
}

// finish ends the exchange: it stops an upload that goes on, records the exchange, and reports whether the connection may
// carry another request.
func (s *session) finish() bool {
	if s.c.uploading {
		s.stopUpload()
	}
	s.x.End()
	s.record()
	switch {
	case s.broken:
		return false
	case s.x.Request.Body != nil && !s.c.srv.BodyDone():
		s.c.wire.linger()
		return false
	}
	return !s.close
}

// wreck ends an exchange that a panic left in the middle: the books are put right, what it held is given up, and the client is told where
// it can be. The connection ends after it.
func (s *session) wreck() {
	if s.x == nil || s.recorded {
		return
	}
	defer func() {
		// What is broken may break again here. The connection ends anyway.
		_ = recover()
	}()
	defer s.x.End()
	if pod := s.c.pod.Load(); pod != nil {
		s.lose(pod, failInternal)
	}
	if s.chain == nil {
		s.chain = s.e.fallback
		s.begin()
	}
	s.answer(failInternal.status, failInternal.why, failInternal.text)
	defer s.record()
	srv := s.c.srv
	if srv.Begun() {
		s.c.wire.reset()
		return
	}
	// Not by relay: a filter of this route is the first suspect.
	srv.Discard()
	s.c.enter(writingClient, s.e.timeouts.Stall)
	srv.StartResponse(s.x, exchange.CloseAfter)
	if !srv.Bodyless() {
		_ = srv.Write([]byte(failInternal.text))
	}
	_ = srv.Finish(s.x)
	s.c.enter(working, 0)
}
