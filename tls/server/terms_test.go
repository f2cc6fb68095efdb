package server_test

import (
	"crypto/tls"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// TestTermsChange: handshakes obey what is said while the process runs, in all that is said and in nothing else, and what Options say holds again.
func TestTermsChange(t *testing.T) {
	var terms atomic.Pointer[server.Terms]
	hosts := tableOf(nil, map[string]demands{"asks.test": {policy: policyOf(router.VerifyOptionalNoCA, trust(nil))}, "own.test": {suites: []uint16{gcm256}}})
	table := func() *router.Table { return hosts }
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{Protocols: []string{"h2", "http/1.1"}, Terms: terms.Load, Table: table})
	h := server.NewHandshaker(server.HandshakerOptions{})
	const cipher = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	for _, tc := range []struct {
		name     string
		terms    *server.Terms
		offer    func(*tls.Config)
		version  uint16 // 0: no handshake
		protocol string
		cipher   uint16
		curve    tls.CurveID
	}{
		{"nothing said", nil, func(*tls.Config) {}, tls.VersionTLS13, "h2", 0, 0},
		{"TLS 1.2 at most", &server.Terms{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}, func(*tls.Config) {}, tls.VersionTLS12, "h2", 0, 0},
		{"TLS 1.3 alone", &server.Terms{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13}, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, 0, "", 0, 0},
		{"one cipher", &server.Terms{CipherSuites: []uint16{cipher}}, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, tls.VersionTLS12, "h2", cipher, 0},
		{"one curve", &server.Terms{Curves: []tls.CurveID{tls.CurveP384}}, func(*tls.Config) {}, tls.VersionTLS13, "h2", 0, tls.CurveP384},
		{"no HTTP/2", &server.Terms{Protocols: []string{"http/1.1"}}, func(*tls.Config) {}, tls.VersionTLS13, "http/1.1", 0, 0},
		{"nothing again", nil, func(*tls.Config) {}, tls.VersionTLS13, "h2", 0, 0},
	} {
		terms.Store(tc.terms)
		for _, name := range []string{"a.test", "asks.test", "own.test"} {
			state, err, _ := connect(t, h, config, client(func(c *tls.Config) {
				c.ServerName, c.NextProtos = name, []string{"h2", "http/1.1"}
				tc.offer(c)
			}))
			switch {
			case tc.version == 0:
				if err == nil {
					t.Errorf("%s: %s: %s is spoken", tc.name, name, tls.VersionName(state.Version))
				}
			case err != nil:
				t.Errorf("%s: %s: %v", tc.name, name, err)
			case state.Version != tc.version, state.NegotiatedProtocol != tc.protocol, tc.cipher != 0 && state.CipherSuite != tc.cipher, tc.curve != 0 && state.CurveID != tc.curve:
				t.Errorf("%s: %s: %s %s %s %v", tc.name, name, tls.VersionName(state.Version), state.NegotiatedProtocol, tls.CipherSuiteName(state.CipherSuite), state.CurveID)
			}
		}
	}
}

// TestTermsAndTickets: who changes what is offered ends no session, who turns tickets off ends all, and keys that are given are shared.
func TestTermsAndTickets(t *testing.T) {
	for _, version := range versions {
		var terms, elsewhere atomic.Pointer[server.Terms]
		store := storeFor(t, certs.Options{})
		here := newConfig(t, store, server.Options{Terms: terms.Load})
		visit := visits(t, version, "a.test", nil)
		for _, step := range []struct {
			terms   *server.Terms
			resumes bool
		}{
			{nil, false},
			{nil, true},
			{&server.Terms{Protocols: []string{"http/1.1"}}, true},
			{nil, true},
			{&server.Terms{Tickets: server.TicketsOff}, false},
		} {
			terms.Store(step.terms)
			if resumed := visit(here); resumed != step.resumes {
				t.Errorf("%s: %+v: resumed: %v, want %v", tls.VersionName(version), step.terms, resumed, step.resumes)
			}
		}
		there := newConfig(t, store, server.Options{Terms: elsewhere.Load, Tickets: server.TicketsOff})
		terms.Store(&server.Terms{TicketKeys: keysOf(t, "a")})
		elsewhere.Store(&server.Terms{TicketKeys: keysOf(t, "a"), TicketsSaid: true})
		visit = visits(t, version, "a.test", nil)
		if visit(here) || !visit(there) {
			t.Errorf("%s: a session does not go on at a replica with the same key", tls.VersionName(version))
		}
	}
}
