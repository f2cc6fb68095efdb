// Package exchange is the message model: one request and its response as typed state, the same for HTTP/1.1 and HTTP/2.
//
// An Exchange is made by a front codec (proxy/http1, later proxy/http2), validated and routed by the engine, changed or
// answered by filters, sent to a Pod by an upstream codec, and recorded by proxy/observe. It belongs to one goroutine at a
// time: the HTTP/1.1 connection's or the HTTP/2 stream's; it is pooled, so nothing that it hands out may be kept after
// the request has ended.
package exchange

import (
	"io"
	"net/netip"
	"sync"
	"time"

	"podlane.dev/podlane/router"
)

// Version is an HTTP version as major*10+minor.
type Version uint8

// The versions that a client may speak. TLS is that of a connection of which nothing is read but its ClientHello.
const (
	TLS    Version = 1
	HTTP10 Version = 10
	HTTP11 Version = 11
	HTTP2  Version = 20
)

// String returns the version as an access log writes it.
func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP2:
		return "HTTP/2.0"
	case TLS:
		return "TLS"
	}
	return "HTTP/1.1"
}

// Request is what the client asked. The byte slices lie in the codec's buffer.
type Request struct {
	Method  []byte
	Version Version
	// Target is the origin-form request target as sent: raw path and query. "*" for OPTIONS *.
	Target []byte
	// RawPath and RawQuery are the parts of Target before and after the first "?". HasQuery tells "/a?" from "/a".
	RawPath, RawQuery []byte
	HasQuery          bool
	// Path is the canonical path: the only form on which decisions are made. Dots says that the raw path held dot segments, so
	// that the canonical path is forwarded in its place.
	Path []byte
	Dots bool
	// Authority is the Host field (or :authority) as sent; Hostname is the route key: lower-case, without port or trailing dot.
	Authority, Hostname []byte
	Fields              Fields
	// Body is nil where the request has none.
	Body     Body
	Trailers Fields
	// ExpectContinue says that the client waits for 100 before it sends the body.
	ExpectContinue bool
	// Upgrade is the accepted upgrade token as the client spelled it, or empty. Tokens are compared without regard to case.
	Upgrade []byte
	// Close says that the connection ends after this exchange (Connection: close, or HTTP/1.0 without keep-alive).
	Close bool
	// TrailersOK says that the client sent TE: trailers.
	TrailersOK bool

	// User is who the client has proved to be, or says that it is, where a filter has taken that from the fields.
	User []byte
	// Forward, where a filter sets it, is the path that is sent to the Pod in place of the client's.
	Forward []byte

	// Vhost says that a filter has chosen the Host that the Pod gets.
	Vhost bool

	hostBuf, targetBuf []byte // memory for forms that differ from what was sent
}

// SendPath is the path that goes to the Pod: what a filter made of it, else the bytes that the client sent, unless they held
// dot segments: then the canonical path, so that no two parties resolve them differently.
func (r *Request) SendPath() []byte {
	switch {
	case r.Forward != nil:
		return r.Forward
	case r.Dots:
		return r.Path
	}
	return r.RawPath
}

// Response is what the client gets: a Pod's answer or the proxy's own.
type Response struct {
	Status int
	// Reason phrase as the Pod sent it; the codec writes its own where it is empty.
	Reason []byte
	// Version is what the Pod spoke.
	Version  Version
	Fields   Fields
	Body     Body
	Trailers Fields
	// Local says that the proxy made the answer, and Why with which reason of the closed set below.
	Local bool
	Why   Why
	// Anonymous says that the proxy adds no Server field of its own.
	Anonymous bool
}

// Why is the reason of an answer that the proxy made itself. It is a metric's label and in the access log.
type Why string

// The reasons of answers that did not come from a Pod.
const (
	NoReason          Why = ""
	BadRequest        Why = "bad-request"
	NoRoute           Why = "no-route"
	RouteDenied       Why = "route-denied"
	BackendMissing    Why = "backend-missing"
	NoEndpoint        Why = "no-endpoint"
	ConnectFailed     Why = "connect-failed"
	ConnectTimeout    Why = "connect-timeout"
	UpstreamReset     Why = "upstream-reset"
	UpstreamTimeout   Why = "upstream-timeout"
	UpstreamInvalid   Why = "upstream-invalid"
	UpstreamTLS       Why = "upstream-tls"
	UpstreamTruncated Why = "upstream-truncated"
	UpstreamStatus    Why = "upstream-status"
	BodyTooLarge      Why = "body-too-large"
	ClientGone        Why = "client-gone"
	ClientTimeout     Why = "client-timeout"
	Overload          Why = "overload"
	Redirect          Why = "redirect"
	Preflight         Why = "preflight"
	Misdirected       Why = "misdirected"
	ClientCertificate Why = "client-certificate"
	Forbidden         Why = "forbidden"
	Unauthorized      Why = "unauthorized"
	Limited           Why = "limited"
	Filter            Why = "filter"
	Internal          Why = "internal"
)

// Persistence says whether a connection goes on after a response.
type Persistence uint8

// The two kinds of persistence.
const (
	KeepOpen Persistence = iota
	CloseAfter
)

// Client is who sent the request, from the socket and, where the peer is trusted, from the PROXY protocol or forwarded fields.
type Client struct {
	// Peer is the other end of the socket; Addr is the client that is believed.
	Peer netip.AddrPort
	Addr netip.Addr
	// Local is our end of the socket.
	Local netip.AddrPort
	// TLS says that the connection is encrypted; ServerName is its SNI in lower case, TLSVersion and CipherSuite crypto/tls's numbers.
	TLS         bool
	ServerName  string
	TLSVersion  uint16
	CipherSuite uint16
	// Resumed says that the handshake resumed a session.
	Resumed bool
	// Connection is the connection's number, from 1 on since the engine was made, and Requests how many requests came over it, with this one.
	Connection uint64
	Requests   int
	// Credentials are nil where the handshake did not ask for a certificate.
	Credentials Credentials
	// Proto and Port are what the client used: https and 443 behind a trusted proxy that terminated TLS.
	Proto string
	Port  uint16
}

// Upstream records where the request went and how often it was tried, for the log, metrics and explanations.
type Upstream struct {
	Service router.ServicePort
	Addr    netip.AddrPort
	Pod     string
	// Tries counts attempts that reached for an endpoint; 0 where the proxy answered by itself.
	Tries int
	// Retry is why the last retry happened.
	Retry Why
	// Reused says that the answer came over a connection from the pool.
	Reused bool
	// Canary says that the canary was chosen, and CanaryBy what decided that it was, or was not; NoDecider where there is none.
	Canary   bool
	CanaryBy Decider
	// Legs are the tries in their order, where a log or a trace asks for them.
	Legs []Leg
}

// Decider is what decided between an Ingress and its canary.
type Decider string

// The deciders, in the order in which they are asked.
const (
	NoDecider         Decider = ""
	DecidedByAbsence  Decider = "no-endpoint" // of the canary
	DecidedByAffinity Decider = "affinity"
	DecidedByHeader   Decider = "header"
	DecidedByCookie   Decider = "cookie"
	DecidedByWeight   Decider = "weight"
)

// Leg is one try of a request: where it went, and what became of it.
type Leg struct {
	Addr netip.AddrPort
	// Pod is the name of the Pod at Addr, "" where it is not known.
	Pod string
	// Start is when the endpoint was chosen. Connect is how long a connection took, 0 over one from the pool. FirstByte and Whole are from Start to
	// the first byte of the answer and to the end of the try; 0 where not reached.
	Start                     time.Time
	Connect, FirstByte, Whole time.Duration
	// Status is that of the answer, 0 where there was none.
	Status int
	// Version is what the Pod spoke, 0 where it did not.
	Version Version
	// Why is why the try failed, or its answer was not wanted; NoReason for the one whose answer the client got.
	Why Why
	// Reused says that it went over a connection from the pool.
	Reused bool
	// Span is the ID of its span, where the request is traced.
	Span [8]byte
}

// Timing holds instants of the Exchange on the monotonic clock; zero where not reached, and FirstByte also where no access log
// or trace asks for it.
type Timing struct {
	Start, FirstByte, End time.Time
}

// Exchange is one request and its response. See the package comment for ownership.
type Exchange struct {
	Request  Request
	Response Response
	Client   Client
	Route    *router.Route
	Upstream Upstream
	Timing   Timing
	// BytesIn and BytesOut count body bytes from and to the client.
	BytesIn, BytesOut int64
	// RequestID is the value of X-Request-ID: the client's where the peer is trusted, else ours.
	RequestID []byte
	// RequestIDMade says that it is ours.
	RequestIDMade bool

	// Trace is where the request stands in a trace: its SpanID is that of the proxy's own span.
	Trace TraceContext

	// Waiter is whom filters ask that have to wait.
	Waiter Waiter
	// Grant is what an authentication service said of the client, nil where none was asked.
	Grant *Grant

	// Rehearsal is set where nobody sent the request: see Rehearsal.
	Rehearsal *Rehearsal

	// Scratch is memory that a codec or filter may use while the Exchange lasts, by appending to it.
	Scratch []byte

	owned   []io.Closer
	pathBuf []byte
}

var pool = sync.Pool{New: func() any { return new(Exchange) }}

// New returns an empty Exchange from the pool.
func New() *Exchange { return pool.Get().(*Exchange) }

// Release ends and empties x and returns it to the pool. The caller must not use x any more.
func (x *Exchange) Release() {
	x.End()
	x.clear()
	pool.Put(x)
}

// clear empties x but keeps the memory that the next exchange will want again.
func (x *Exchange) clear() {
	q, a := &x.Request, &x.Response
	for _, f := range [...]*Fields{&q.Fields, &q.Trailers, &a.Fields, &a.Trailers} {
		f.release()
	}
	q.Method, q.Target, q.RawPath, q.RawQuery, q.Path = nil, nil, nil, nil, nil
	q.Authority, q.Hostname, q.Upgrade, q.Forward, q.Body = nil, nil, nil, nil, nil
	q.Version, q.HasQuery, q.Dots, q.ExpectContinue, q.Close, q.TrailersOK, q.Vhost = 0, false, false, false, false, false, false
	q.User = keep(q.User)
	q.hostBuf, q.targetBuf, x.pathBuf = keep(q.hostBuf), keep(q.targetBuf), keep(x.pathBuf)
	a.Status, a.Reason, a.Version, a.Body, a.Local, a.Why, a.Anonymous = 0, nil, 0, nil, false, NoReason, false
	legs := x.Upstream.Legs
	clear(legs)
	x.Client, x.Upstream, x.Timing = Client{}, Upstream{}, Timing{}
	x.Upstream.Legs = legs[:0] // of the few that a request may have
	x.Route, x.RequestID, x.RequestIDMade, x.BytesIn, x.BytesOut = nil, nil, false, 0, 0
	x.Waiter, x.Grant, x.Rehearsal, x.Trace = nil, nil, nil, TraceContext{}
	x.Scratch = keep(x.Scratch)
}

// keep empties a buffer, and forgets it where one request made it large.
func keep(b []byte) []byte {
	if cap(b) > maxPooledArena {
		return nil
	}
	return b[:0]
}
