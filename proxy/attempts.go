package proxy

import (
	"podlane.dev/podlane/proxy/exchange"
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
// of (b) may be to the next endpoint, by (a).
func (s *session) attempt(l *lane) (*pod, failure) {
	a := attempts{last: failNoEndpoint, profile: l.speech.profile(s.x)}
	for !a.all() {
		ep := l.view.Next(s.x, &a.tried)
		switch {
		case ep == nil:
			return nil, a.last
		case s.c.aborted.Load():
			return nil, failClient
		}
		s.x.Upstream.Tries++
		leg, f, again, err := s.attemptAt(l, ep, &a)
		switch {
		case err != nil:
			a.unconnected(ep, err, s.x) // the next endpoint
		case again == anywhere && a.refused < maxRefused:
			a.refused++
			a.last = f
			s.rewind()
		case f != failure{}:
			return nil, f
		default:
			return leg, f
		}
	}
	return nil, a.last
}

// attemptAt tries one endpoint. The error is one of connecting.
func (s *session) attemptAt(l *lane, ep *upstream.Endpoint, a *attempts) (leg *pod, f failure, again repetition, err error) {
	if a.repeated {
		leg, err = s.reconnect(ep, a.profile)
	} else {
		leg, err = s.connect(ep, a.profile)
	}
	if err != nil {
		return nil, f, never, err
	}
	f, again = s.try(leg)
	if again == onFresh && !a.repeated && l.pool.AllowRetry() {
		a.repeated = true
		if leg, err = s.again(ep, a.profile); err == nil {
			f, again = s.try(leg)
		}
	}
	return leg, f, again, err
}

// repetition says how a request may be repeated after an attempt.
type repetition uint8

const (
	never    repetition = iota
	onFresh             // once, on a fresh connection
	anywhere            // as if it had never been sent
)

// maxRefused bounds how often one request is sent again because a Pod has not processed it.
const maxRefused = 3

// attempts are what one request has tried in vain.
type attempts struct {
	profile  *upstream.Profile
	tried    upstream.Tried
	last     failure
	repeated bool // after a connection that was lost
	failed   int  // connects, and those of them that were not answered in time
	timedOut int
	refused  int
	gone     int
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
	return a.failed >= maxConnects || a.timedOut >= maxConnectTimeouts || a.gone >= maxGone
}

func connectFailure(kind upstream.Failure) failure {
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

// again prepares to repeat the request, and returns a fresh connection to the same endpoint.
func (s *session) again(ep *upstream.Endpoint, p *upstream.Profile) (*pod, error) {
	s.x.Upstream.Tries++
	s.rewind()
	return s.reconnect(ep, p)
}

// rewind makes the request ready to be sent again.
func (s *session) rewind() {
	s.x.Upstream.Retry = exchange.UpstreamReset
	if s.x.Request.Body != nil && s.whole {
		s.c.srv.Rewind()
	}
}
