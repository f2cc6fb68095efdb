package exchange

import (
	"crypto/x509"
	"time"

	"podlane.dev/podlane/router"
)

// Credentials are what a client showed of itself in a TLS handshake that asked it for a certificate. They belong to the connection, live as long,
// and are used by all of its exchanges at a time. tls/server makes them.
type Credentials interface {
	// Policy is what the handshake was made under; it is not nil.
	Policy() *router.TLSPolicy
	// Judge returns how the client stands under p at now. It costs nothing where that is known.
	Judge(p *router.TLSPolicy, now time.Time) router.Verdict
	// Certificate is the client's own, nil where it showed none; Names are the distinguished names of its subject and issuer (RFC 2253).
	Certificate() *x509.Certificate
	Names() (subject, issuer string)
}

// Verdict returns how the client stands under p, the policy of its request's route, whatever its handshake was made under.
func (c *Client) Verdict(p *router.TLSPolicy, now time.Time) router.Verdict {
	if c.Credentials == nil {
		return router.Verdict{}
	}
	return c.Credentials.Judge(p, now)
}
