package proxy

import (
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
)

// A direction says whether a request came over a connection that may carry it. What a host asks of its clients it can ask in the handshake only, and
// the handshake knows no more of the host than the server name. Browsers send requests to all hosts of a certificate over one connection
// (RFC 9113 section 9.1.1), and attackers to any (domain fronting), so both are compared for each request.
type direction uint8

const (
	// right: the host asks for nothing else than the handshake did.
	right direction = iota
	// elsewhere: the host asks for something else than that of the server name, or does not offer the cipher that is spoken, so the connection is the
	// wrong one.
	elsewhere
	// outdated: it is the right host, but what it asks for has changed since the handshake, and what the client showed then does not do any more; or
	// its TLS passes through to its Pods (now, if the handshake was for this very name), so that neither end has met the other's certificate.
	outdated
)

// direction compares what the host of x asks for with what the handshake asked. Where neither asks for anything, it looks at three pointers.
// Requests in clear showed nothing and may go anywhere: it is the chain's to refuse them.
func (l *live) direction(x *exchange.Exchange) direction {
	c, t := &x.Client, l.table
	if !c.TLS {
		return right
	}
	if l.passesThrough(text(x.Request.Hostname)) != nil {
		return outdated
	}
	wanted, suites := wantedOf(x, t)
	if !suites.Admits(c.TLSVersion, c.CipherSuite) && l.others(c.ServerName, suites) {
		return elsewhere
	}
	if wanted == nil && c.Credentials == nil {
		return right
	}
	if !wanted.Same(t.TLSPolicy(c.ServerName)) {
		return elsewhere
	}
	switch {
	case wanted == nil, c.Credentials != nil && c.Credentials.Policy().Same(wanted):
		return right
	case c.Credentials == nil, !wanted.Verify.Admits(c.Verdict(wanted, x.Timing.Start).Outcome):
		return outdated
	}
	return right
}

// others says whether the host of a server name offers other ciphers than suites. Where it offers the same, the connection is older than these are,
// and is as good as it was: handshakes that begin later obey.
func (l *live) others(serverName string, suites *router.TLSCiphers) bool {
	_, offered := l.table.TLS(serverName)
	return !suites.Same(offered)
}

// wantedOf returns what the host of x asks for, and which ciphers it offers. Routes know it; where only the catch-all answers, or nobody, the host is
// looked up.
func wantedOf(x *exchange.Exchange, t *router.Table) (*router.TLSPolicy, *router.TLSCiphers) {
	if x.Route != nil && x.Route != t.CatchAll() {
		return x.Route.TLS, x.Route.Ciphers
	}
	return t.TLS(text(x.Request.Hostname))
}

// misdirected answers 421 (RFC 9110 section 15.5.20): the client may ask again over a connection of its own. One that is outdated carries nothing
// more, or the client would ask again over this one.
func (s *session) misdirected() bool {
	s.chain = s.e.fallback
	s.begin()
	if s.direction == outdated {
		s.leave()
	}
	s.answer(421, exchange.Misdirected, "this connection is not for this host: use another one\n")
	s.write()
	return s.finish()
}

// leave ends the connection after this answer, so that the client makes another one: an HTTP/2 connection serves the streams that it has.
func (s *session) leave() {
	s.close = true
	s.c.wire.leave()
}
