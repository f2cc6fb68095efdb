package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
)

// A chooser decides, when a ClientHello is complete, what its handshake goes on with. A host that asks for certificates has a tls.Config of its
// own, which is made once for each policy. What the client shows is judged, but the handshake completes whatever the verdict: the answer is
// HTTP's, where the client can read it.
type chooser struct {
	store *certs.Store
	table func() *router.Table
	// plain is for hosts that ask for nothing, strange for names that are refused.
	plain   *keyedConfig
	strange *tls.Config
	keys    *keyring
	changes
}

// The purposes of ticket keys.
const (
	plainTickets  = "podlane session tickets"
	policyTickets = "podlane session tickets of policy %x"
)

// newChooser returns the chooser of base, for tls.Config.GetConfigForClient.
func newChooser(base *tls.Config, store *certs.Store, o *Options) *chooser {
	c := &chooser{
		store: store, table: o.Table, plain: &keyedConfig{Config: base, purpose: plainTickets},
		strange: base.Clone(), keys: &keyring{given: o.TicketKeys}, changes: changes{terms: o.Terms},
	}
	if c.table == nil {
		none := new(router.Table)
		c.table = func() *router.Table { return none }
	}
	// A session that is resumed needs no certificate, so nobody would ask whether there is one for its name.
	c.strange.SessionTicketsDisabled = true
	return c
}

// configFor is for tls.Config.GetConfigForClient; nil stands for the plain one.
func (c *chooser) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	return c.under().choose(hello)
}

// choose is configFor for the terms that c obeys.
func (c *chooser) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	table, now := c.table(), time.Now()
	keys := c.keys.current(c.sharedKeys(table), now)
	if keys.from != nil {
		// Without shared keys the plain Config has those that crypto/tls makes.
		if err := c.plain.follow(keys); err != nil {
			return nil, err
		}
	}
	name := strings.ToLower(hello.ServerName)
	if c.store.Refuses(name) {
		return c.strange, nil
	}
	p := table.TLSPolicy(name)
	switch {
	case p == nil && c.obeys != nil:
		return c.plain.Config, nil
	case p == nil:
		return nil, nil //nolint:nilnil // crypto/tls: go on with the listener's own
	}
	a := c.askerOf(p)
	if err := a.follow(keys); err != nil {
		return nil, err
	}
	credentials := &Credentials{policy: p}
	if n, ok := hello.Context().Value(notesKey{}).(*notes); ok {
		n.shown = credentials
	}
	return a.configFor(credentials), nil
}

// An asker is what the handshakes of one policy need.
type asker struct {
	keyedConfig
	of *chooser
}

// askerOf returns the asker of a policy, which hangs from it.
func (c *chooser) askerOf(p *router.TLSPolicy) *asker {
	if a, ok := p.Attachment().(*asker); ok && a.of == c {
		return a
	}
	a := &asker{of: c, keyedConfig: keyedConfig{Config: c.plain.Clone(), purpose: fmt.Sprintf(policyTickets, p.ID())}}
	a.GetConfigForClient = nil
	a.ClientAuth = tls.RequestClientCert
	a.VerifyPeerCertificate = boundCertificates
	if p.Verify != router.VerifyOptionalNoCA {
		// The client is told whose certificates are of use. Where those of others are welcome, nobody is named.
		a.ClientCAs = verifierOf(p.Authority).named
	}
	p.Attach(a) // two at a time make two that are alike
	return a
}

// configFor returns the Config of one handshake: a copy, because the ticket at its end depends on what the client has shown.
func (a *asker) configFor(credentials *Credentials) *tls.Config {
	config := a.Clone()
	config.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		credentials.settle(state.PeerCertificates)
		if !credentials.admitted() {
			// Who is not let in must be able to come back with another certificate: a session would bring back this one.
			return []byte(uselessTicket), nil
		}
		return config.EncryptTicket(state, session)
	}
	return config
}

// uselessTicket is one that nobody can decrypt. There is no way to send none.
const uselessTicket = "\x00"

// maxShown bounds what a client may show: crypto/tls takes 256 KiB, and keeps it as long as the connection.
const maxShown = 32 << 10

var errShownTooMuch = errors.New("the client's certificates are too large")

func boundCertificates(shown [][]byte, _ [][]*x509.Certificate) error {
	size := 0
	for _, der := range shown {
		size += len(der)
	}
	if size > maxShown {
		return errShownTooMuch
	}
	return nil
}
