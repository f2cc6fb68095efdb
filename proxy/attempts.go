package proxy

import (
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/upstream"
)

// maxConnects bounds the endpoints that one request tries to connect to, and maxConnectTimeouts those that it waits for in vain.
const (
	maxConnects        = 3
	maxConnectTimeouts = 2
)

// maxGone bounds how often a request chooses anew because the endpoint that it chose left at that moment.
const maxGone = 16

// attempt connects, sends the request and reads the head of the answer, on other endpoints and connections as the retry rules
// allow: (a) an endpoint that cannot be connected to is passed over, whatever the method; (b) a pooled connection that ends before
// a byte of the answer is replaced once by a fresh one, where the method and the body can bear it; (c) a request that the Pod says it
// has not processed, which HTTP/2 can, is sent again. A Pod that shuts down closes its idle connections and refuses others: the fresh connection
// of (b) may be to the next endpoint, by (a). (d) A fresh connection that ends before a byte of the answer is replaced once by one to another
// endpoint, under the conditions of (b): a Pod that closes its listener resets what its kernel has accepted and it has not.
//
// Where the Route has rules of its own, they hold in place of (a) and (b): see mayRepeat.
func (s *session) attempt(l *lane) (*pod, *failure) {
	a := attempts{last: failNoEndpoint, profile: l.speech.profile(s.x), rules: s.chain.filters.Forwarding.Again}
	a.limit()
	s.ask()
	for !a.all() {
		ep := a.next
		if a.next = nil; ep == nil {
			ep = s.choose(l, &a.tried)
		}
		switch {
		case ep == nil:
			return nil, a.last
		case s.c.aborted.Load():
			return nil, failClient
		}
		s.x.Upstream.Tries++
		a.tries++
		leg, f, again, err := s.attemptAt(l, ep, &a)
		switch {
		case err != nil:
			if a.unconnected(ep, err, s.x); !s.mayReconnect(&a, upstream.KindOf(err)) {
				return nil, a.last
			} // else the next endpoint
		case a.resends(again, l, ep):
			a.last = f
			s.rewind()
		case f != nil:
			if !s.mayRepeat(&a, causeOf(f)) {
				return nil, f
			}
			a.tried.Add(ep)
			a.last = f
			s.repeat(f.why)
		case a.rules != nil && s.unwanted(l, ep, &a):
			s.lose(leg, failReset)
			s.endLeg(exchange.UpstreamStatus)
			s.repeat(exchange.UpstreamStatus)
		default:
			return leg, f
		}
	}
	return nil, a.last
}

// attemptAt tries one endpoint. The error is one of connecting.
func (s *session) attemptAt(l *lane, ep *upstream.Endpoint, a *attempts) (leg *pod, f *failure, again repetition, err error) {
	s.beginLeg(ep)
	if a.repeated {
		leg, err = s.reconnect(ep, a.profile)
	} else {
		leg, err = s.connect(ep, a.profile)
	}
	if s.connected(leg, err); err != nil {
		return nil, f, never, err
	}
	var start time.Time
	if l.timed {
		start = time.Now()
	}
	f, again = s.try(leg)
	s.answered(f)
	if l.timed && f == nil {
		l.view.Observe(ep, time.Since(start))
	}
	if again == onFresh && !a.repeated && (a.rules == nil && l.pool.AllowRetry() || a.rules != nil && a.rules.Unsent(filters.OnError)) {
		a.repeated = true
		if leg, err = s.again(ep, a.profile); err == nil {
			f, again = s.try(leg)
			s.answered(f)
		}
	}
	return leg, f, again, err
}

// choose returns the endpoint for the next try, nil where there is none that is not in tried.
func (s *session) choose(l *lane, tried *upstream.Tried) *upstream.Endpoint {
	switch {
	case l.sole:
		tried = nil
	case l.sticky != nil:
		return s.stickTo(l, tried)
	}
	return l.view.Next(s.x, tried)
}

// repetition says how a request may be repeated after an attempt.
type repetition uint8

const (
	never     repetition = iota
	onFresh              // once, on a fresh connection
	onAnother            // once, on another endpoint
	anywhere             // as if it had never been sent
)

// maxRefused bounds how often one request is sent again because a Pod has not processed it.
const maxRefused = 3

// attempts are what one request has tried in vain.
type attempts struct {
	profile  *upstream.Profile
	rules    *filters.Again // nil for those of the proxy
	until    time.Time      // when nothing is tried again any more, zero for never
	tries    int
	next     *upstream.Endpoint // chosen already
	tried    upstream.Tried
	last     *failure
	repeated bool // after a connection that was lost
	failed   int  // connects, and those of them that were not answered in time
	timedOut int
	refused  int
	gone     int
}

// limit sets when nothing is tried again any more, where the rules say so.
func (a *attempts) limit() {
	if a.rules != nil && a.rules.Timeout > 0 {
		a.until = time.Now().Add(a.rules.Timeout)
	}
}

// resends says whether the request is sent again by (c) or (d) of attempt, after ep, and takes that in.
func (a *attempts) resends(again repetition, l *lane, ep *upstream.Endpoint) bool {
	switch {
	case again == anywhere && a.refused < maxRefused:
		a.refused++
	case again == onAnother && !a.repeated && a.rules == nil && l.pool.AllowRetry():
		a.repeated = true
		a.tried.Add(ep)
	default:
		return false
	}
	return true
}

// unconnected takes in that ep could not be connected to.
func (a *attempts) unconnected(ep *upstream.Endpoint, err error, x *exchange.Exchange) {
	kind := upstream.KindOf(err)
	if kind == upstream.Gone {
		// Next does not return it again, unless it has come back meanwhile: then nothing is wrong with it.
		a.gone++
		return
	}
	a.tried.Add(ep)
	ep.Failed(kind)
	a.last = connectFailure(kind)
	if kind == upstream.Limited {
		return
	}
	a.failed++
	if kind == upstream.Timeout {
		a.timedOut++
	}
	x.Upstream.Retry = a.last.why
}

func (a *attempts) all() bool {
	if a.tries >= maxTries || a.gone >= maxGone {
		return true
	}
	return a.rules == nil && (a.failed >= maxConnects || a.timedOut >= maxConnectTimeouts)
}

func connectFailure(kind upstream.Failure) *failure {
	switch kind {
	case upstream.Timeout:
		return failConnectTime
	case upstream.Limited, upstream.Local:
		return failOverload
	case upstream.Handshake:
		return failHandshake
	case upstream.Untrusted:
		return failUntrusted
	}
	return failConnect
}

// maxTries bounds the tries of a request, where nothing else does.
const maxTries = 16

// spent reports whether the rules of the Route allow no further try.
func (a *attempts) spent() bool {
	return a.rules.Tries > 0 && a.tries >= a.rules.Tries || a.tries >= maxTries || !a.until.IsZero() && !time.Now().Before(a.until)
}

// mayReconnect reports whether the request may go to another endpoint after a connect that failed: no Pod has seen anything of it.
func (s *session) mayReconnect(a *attempts, kind upstream.Failure) bool {
	if a.rules == nil {
		return true
	}
	cause := filters.OnError
	switch kind {
	case upstream.Gone:
		// It was no try: nobody was asked.
		a.tries--
		return true
	case upstream.Timeout:
		cause = filters.OnTimeout
	}
	return a.rules.Unsent(cause) && !a.spent()
}

// mayRepeat reports whether the request, which a Pod has got in whole or in part, may be sent to another: by the rules of the Route only, and
// where its body can be sent again.
func (s *session) mayRepeat(a *attempts, c filters.Causes) bool {
	return a.rules != nil && s.whole && a.rules.Sent(c, s.x.Request.Method) && !a.spent() && !s.c.aborted.Load()
}

// causeOf returns the reason that a failed attempt is for another, 0 for none.
func causeOf(f *failure) filters.Causes {
	switch f {
	case failReset:
		return filters.OnError
	case failTimeout:
		return filters.OnTimeout
	case failInvalid:
		return filters.OnInvalidHead
	}
	return 0
}

// unwanted reports whether the answer of ep is one for which another is asked, and there is one.
func (s *session) unwanted(l *lane, ep *upstream.Endpoint, a *attempts) bool {
	c := filters.OnStatus(s.x.Response.Status)
	if c == 0 || !s.mayRepeat(a, c) {
		return false
	}
	a.tried.Add(ep)
	cookie := s.cookie
	if a.next = s.choose(l, &a.tried); a.next == nil {
		s.cookie = cookie // that of the endpoint whose answer it is
	}
	return a.next != nil
}

// repeat makes the request ready for another Pod.
func (s *session) repeat(why exchange.Why) {
	s.rewind()
	s.x.Upstream.Retry = why
	s.x.Timing.FirstByte = time.Time{}
}

// again prepares to repeat the request, and returns a fresh connection to the same endpoint.
func (s *session) again(ep *upstream.Endpoint, p *upstream.Profile) (*pod, error) {
	s.x.Upstream.Tries++
	s.rewind()
	s.beginLeg(ep)
	leg, err := s.reconnect(ep, p)
	s.connected(leg, err)
	return leg, err
}

// rewind makes the request ready to be sent again.
func (s *session) rewind() {
	s.x.Upstream.Retry = exchange.UpstreamReset
	switch {
	case s.spooled != nil:
		s.spooled.Rewind()
	case s.x.Request.Body != nil && s.whole:
		s.c.srv.Rewind()
	}
}
