// Package server owns how Podlane speaks TLS to clients: the versions, cipher suites, curves and protocols that it
// offers, read from ingress-nginx's words, and the handshake with its limits in number and time. It takes certificates
// from tls/certs, listens nowhere, and reads no byte of HTTP.
package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
)

// Tickets says whether clients may resume sessions with tickets.
type Tickets uint8

const (
	// TicketsOn lets clients resume, with keys that replicas share (see Options), else random ones of this process, which crypto/tls rotates daily.
	TicketsOn Tickets = iota
	// TicketsOff makes every handshake a full one (ingress-nginx: ssl-session-tickets "false").
	TicketsOff
)

// Options are the TLS settings of the HTTPS listeners. The zero value is TLS 1.2 and 1.3 with forward-secret, authenticated
// ciphers, HTTP/1.1 and session tickets.
type Options struct {
	// MinVersion and MaxVersion are crypto/tls's numbers. 0 is tls.VersionTLS12 and tls.VersionTLS13.
	MinVersion, MaxVersion uint16
	// CipherSuites are those of TLS 1.2 and below; their order does not count, because crypto/tls prefers by what the two
	// processors do fast. nil is DefaultCipherSuites, or all that crypto/tls holds secure where MinVersion is below TLS 1.2.
	// The suites of TLS 1.3 are always offered.
	CipherSuites []uint16
	// Curves are the key exchanges. nil is crypto/tls's choice, hybrid post-quantum ones first.
	Curves []tls.CurveID
	// Protocols are what ALPN offers, best first. nil is http/1.1 alone.
	Protocols []string
	Tickets   Tickets
	// TicketKeys are the keys of session tickets until the Table has any. nil makes random ones.
	TicketKeys *router.TicketKeys
	// Table returns the live Table, whose hosts may ask their clients for certificates, and which may have keys of session tickets. It is called
	// by every handshake. nil stands for an empty Table.
	Table func() *router.Table
	// Terms returns what the operator says over this, nil for nothing. It is called by every handshake. nil stands for nothing, ever.
	Terms func() *Terms
}

// DefaultCipherSuites returns the suites that are offered to TLS 1.2 clients by default: ephemeral key exchange and
// authenticated encryption, which is ingress-nginx's default list too.
func DefaultCipherSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// NewConfig returns the tls.Config of listeners that serve store's certificates under o. It is made once and shared by all
// connections: session tickets work only within one. Handshakes see what store and o.Table hold when their ClientHello is complete. Clients of
// hosts that ask for a certificate must be served by a Handshaker: it keeps what they show, see CredentialsOf.
func NewConfig(store *certs.Store, o Options) (*tls.Config, error) {
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS12
	}
	if o.MaxVersion == 0 {
		o.MaxVersion = tls.VersionTLS13
	}
	if o.Protocols == nil {
		o.Protocols = []string{"http/1.1"}
	}
	if o.CipherSuites == nil && o.MinVersion >= tls.VersionTLS12 {
		o.CipherSuites = DefaultCipherSuites()
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion:             o.MinVersion,
		MaxVersion:             o.MaxVersion,
		CipherSuites:           slices.Clone(o.CipherSuites),
		CurvePreferences:       slices.Clone(o.Curves),
		NextProtos:             slices.Clone(o.Protocols),
		SessionTicketsDisabled: o.Tickets == TicketsOff,
		GetCertificate:         certificateFrom(store),
	}
	config.GetConfigForClient = newChooser(config, store, &o).configFor
	return config, nil
}

// check returns what in o cannot work. A list that was given and is empty must not turn into a default.
func (o *Options) check() error {
	switch {
	case o.MinVersion > o.MaxVersion:
		return fmt.Errorf("lowest TLS version %s is above highest %s", tls.VersionName(o.MinVersion), tls.VersionName(o.MaxVersion))
	case o.MinVersion < tls.VersionTLS10 || o.MaxVersion > tls.VersionTLS13:
		return fmt.Errorf("unsupported TLS versions %s to %s", tls.VersionName(o.MinVersion), tls.VersionName(o.MaxVersion))
	case o.CipherSuites != nil && len(o.CipherSuites) == 0:
		return errors.New("no cipher suite")
	case o.Curves != nil && len(o.Curves) == 0:
		return errors.New("no curve")
	}
	return nil
}

// certificateFrom adapts store to tls.Config.GetCertificate: for a refused name it returns no certificate and no error,
// which crypto/tls answers with the alert unrecognized_name (RFC 6066 section 3) and not with internal_error.
func certificateFrom(store *certs.Store) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := store.GetCertificate(hello)
		if errors.Is(err, certs.ErrUnknownName) {
			if n, ok := hello.Context().Value(notesKey{}).(*notes); ok {
				n.unknownName = true
			}
			return nil, nil
		}
		return pair, err
	}
}
