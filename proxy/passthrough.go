package proxy

import (
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/preamble"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// maxServerName is the length of the longest host name.
const maxServerName = 253

// passesThrough returns the chain of the host whose TLS ends at its Pods and not here, or nil. The name finds its host as a request's does:
// exact before wildcard, and the host's path "/" decides.
func (l *live) passesThrough(name string) *chain {
	if !l.through || name == "" || len(name) > maxServerName {
		return nil
	}
	var space [maxServerName]byte
	lower := space[:len(name)]
	for i := range lower {
		lower[i] = exchange.Lower(name[i])
	}
	r, ok := l.table.Lookup(text(lower), "/")
	if !ok || !r.Passthrough.On {
		return nil
	}
	return r.Attachment().(*chain)
}

// passThrough joins the client with a Pod of ch, without looking into what they say. The ClientHello, which lies in the codec's buffer, goes
// first. It is counted and logged as one exchange.
func (c *conn) passThrough(ch *chain, generation uint64) {
	e := c.e
	e.active.Add(1)
	defer e.active.Add(-1)
	c.client.TLS, c.client.Proto = true, "https"
	s := c.start(&c.client)
	x := s.x
	x.Route, x.Request.Version, x.Request.Authority = ch.route, exchange.TLS, []byte(c.client.ServerName)
	s.chain, s.generation = ch, generation
	ch.begin()
	// What a panic leaves behind. The client must not be told of it in HTTP.
	x.Response.Status, x.Response.Why = failInternal.status, failInternal.why
	defer func() {
		if pod := c.pod.Load(); pod != nil {
			s.lose(pod, failClient)
		}
		s.record()
		x.Release()
		s.x = nil
	}()
	f := s.join()
	x.Response.Status, x.Response.Why = f.status, f.why
}

// passed is the status of a connection that was passed through: there is no other that only counts it.
const passed = 200

// join finds a Pod and tunnels to it until either side ends.
func (s *session) join() *failure {
	c := s.c
	if s.e.memory.now() == refusing {
		return failMemory
	}
	if s.chain.route.Denied != "" {
		return &failure{status: 503, why: exchange.RouteDenied}
	}
	l := s.pick()
	if l == nil || l.backend.Unavailable != router.Available {
		return failMissing
	}
	s.x.Upstream.Service = l.backend.Service
	pod, f := s.dialThrough(l)
	if pod == nil {
		return f
	}
	c.pod.Store(pod)
	if c.aborted.Load() { // it may not have seen pod
		return failClient
	}
	if v := s.chain.route.Passthrough.ProxyHeader; v != 0 {
		// It is the first on a fresh connection, whose buffer in the kernel has room for it.
		h := preamble.Header{Source: s.x.Client.Peer, Destination: s.x.Client.Local}
		if _, err := pod.tunnel().Write(preamble.AppendHeader(nil, preamble.Version(v), h)); err != nil {
			return failReset
		}
	}
	pod.uncount()
	c.enter(tunneling, s.chain.limits.quiet)
	s.pump(pod)
	c.enter(working, 0)
	return &failure{status: passed}
}

// dialThrough connects to an Endpoint of l: endpoints that cannot be connected to are passed over, as for requests.
func (s *session) dialThrough(l *lane) (*pod, *failure) {
	u := &s.x.Upstream
	// What passes through is not ours to encrypt: the connection is a plain one, whatever the Backend speaks.
	a := attempts{last: failNoEndpoint, profile: new(upstream.Profile)}
	for !a.all() {
		ep := l.view.Next(s.x, &a.tried)
		switch {
		case ep == nil:
			return nil, a.last
		case s.c.aborted.Load():
			return nil, failClient
		}
		u.Tries++
		leg, err := s.reconnect(ep, a.profile)
		if err == nil {
			u.Addr, u.Pod = ep.AddrPort(), ep.Pod()
			return leg, nil
		}
		a.unconnected(ep, err, s.x)
	}
	return nil, a.last
}
