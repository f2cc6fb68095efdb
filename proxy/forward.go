package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"

	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/proxy/http2"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// failure is why an attempt ended without an answer; nil where there is one. It is passed by pointer and never changed: attempts are the deepest part of
// a connection's stack, and copies of it made every stack twice as large.
type failure struct {
	status int
	why    exchange.Why
	text   string
}

var (
	failNoEndpoint  = &failure{503, exchange.NoEndpoint, "no endpoint is ready\n"}
	failMissing     = &failure{503, exchange.BackendMissing, "the backend of this route does not exist\n"}
	failOverload    = &failure{503, exchange.Overload, "too many requests in flight\n"}
	failMemory      = &failure{503, exchange.Overload, "out of memory for new requests\n"}
	failConnect     = &failure{502, exchange.ConnectFailed, "no endpoint accepted a connection\n"}
	failHandshake   = &failure{502, exchange.UpstreamTLS, "no endpoint speaks what was expected of it\n"}
	failUntrusted   = &failure{502, exchange.UpstreamTLS, "the certificate of no endpoint is valid\n"}
	failUpgrade     = &failure{501, exchange.UpstreamInvalid, "the endpoints of this route take no upgrades\n"}
	failUnusable    = &failure{503, exchange.RouteDenied, "this route is disabled: a policy of it is not valid\n"}
	failConnectTime = &failure{504, exchange.ConnectTimeout, "no endpoint accepted a connection in time\n"}
	failReset       = &failure{502, exchange.UpstreamReset, "the endpoint closed the connection without an answer\n"}
	failInvalid     = &failure{502, exchange.UpstreamInvalid, "the endpoint sent an invalid answer\n"}
	failTimeout     = &failure{504, exchange.UpstreamTimeout, "the endpoint did not answer in time\n"}
	failTooLarge    = &failure{413, exchange.BodyTooLarge, "request body too large\n"}
	failBadBody     = &failure{400, exchange.BadRequest, "malformed request body\n"}
	failBodyTime    = &failure{408, exchange.ClientTimeout, "request body not complete in time\n"}
	failSpool       = &failure{503, exchange.Overload, "no room for the request body\n"}
	failInternal    = &failure{500, exchange.Internal, "internal error\n"}
	failTruncated   = &failure{502, exchange.UpstreamTruncated, "the endpoint ended its answer early\n"}
	failClient      = &failure{499, exchange.ClientGone, ""}
)

// choose picks the Backend for the request of x: the canary where there is one that takes it, else by weight. draw returns a random number from 0
// to below its argument.
func (c *chain) choose(x *exchange.Exchange, draw func(int) int) *lane {
	switch {
	case len(c.lanes) == 1:
		return &c.lanes[0]
	case c.route.Alternative != nil:
		return c.divert(x, draw)
	case c.total <= 0:
		return nil
	}
	n := draw(c.total)
	for i := range c.lanes {
		if n -= c.lanes[i].weight; n < 0 {
			return &c.lanes[i]
		}
	}
	return nil
}

// divert picks the canary or the Route's own Backend: that which the client has a cookie of, else what the canary's rules say. A canary without
// endpoints takes nothing.
func (c *chain) divert(x *exchange.Exchange, draw func(int) int) *lane {
	main, canary := &c.lanes[0], &c.lanes[1]
	up := &x.Upstream
	switch {
	case canary.pool == nil || canary.pool.Len() == 0:
		up.CanaryBy = exchange.DecidedByAbsence
	case main.sticky.Holds(x):
		up.CanaryBy = exchange.DecidedByAffinity
	case canary.sticky.Holds(x):
		up.Canary, up.CanaryBy = true, exchange.DecidedByAffinity
	default:
		up.Canary, up.CanaryBy = filters.Divert(&c.route.Alternative.Canary, x, draw)
	}
	if up.Canary {
		return canary
	}
	return main
}

// unavailable says why the request of x cannot be sent to l, which may be nil; nil means that it can.
func (l *lane) unavailable(x *exchange.Exchange) *failure {
	switch {
	case l == nil:
		return failMissing
	case l.backend.Unavailable == router.PodTLSUnusable:
		return failUnusable
	case l.backend.Unavailable != router.Available:
		return failMissing
	case len(x.Request.Upgrade) > 0 && l.speech.scheme.Protocol() == router.PodHTTP2:
		return failUpgrade
	}
	return nil
}

// pick chooses the Backend for the request.
func (s *session) pick() *lane {
	if s.rehearsal != nil {
		return s.rehearsal.pick(s)
	}
	return s.chain.choose(s.x, rand.IntN)
}

// forward sends the request to a Pod and its answer to the client.
func (s *session) forward() {
	l := s.pick()
	switch route := s.chain.route; {
	case s.standsIn(l):
		l = s.chain.errors
		s.tellErrorService(failNoEndpoint.status)
	case route.IsDefault && route.ID.Ingress == "":
		s.speakForNobody()
	}
	if f := l.unavailable(s.x); f != nil {
		s.fail(f)
		return
	}
	s.x.Upstream.Service, s.lane = l.backend.Service, l
	if s.rehearsal == nil && !s.prepareBody(l) {
		return
	}
	s.mirror()
	pod, f := s.reach(l)
	if pod == nil {
		s.fail(f)
		return
	}
	if s.replaces(s.x.Response.Status) && !s.chain.filters.Forwarding.Errors.KeepPods && !isGRPC(s.x) {
		s.replace(pod)
		return
	}
	s.deliver(pod)
}

// reach sends the request to a Pod of l and reads the head of its answer.
func (s *session) reach(l *lane) (*pod, *failure) {
	if s.rehearsal != nil {
		return nil, s.rehearsal.arrive(s, l)
	}
	return s.attempt(l)
}

// fail answers for an exchange that got no answer from a Pod.
func (s *session) fail(f *failure) {
	if s.c.uploading {
		s.stopUpload()
	}
	if f == failClient {
		s.x.Response.Status, s.x.Response.Why = f.status, f.why
		s.broken = true
		return
	}
	if f.replaceable() && s.showError(f) {
		return
	}
	s.answer(f.status, f.why, f.text)
	if f.why == exchange.Overload {
		s.x.Response.Fields.SetString(exchange.RetryAfter, "1")
	}
	s.write()
}

// try sends the request over pod and reads the head of the answer. Without a failure there is one. again says how the
// request may be repeated. On failure pod is gone.
func (s *session) try(pod *pod) (f *failure, again repetition) {
	x, c, limits := s.x, s.c, &s.chain.limits
	ep := pod.ep
	x.Upstream.Addr, x.Upstream.Pod, x.Upstream.Reused = ep.AddrPort(), ep.Pod(), pod.reused
	if len(x.Request.Authority) == 0 && !x.Request.Vhost {
		// HTTP/1.0 may come without Host, HTTP/1.1 may not go without.
		x.Request.Fields.SetString(exchange.Host, ep.AddrPort().String())
	}
	c.pod.Store(pod)
	if c.aborted.Load() { // it may not have seen pod
		return s.lose(pod, failClient), never
	}
	c.podPause = limits.send
	c.enter(writingPod, limits.send)
	pod.limitHead(limits.maxHead)
	pod.OnProgress(c.onPodTook)
	pod.StartRequest(x)
	err := s.sendBody(pod)
	m := s.await()
	if m == unmarked {
		if err == nil || !isClientError(err) {
			// A Pod may answer and close without reading the whole request: the answer counts, not the write.
			err = s.readHead(pod)
		}
		m = c.enter(working, 0)
	}
	switch {
	case m != unmarked:
		return s.lose(pod, marked(m)), never
	case err == nil:
		ep.Succeeded()
		return nil, never
	}
	return s.judge(pod, err)
}

// marked says what it means that the sweeper has ended a wait for a Pod.
func marked(m mark) *failure {
	if m == gone {
		return failClient
	}
	return failTimeout
}

// await begins the wait for the answer, and returns the mark of the wait before. While an upload goes on its own waits are what is bounded.
func (s *session) await() mark {
	c := s.c
	if !c.uploading {
		return c.enter(awaiting, s.patience(s.chain.limits.header))
	}
	m := c.enter(uploading, 0)
	// Either the upload sees the wait, or its end is seen here.
	if c.sent.Load() {
		c.main.await(c.e.sweeper.now.Load(), c.headWait)
	}
	return m
}

// readHead reads response heads until the final one. Interim ones are dropped but for 103, which clients that know it get.
func (s *session) readHead(pod *pod) error {
	x := s.x
	for range maxInterim {
		if err := pod.ReadResponse(x); err != nil {
			return err
		}
		s.firstByte()
		switch {
		case x.Response.Status >= 200, x.Response.Status == 101 && len(x.Request.Upgrade) > 0:
			return nil
		case x.Response.Status == 101:
			return &http1.InvalidResponse{Detail: "101 without an upgrade"}
		case x.Response.Status == 103 && x.Request.Version >= exchange.HTTP11:
			if err := s.c.srv.Interim(x); err != nil {
				return err
			}
		}
	}
	return &http1.InvalidResponse{Detail: "too many interim responses"}
}

// maxInterim bounds the 1xx responses before the final one.
const maxInterim = 9

// judge says what an error before the head of the answer means.
func (s *session) judge(pod *pod, err error) (f *failure, again repetition) {
	if cause, ok := s.clientFault(err); ok {
		return s.lose(pod, cause), never
	}
	// The codec forgets with lose. A body that streams from the client (not whole) is never repeated, and what has begun of one that streams is its
	// goroutine's to know.
	started, repeatable := pod.Started(), s.whole && (idempotent(s.x.Request.Method) || !s.c.uploading && !pod.Begun())
	reused, ep, refused := pod.reused, pod.ep, pod.refused(err)
	if cause, ok := podFault(err); ok {
		return s.lose(pod, cause), never
	}
	s.lose(pod, failReset)
	switch {
	case started:
		return failReset, never
	case refused && (s.whole || !s.c.pulled.Load()):
		return failReset, anywhere
	case refused, errors.Is(err, http2.ErrReset):
		// The Pod lives, and wants this request to fail.
		return failReset, never
	case reused && repeatable:
		return failReset, onFresh
	case reused:
		return failReset, never
	}
	ep.Failed(upstream.Reset)
	if repeatable {
		return failReset, onAnother
	}
	return failReset, never
}

// podFault says whether an attempt ended because of what the Pod said, or because it took nothing.
func podFault(err error) (*failure, bool) {
	switch {
	case isInvalid(err):
		return failInvalid, true
	case errors.Is(err, http2.ErrStalled):
		return failTimeout, true
	}
	return nil, false
}

// clientFault says whether an attempt ended because of the client, or of the request's body: it was malformed, too large, too slow, or stopped, or
// the Pod did not take it.
func (s *session) clientFault(err error) (*failure, bool) {
	if ended, upload := s.uploadResult(); ended && (isClientError(upload) || errors.Is(upload, errPodStalled)) {
		err = upload
	}
	if errors.Is(err, errPodStalled) {
		return failTimeout, true
	}
	if !isClientError(err) {
		return failClient, s.c.aborted.Load()
	}
	return s.bodyFailure(err), true
}

// bodyFailure says what an error of the request's body means.
func (s *session) bodyFailure(err error) *failure {
	var reject *exchange.Reject
	var spool *bodies.SpoolError
	switch {
	case errors.Is(err, errTooLarge):
		return failTooLarge
	case errors.As(err, &spool):
		return failSpool
	case errors.Is(err, errPanic):
		return failInternal
	case errors.Is(err, errBodyTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return failBodyTime
	case errors.As(err, &reject), errors.Is(err, io.ErrUnexpectedEOF):
		return failBadBody
	}
	return failClient
}

func isClientError(err error) bool {
	_, ok := errors.AsType[clientError](err)
	return ok
}

// lose gives up the connection of an attempt.
func (s *session) lose(pod *pod, f *failure) *failure {
	if s.c.uploading {
		s.stopUpload()
	}
	s.c.pod.Store(nil)
	pod.lose()
	return f
}

// idempotent reports whether a request of this method may be repeated (RFC 9110 section 9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
