package server

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/router"
)

// Credentials are what a client showed of itself in a handshake in which it was asked for a certificate. They live as long as the connection,
// and are safe for concurrent use.
type Credentials struct {
	policy          *router.TLSPolicy
	shown           []*x509.Certificate
	subject, issuer string
	judged          atomic.Pointer[judgement] // nil until the handshake knows what the client shows
}

// A judgement is a verdict, under which policy, and until when it stands.
type judgement struct {
	policy  *router.TLSPolicy
	verdict router.Verdict
	until   time.Time
}

// CredentialsOf returns the Credentials of a connection whose handshake a Handshaker has completed, or nil where its client was not asked for any.
func CredentialsOf(c *tls.Conn) *Credentials {
	if pausing, ok := c.NetConn().(*pausingConn); ok {
		return pausing.shown
	}
	return nil
}

// Policy returns what the handshake was made under.
func (c *Credentials) Policy() *router.TLSPolicy { return c.policy }

// Certificate returns the client's own certificate, or nil where it showed none.
func (c *Credentials) Certificate() *x509.Certificate {
	if len(c.shown) == 0 {
		return nil
	}
	return c.shown[0]
}

// Names returns the distinguished names of the certificate's subject and issuer as text (RFC 2253); both are empty without one.
func (c *Credentials) Names() (subject, issuer string) { return c.subject, c.issuer }

// Judge returns how the client stands under p at now. What the handshake found stands as long as nothing of it can have changed, so a request
// costs nothing; a certificate that expires while its connection is open, or is revoked by a newer list, does not stand any longer.
func (c *Credentials) Judge(p *router.TLSPolicy, now time.Time) router.Verdict {
	if j := c.judged.Load(); j != nil && j.policy.Same(p) && now.Before(j.until) {
		return j.verdict
	}
	j := &judgement{policy: p}
	j.verdict, j.until = verifierOf(p.Authority).judge(c.shown, p.Depth, now)
	c.judged.Store(j)
	return j.verdict
}

// settle takes what the client has shown, once: the handshake asks more than once, and the last time tells nothing new.
func (c *Credentials) settle(shown []*x509.Certificate) {
	if c.judged.Load() != nil {
		return
	}
	if c.shown = shown; len(shown) > 0 {
		c.subject = distinguishedName(shown[0].RawSubject, shown[0].Subject)
		c.issuer = distinguishedName(shown[0].RawIssuer, shown[0].Issuer)
	}
	c.Judge(c.policy, time.Now())
}

// admitted says whether the host of the handshake lets the client in.
func (c *Credentials) admitted() bool { return c.policy.Verify.Admits(c.judged.Load().verdict.Outcome) }
