package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// podConn is a connection to a Pod and the codec on it. It is kept while the connection is pooled.
type podConn struct {
	*upstream.Conn
	codec *http1.Client
}

// maxConnects bounds the endpoints that one request tries to connect to, and maxConnectTimeouts those that it waits for in vain.
const (
	maxConnects        = 3
	maxConnectTimeouts = 2
)

// failure is why an attempt ended without an answer.
type failure struct {
	status int
	why    exchange.Why
	text   string
}

var (
	failNoEndpoint  = failure{503, exchange.NoEndpoint, "no endpoint is ready\n"}
	failMissing     = failure{503, exchange.BackendMissing, "the backend of this route does not exist\n"}
	failOverload    = failure{503, exchange.Overload, "too many requests in flight\n"}
	failMemory      = failure{503, exchange.Overload, "out of memory for new requests\n"}
	failConnect     = failure{502, exchange.ConnectFailed, "no endpoint accepted a connection\n"}
	failConnectTime = failure{504, exchange.ConnectTimeout, "no endpoint accepted a connection in time\n"}
	failReset       = failure{502, exchange.UpstreamReset, "the endpoint closed the connection without an answer\n"}
	failInvalid     = failure{502, exchange.UpstreamInvalid, "the endpoint sent an invalid answer\n"}
	failTimeout     = failure{504, exchange.UpstreamTimeout, "the endpoint did not answer in time\n"}
	failTooLarge    = failure{413, exchange.BodyTooLarge, "request body too large\n"}
	failBadBody     = failure{400, exchange.BadRequest, "malformed request body\n"}
	failBodyTime    = failure{408, exchange.ClientTimeout, "request body not complete in time\n"}
	failInternal    = failure{500, exchange.Internal, "internal error\n"}
	failClient      = failure{499, exchange.ClientGone, ""}
)

// choose picks a Backend by weight.
func (c *chain) choose() *lane {
	if len(c.lanes) == 1 {
		return &c.lanes[0]
	}
	if c.total <= 0 {
		return nil
	}
	n := rand.IntN(c.total)
	for i := range c.lanes {
		if n -= c.lanes[i].weight; n < 0 {
			return &c.lanes[i]
		}
	}
	return nil
}

// forward sends the request to a Pod and its answer to the client.
func (s *session) forward() {
	l := s.chain.choose()
	if l == nil || l.backend.Unavailable != router.Available {
		s.fail(failMissing)
		return
	}
	s.x.Upstream.Service = l.backend.Service
	if !s.prepareBody() {
		return
	}
	pod, f := s.attempt(l)
	if pod == nil {
		s.fail(f)
		return
	}
	s.deliver(pod)
}

// fail answers for an exchange that got no answer from a Pod.
func (s *session) fail(f failure) {
	if s.c.uploading {
		s.stopUpload()
	}
	if f == failClient {
		s.x.Response.Status, s.x.Response.Why = f.status, f.why
		s.broken = true
		return
	}
	s.answer(f.status, f.why, f.text)
	if f.why == exchange.Overload {
		s.x.Response.Fields.SetString(exchange.RetryAfter, "1")
	}
	s.write()
}

// maxGone bounds how often a request chooses anew because the endpoint that it chose left at that moment.
const maxGone = 16

// attempt connects, sends the request and reads the head of the answer, on other endpoints and connections as the retry rules
// allow: (a) an endpoint that cannot be connected to is passed over, whatever the method; (b) a pooled connection that ends before
// a byte of the answer is replaced once by a fresh one, where the method and the body can bear it. A Pod that shuts down
// closes its idle connections and refuses others: the fresh connection of (b) may be to the next endpoint, by (a).
func (s *session) attempt(l *lane) (*podConn, failure) {
	var tried upstream.Tried
	last := failNoEndpoint
	repeated := false
	var spent connects
	for gone := 0; !spent.all() && gone < maxGone; {
		ep := l.view.Next(s.x, &tried)
		switch {
		case ep == nil:
			return nil, last
		case s.c.aborted.Load():
			return nil, failClient
		}
		s.x.Upstream.Tries++
		var pod *podConn
		var err error
		if repeated {
			pod, err = s.reconnect(ep)
		} else {
			pod, err = s.connect(ep)
		}
		if err == nil {
			f, again := s.try(pod)
			if again && !repeated && l.pool.AllowRetry() {
				repeated = true
				pod, err = s.again(ep)
				if err == nil {
					f, _ = s.try(pod)
				}
			}
			switch {
			case err != nil: // the next endpoint
			case f == failure{}:
				return pod, f
			default:
				return nil, f
			}
		}
		kind := upstream.KindOf(err)
		if kind == upstream.Gone {
			// Next does not return it again, unless it has come back meanwhile: then nothing is wrong with it.
			gone++
			continue
		}
		tried.Add(ep)
		ep.Failed(kind)
		last = connectFailure(kind)
		if kind != upstream.Limited {
			spent.add(kind)
			s.x.Upstream.Retry = last.why
		}
	}
	return nil, last
}

// connects counts what one request has tried in vain.
type connects struct{ failed, timedOut int }

func (c *connects) add(kind upstream.Failure) {
	c.failed++
	if kind == upstream.Timeout {
		c.timedOut++
	}
}

func (c *connects) all() bool { return c.failed >= maxConnects || c.timedOut >= maxConnectTimeouts }

func connectFailure(kind upstream.Failure) failure {
	switch kind {
	case upstream.Timeout:
		return failConnectTime
	case upstream.Limited, upstream.Local:
		return failOverload
	}
	return failConnect
}

// again prepares to repeat the request, and returns a fresh connection to the same endpoint.
func (s *session) again(ep *upstream.Endpoint) (*podConn, error) {
	s.x.Upstream.Tries++
	s.x.Upstream.Retry = exchange.UpstreamReset
	if s.x.Request.Body != nil {
		s.c.srv.Rewind()
	}
	return s.reconnect(ep)
}

// reconnect returns a fresh connection to ep.
func (s *session) reconnect(ep *upstream.Endpoint) (*podConn, error) {
	if err := ep.Reserve(); err != nil {
		return nil, err
	}
	return s.dial(ep)
}

// connect returns a connection to ep: one from its pool, or a fresh one.
func (s *session) connect(ep *upstream.Endpoint) (*podConn, error) {
	uc, err := ep.Acquire(upstream.Profile{})
	if err != nil {
		return nil, err
	}
	if uc != nil {
		return uc.Codec.(*podConn), nil
	}
	return s.dial(ep)
}

func (s *session) dial(ep *upstream.Endpoint) (*podConn, error) {
	uc, err := ep.Dial(time.Time{}, upstream.Profile{})
	if err != nil {
		return nil, err
	}
	pod := &podConn{Conn: uc, codec: http1.NewClient(uc.Conn, s.e.limits)}
	uc.Codec = pod
	return pod, nil
}

// try sends the request over pod and reads the head of the answer. A zero failure means that there is one. again says that the
// request may be repeated on a fresh connection. On failure pod is gone.
func (s *session) try(pod *podConn) (f failure, again bool) {
	x, c, t := s.x, s.c, &s.e.timeouts
	ep := pod.Endpoint()
	x.Upstream.Addr, x.Upstream.Pod, x.Upstream.Reused = ep.AddrPort(), ep.Pod(), pod.Reused
	if len(x.Request.Authority) == 0 {
		// HTTP/1.0 may come without Host, HTTP/1.1 may not go without.
		x.Request.Fields.SetString(exchange.Host, ep.AddrPort().String())
	}
	c.pod.Store(pod)
	if c.aborted.Load() { // it may not have seen pod
		return s.lose(pod, failClient), false
	}
	c.enter(writingPod, t.Stall)
	pod.codec.OnProgress(c.onPodTook)
	pod.codec.StartRequest(x)
	err := s.sendBody(pod)
	if m := c.enter(s.awaitPhase(), t.UpstreamHeader); m != unmarked {
		return s.lose(pod, failTimeout), false
	}
	if err == nil || !isClientError(err) {
		// A Pod may answer and close without reading the whole request: the answer counts, not the write.
		err = s.readHead(pod)
	}
	if m := c.enter(working, 0); m != unmarked {
		if m == gone {
			return s.lose(pod, failClient), false
		}
		return s.lose(pod, failTimeout), false
	}
	if err == nil {
		ep.Succeeded()
		return failure{}, false
	}
	return s.judge(pod, err)
}

// awaitPhase says what the wait for the answer means for a client that goes away meanwhile.
func (s *session) awaitPhase() phase {
	if s.c.uploading {
		return uploading
	}
	return awaiting
}

// readHead reads response heads until the final one. Interim ones are dropped but for 103, which clients that know it get.
func (s *session) readHead(pod *podConn) error {
	x := s.x
	for range maxInterim {
		if err := pod.codec.ReadResponse(x); err != nil {
			return err
		}
		if s.e.opts.AccessLog != nil && x.Timing.FirstByte.IsZero() {
			x.Timing.FirstByte = time.Now()
		}
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
func (s *session) judge(pod *podConn, err error) (f failure, again bool) {
	if cause, ok := s.clientFault(err); ok {
		return s.lose(pod, cause), false
	}
	if s.c.aborted.Load() {
		return s.lose(pod, failClient), false
	}
	// The codec forgets with lose. A body that streams (not whole) is never repeated, and what has begun is its goroutine's to know.
	started, repeatable := pod.codec.Started(), s.whole && (idempotent(s.x.Request.Method) || !pod.codec.Begun())
	reused, ep := pod.Reused, pod.Endpoint()
	if http1.IsInvalid(err) {
		return s.lose(pod, failInvalid), false
	}
	s.lose(pod, failReset)
	if started {
		return failReset, false
	}
	if !reused {
		ep.Failed(upstream.Reset)
		return failReset, false
	}
	return failReset, repeatable
}

// clientFault says whether an attempt ended because of the client: its body was malformed, too large, too slow, or stopped.
func (s *session) clientFault(err error) (failure, bool) {
	if ended, upload := s.uploadResult(); ended && isClientError(upload) {
		err = upload
	}
	if !isClientError(err) {
		return failure{}, false
	}
	var reject *exchange.Reject
	switch {
	case errors.Is(err, errTooLarge):
		return failTooLarge, true
	case errors.Is(err, errPanic):
		return failInternal, true
	case errors.Is(err, errBodyTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return failBodyTime, true
	case errors.As(err, &reject), errors.Is(err, io.ErrUnexpectedEOF):
		return failBadBody, true
	}
	return failClient, true
}

func isClientError(err error) bool {
	_, ok := errors.AsType[clientError](err)
	return ok
}

// lose gives up the connection of an attempt.
func (s *session) lose(pod *podConn, f failure) failure {
	if s.c.uploading {
		s.stopUpload()
	}
	s.c.pod.Store(nil)
	pod.codec.Close()
	pod.Discard()
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
