package proxy

import (
	"errors"
	"io"

	"podlane.dev/podlane/proxy/exchange"
)

// The fields that tell an error service what happened.
const (
	codeField    = "X-Code"
	formatField  = "X-Format"
	spaceField   = "X-Namespace"
	ingressField = "X-Ingress-Name"
	serviceField = "X-Service-Name"
	portField    = "X-Service-Port"
)

// secrets are what a client sends to the Pods of a route and to nobody else.
var secrets = [...]exchange.ID{exchange.Authorization, exchange.Cookie}

// standsIn reports whether the error service takes a request as it is, because nobody else can: it is the Ingress's own, l has no endpoint,
// which may be nil, and it has one.
func (s *session) standsIn(l *lane) bool {
	stand := s.chain.errors
	if stand == nil || s.chain.filters.Forwarding.Errors.Service == "" || stand.pool.Len() == 0 || isGRPC(s.x) {
		return false
	}
	switch f := l.unavailable(s.x); {
	case f == failMissing:
		return true
	case f != nil:
		return false
	}
	return l.pool.Len() == 0
}

// tellErrorService sets the fields that the error service reads, and removes what it must not see.
func (s *session) tellErrorService(status int) {
	x := s.x
	f := &x.Request.Fields
	for _, id := range secrets {
		f.Del(id)
	}
	route := s.chain.route
	at := len(x.Scratch)
	x.Scratch = append(x.Scratch, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
	s.tell(codeField, x.Scratch[at:])
	s.tell(formatField, f.Get(exchange.Accept))
	s.tell(spaceField, []byte(route.ID.Namespace))
	s.tell(ingressField, []byte(route.ID.Ingress))
	var service, port string
	if len(route.Backends) > 0 {
		service, port = route.Backends[0].Service.Name, route.Backends[0].Written
	}
	s.tell(serviceField, []byte(service))
	s.tell(portField, []byte(port))
	x.Scratch = x.Scratch[:at]
}

// tell sets a field, whoever sent one of that name; an empty one is none, as in nginx.
func (s *session) tell(name string, value []byte) {
	f := &s.x.Request.Fields
	f.DelName([]byte(name))
	if len(value) > 0 {
		f.Add(name, value)
	}
}

// speakForNobody removes the fields by which the operator's default backend, which is an error service too, tells errors from requests: what comes
// to it because there is no route is a request.
func (s *session) speakForNobody() {
	for _, name := range [...]string{codeField, formatField, spaceField, ingressField, serviceField, portField} {
		s.tell(name, nil)
	}
}

// replaceable reports whether the error service may answer for a failure: all that are about Pods or bodies, and none that is about who the
// client is or how much there is of it.
func (f *failure) replaceable() bool {
	switch f.why {
	case exchange.NoEndpoint, exchange.BackendMissing, exchange.ConnectFailed, exchange.ConnectTimeout, exchange.UpstreamReset, exchange.UpstreamTimeout,
		exchange.UpstreamInvalid, exchange.UpstreamTLS, exchange.BodyTooLarge:
		return true
	}
	return false
}

// replaces reports whether the error service answers in place of an answer with this status.
func (s *session) replaces(status int) bool {
	stand := s.chain.errors
	return stand != nil && !s.erring && s.chain.filters.Forwarding.Errors.Replaces(status) && stand.pool.Len() > 0
}

// replace drops the Pod's answer, whose head was read, and has the error service answer. Where that fails too, the client gets at least the status.
func (s *session) replace(pod *pod) {
	x := s.x
	f := &failure{x.Response.Status, exchange.NoReason, "the answer of the endpoint was an error\n"}
	var challenges []string
	for i := range x.Response.Fields.Len() {
		if id, _, value, ok := x.Response.Fields.At(i); ok && id == exchange.WWWAuthenticate && f.status == 401 {
			challenges = append(challenges, string(value))
		}
	}
	s.drop(pod)
	s.endLeg(exchange.UpstreamStatus)
	if s.c.aborted.Load() {
		s.fail(failClient)
		return
	}
	s.askErrorService(f, challenges)
}

// drop gives up an answer that nobody gets. What has come of it is read, so that a short one leaves the connection usable.
func (s *session) drop(pod *pod) {
	how := reusable
	if err := s.headEarly(); err != nil || s.c.uploading && !s.uploadOver() {
		how = cutShort
	}
	if s.c.uploading {
		s.stopUpload()
	}
	for left := maxDropped; how == reusable && s.x.Response.Body != nil; {
		if !pod.Ready() {
			how = cutShort
			break
		}
		p, err := s.x.Response.Body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if left -= len(p); err != nil || left < 0 {
			how = cutShort
		}
	}
	s.x.Withdraw()
	s.x.Response.Trailers.Reset(nil)
	s.c.pod.Store(nil)
	pod.end(how)
}

// maxDropped bounds the answers that are read to their ends for the sake of the connection.
const maxDropped = 64 << 10

// showError has the error service answer for a failure, and reports whether it is to: then there is an answer.
func (s *session) showError(f *failure) bool {
	if !s.replaces(f.status) || isGRPC(s.x) {
		return false
	}
	s.x.Withdraw()
	s.askErrorService(f, nil)
	return true
}

// askErrorService sends GET /, with the client's query, to the error service, and its answer to the client.
func (s *session) askErrorService(f *failure, challenges []string) {
	s.erring, s.cookie = true, "" // no client is to stay with the endpoint that failed
	client := s.beginErrand(f.status)
	s.x.Upstream.Service = s.chain.errors.backend.Service
	pod, lost := s.reach(s.chain.errors)
	s.endErrand(client)
	switch {
	case pod == nil && lost == failClient:
		s.fail(lost)
	case pod == nil:
		s.answer(f.status, f.why, f.text)
		s.challenge(challenges)
		s.write()
	default:
		s.challenge(challenges)
		s.deliver(pod)
		if s.x.Response.Why == exchange.NoReason {
			s.x.Response.Why = f.why // which is counted, whoever answers
		}
	}
}

// challenge adds what a Pod has asked for with a 401 whose text another service writes.
func (s *session) challenge(challenges []string) {
	f := &s.x.Response.Fields
	if f.Has(exchange.WWWAuthenticate) {
		return
	}
	for _, c := range challenges {
		f.AddString(exchange.WWWAuthenticate.Name(), c)
	}
}

// beginErrand makes the request the one for the error service, and returns what it was; endErrand puts that back, but for the fields, because the
// answer depends on what the client asked.
func (s *session) beginErrand(status int) exchange.Request {
	q := &s.x.Request
	client := *q
	s.tellErrorService(status)
	s.tell(exchange.XOriginalURI.Name(), q.Target)
	f := &q.Fields
	if host := f.Get(exchange.XForwardedHost); len(host) > 0 {
		f.Set(exchange.Host, append([]byte(nil), host...))
	}
	for i := range f.Len() {
		if id, name, _, ok := f.At(i); ok && aboutRequest(id, name) {
			f.DelAt(i)
		}
	}
	// The query stays, as in nginx.
	q.Method, q.Forward, q.HasQuery, q.Body, q.Upgrade = []byte("GET"), []byte("/"), len(q.RawQuery) > 0, nil, nil
	s.whole = true
	return client
}

func (s *session) endErrand(client exchange.Request) {
	q := &s.x.Request
	q.Method, q.Forward, q.HasQuery = client.Method, client.Forward, client.HasQuery
	q.Body, q.Upgrade = client.Body, client.Upgrade
}

// aboutRequest reports whether a field is about a body, or about how much the client wants of what it asked for: an error page is neither.
func aboutRequest(id exchange.ID, name []byte) bool {
	switch id {
	case exchange.ContentLength, exchange.ContentType, exchange.ContentEncoding, exchange.Range, exchange.TE,
		exchange.SecWebSocketKey, exchange.SecWebSocketVersion:
		return true
	}
	return len(name) > 3 && exchange.EqualFold(name[:3], "If-") || len(name) > 8 && exchange.EqualFold(name[:8], "Content-")
}
