package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
)

// A chooser decides, when a ClientHello is complete, what its handshake goes on with. A host that asks for certificates, or offers ciphers of its own,
// has a tls.Config of its own, which is made once for each policy and choice of ciphers. What the client shows is judged, but the handshake completes whatever the verdict: the answer is
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
	plainTickets   = "podlane session tickets"
	policyTickets  = "podlane session tickets of policy %x"
	ciphersTickets = "podlane session tickets of ciphers %x"
	bothTickets    = "podlane session tickets of policy %x and ciphers %x"
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
	c = c.under()
	config, err := c.choose(hello)
	switch {
	case err != nil:
		return nil, err
	case config != nil:
		return withoutHTTP2(config, hello), nil
	}
	if other := withoutHTTP2(c.plain.Config, hello); other != c.plain.Config {
		return other, nil
	}
	return nil, nil //nolint:nilnil // as choose
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
	p, suites := table.TLS(name)
	switch {
	case p == nil && suites != nil:
		s := c.suitedTo(suites)
		return s.Config, s.follow(keys)
	case p == nil && c.obeys != nil:
		return c.plain.Config, nil
	case p == nil:
		return nil, nil //nolint:nilnil // crypto/tls: go on with the listener's own
	}
	a := c.askerOf(p, suites)
	if err := a.follow(keys); err != nil {
		return nil, err
	}
	credentials := &Credentials{policy: p}
	if n, ok := hello.Context().Value(notesKey{}).(*notes); ok {
		n.shown = credentials
	}
	return a.configFor(credentials), nil
}

// A suited is what the handshakes of hosts need that offer ciphers of their own, and ask for nothing.
type suited struct {
	keyedConfig
	of *chooser
}

// suitedTo returns the suited of a choice of ciphers, which hangs from it.
func (c *chooser) suitedTo(suites *router.TLSCiphers) *suited {
	if s, ok := suites.Attachment().(*suited); ok && s.of == c {
		return s
	}
	s := &suited{of: c, keyedConfig: keyedConfig{Config: c.plain.Clone(), purpose: fmt.Sprintf(ciphersTickets, suites.ID())}}
	s.GetConfigForClient = nil
	s.CipherSuites = slices.Clone(suites.Suites)
	suites.Attach(s) // two at a time make two that are alike
	return s
}

// An asker is what the handshakes of one policy need.
type asker struct {
	keyedConfig
	of *chooser
	// suites are the ciphers that it offers, nil for those of all hosts.
	suites *router.TLSCiphers
}

// askers hang from a policy: the hosts that have it may offer different ciphers. The latest is the first, and there are at most maxAskers; one that is
// made again is as it was, so more than that would only cost time.
type askers []*asker

const maxAskers = 8

// askerOf returns the asker of a policy where the host offers suites, which may be nil.
func (c *chooser) askerOf(p *router.TLSPolicy, suites *router.TLSCiphers) *asker {
	known, _ := p.Attachment().(askers)
	for _, a := range known {
		if a.of == c && a.suites.Same(suites) {
			return a
		}
	}
	a := &asker{of: c, suites: suites, keyedConfig: keyedConfig{Config: c.plain.Clone(), purpose: fmt.Sprintf(policyTickets, p.ID())}}
	if suites != nil {
		a.CipherSuites = slices.Clone(suites.Suites)
		a.purpose = fmt.Sprintf(bothTickets, p.ID(), suites.ID())
	}
	a.GetConfigForClient = nil
	a.ClientAuth = tls.RequestClientCert
	a.VerifyPeerCertificate = boundCertificates
	if p.Verify != router.VerifyOptionalNoCA {
		// The client is told whose certificates are of use. Where those of others are welcome, nobody is named.
		a.ClientCAs = verifierOf(p.Authority).named
	}
	known = append(askers{a}, known[:min(len(known), maxAskers-1)]...)
	p.Attach(known) // two at a time make two that are alike
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
