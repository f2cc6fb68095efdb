package proxy

import (
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/proxy/http2"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// pod is the Pod's leg of one exchange, as side and wire are the client's: a codec, and what carries it. The leg of HTTP/1.1 is a connection and is
// kept with it; that of HTTP/2 is a stream.
type pod struct {
	podSide
	podWire
	ep *upstream.Endpoint
	// reused says that the connection has carried a request before.
	reused bool
}

// podSide is the Pod's side of one exchange: an http1.Client, or an http2.ClientStream. See http1.Client for what the methods do.
type podSide interface {
	OnProgress(f func())
	StartRequest(*exchange.Exchange)
	Write([]byte) error
	Flush() error
	Finish() error
	Takes(n int64) bool
	Begun() bool
	Started() bool
	ReadResponse(*exchange.Exchange) error
	Ready() bool
}

// podWire is what carries a podSide. Interrupts and abort may come from any goroutine, also when the exchange has just ended.
type podWire interface {
	// interruptRead and interruptWrite end a wait of the side's reads or writes, and later ones.
	interruptRead()
	interruptWrite()
	// abort ends the exchange whatever it does.
	abort()
	// uncount takes the exchange out of the counts of those in flight, before its end.
	uncount()
	// end ends the exchange after its answer was passed on.
	end(ending)
	// lose ends an exchange that went wrong.
	lose()
	// refused reports whether err says that the Pod has certainly not processed the request.
	refused(err error) bool
	// limitHead bounds the head of the answer where the codec has no bound for its connection; 0 is the usual one.
	limitHead(size int)
	// tunnel returns the Pod's end of a tunnel, or nil where there can be none.
	tunnel() tunnelEnd
}

// ending is how an exchange with a Pod has ended.
type ending uint8

const (
	cutShort ending = iota // not as it should
	complete               // the answer was passed on to its end
	reusable               // and the connection may carry another exchange
)

// podConn is the podWire of a connection of HTTP/1.1, which is kept while the connection is pooled.
type podConn struct {
	*upstream.Conn
	codec *http1.Client
}

// newPodConn returns the leg of a fresh connection.
func newPodConn(uc *upstream.Conn, limits http1.Limits) *pod {
	p := &podConn{uc, http1.NewClient(uc.Conn, limits)}
	leg := &pod{podSide: p.codec, podWire: p, ep: uc.Endpoint()}
	uc.Codec = leg
	return leg
}

func (p *podConn) interruptRead()         { _ = p.SetReadDeadline(past) }
func (p *podConn) interruptWrite()        { _ = p.SetWriteDeadline(past) }
func (p *podConn) abort()                 { p.Cut() }
func (p *podConn) uncount()               { p.Uncount() }
func (p *podConn) refused(err error) bool { return false }
func (p *podConn) limitHead(size int)     { p.codec.LimitHead(size) }

func (p *podConn) tunnel() tunnelEnd {
	p.codec.Discard()
	return socketEnd{p.Conn.Conn, p.codec}
}

func (p *podConn) end(how ending) {
	if p.codec.Finished() && how == reusable {
		p.Put()
		return
	}
	whole := how != cutShort && p.codec.Complete()
	p.codec.Close()
	if whole {
		p.Retire()
		return
	}
	p.Discard()
}

func (p *podConn) lose() {
	p.codec.Close()
	p.Discard()
}

// isInvalid reports whether err is a violation of HTTP by a Pod.
func isInvalid(err error) bool { return http1.IsInvalid(err) || http2.IsInvalid(err) }

// speech is what is spoken with the Pods of one Backend, resolved at Publish.
type speech struct {
	plain, secure upstream.Profile
	scheme        router.PodScheme
}

func speechOf(b *router.Backend) speech {
	s := speech{scheme: b.Scheme}
	if b.Scheme.Protocol() == router.PodHTTP2 {
		s.plain.Protocol = upstream.HTTP2
	}
	s.secure = s.plain
	s.secure.TLS, s.secure.ServerName = b.TLS, b.ServerName()
	return s
}

// profile returns how the request of x is sent.
func (s *speech) profile(x *exchange.Exchange) *upstream.Profile {
	if s.scheme.Encrypted() && (s.scheme != router.PodLikeClient || x.Client.TLS) {
		return &s.secure
	}
	return &s.plain
}

// connect returns a leg to ep: over a connection from its pool, or a fresh one.
func (s *session) connect(ep *upstream.Endpoint, p *upstream.Profile) (*pod, error) {
	if p.Protocol == upstream.HTTP2 {
		return s.openStream(ep, p, 0)
	}
	uc, err := ep.Acquire(*p)
	if err != nil {
		return nil, err
	}
	if uc != nil {
		leg := uc.Codec.(*pod)
		leg.reused = true
		return leg, nil
	}
	return s.dial(ep, p)
}

// reconnect returns a leg to ep over a connection that is younger than now.
func (s *session) reconnect(ep *upstream.Endpoint, p *upstream.Profile) (*pod, error) {
	if p.Protocol == upstream.HTTP2 {
		return s.openStream(ep, p, ep.Now())
	}
	if err := ep.Reserve(); err != nil {
		return nil, err
	}
	return s.dial(ep, p)
}

func (s *session) dial(ep *upstream.Endpoint, p *upstream.Profile) (*pod, error) {
	var deadline time.Time
	start := time.Now()
	if limit := s.chain.limits.connect; limit > 0 {
		deadline = start.Add(limit)
	}
	uc, err := ep.Dial(deadline, *p)
	s.connects += time.Since(start)
	if err != nil {
		return nil, err
	}
	return newPodConn(uc, s.e.limits), nil
}
