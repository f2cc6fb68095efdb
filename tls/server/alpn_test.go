package server_test

import (
	"crypto/tls"
	"testing"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// TestNoHTTP2OverSuitesThatForbidIt: HTTP/2 is spoken over TLS 1.3, and over TLS 1.2 with the suites that RFC 9113 leaves it (section 9.2.2 and appendix
// A). Where the two sides have others alone the client is served over HTTP/1.1, whoever chose the suites: the listener, the operator or the host,
// with or without certificates of clients.
func TestNoHTTP2OverSuitesThatForbidIt(t *testing.T) {
	const (
		rsaGCM = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
		rsaCBC = tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA
		rsaKex = tls.TLS_RSA_WITH_AES_128_GCM_SHA256
	)
	asking := policyOf(router.VerifyOptional, trust(nil, issue(t, nil, "clients", authority)))
	var table *router.Table
	live := func() *router.Table { return table }
	terms := &server.Terms{CipherSuites: []uint16{cbc128}}
	both := []string{"h2", "http/1.1"}
	store := storeFor(t, certs.Options{})
	usual := newConfig(t, store, server.Options{Table: live, Protocols: both})
	changed := newConfig(t, store, server.Options{Table: live, Protocols: both, Terms: func() *server.Terms { return terms }})
	legacy := newConfig(t, store, server.Options{Table: live, Protocols: both, MinVersion: tls.VersionTLS10, CipherSuites: nil})
	h := server.NewHandshaker(server.HandshakerOptions{})
	for _, c := range []struct {
		name    string
		host    demands
		config  *tls.Config
		version uint16 // the client's highest
		suites  []uint16
		want    string
	}{
		{"TLS 1.3 needs no suites of TLS 1.2", demands{suites: []uint16{cbc128}}, usual, tls.VersionTLS13, nil, "h2"},
		{"the host has CBC alone", demands{suites: []uint16{cbc128}}, usual, tls.VersionTLS12, nil, "http/1.1"},
		{"and asks for certificates", demands{asking, []uint16{cbc128}}, usual, tls.VersionTLS12, nil, "http/1.1"},
		{"the client has more than CBC", demands{suites: []uint16{cbc128, gcm128}}, usual, tls.VersionTLS12, nil, "h2"},
		{"the client has CBC alone", demands{suites: []uint16{cbc128, gcm128}}, usual, tls.VersionTLS12, []uint16{cbc128}, "http/1.1"},
		{"what is good is for the other kind of key", demands{suites: []uint16{cbc128, rsaGCM}}, usual, tls.VersionTLS12, []uint16{cbc128}, "http/1.1"},
		{"RSA", demands{suites: []uint16{rsaCBC, rsaKex, rsaGCM}}, usual, tls.VersionTLS12, []uint16{rsaCBC, rsaGCM}, "h2"},
		{"RSA with CBC", demands{suites: []uint16{rsaCBC, rsaKex, rsaGCM}}, usual, tls.VersionTLS12, []uint16{rsaCBC}, "http/1.1"},
		{"RSA's key exchange", demands{suites: []uint16{rsaKex}}, usual, tls.VersionTLS12, []uint16{rsaKex}, "http/1.1"},
		{"the usual suites", demands{}, usual, tls.VersionTLS12, nil, "h2"},
		{"the operator has CBC alone", demands{}, changed, tls.VersionTLS12, nil, "http/1.1"},
		{"the operator has CBC alone, TLS 1.3", demands{}, changed, tls.VersionTLS13, nil, "h2"},
		{"old versions, a client of today", demands{}, legacy, tls.VersionTLS12, nil, "h2"},
		{"old versions, a client with CBC alone", demands{}, legacy, tls.VersionTLS12, []uint16{cbc128}, "http/1.1"},
		{"TLS 1.1", demands{}, legacy, tls.VersionTLS11, nil, "http/1.1"},
	} {
		table = tableOf(nil, map[string]demands{"a.test": c.host})
		theirs := client(func(o *tls.Config) {
			o.MinVersion, o.MaxVersion, o.CipherSuites, o.NextProtos = tls.VersionTLS10, c.version, c.suites, both
		})
		state, err, theirErr := connect(t, h, c.config, theirs)
		if err != nil || theirErr != nil || state.Version != c.version || state.NegotiatedProtocol != c.want {
			t.Errorf("%s: %v, %v: %s, %s, %q, want %q", c.name, err, theirErr,
				tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol, c.want)
		}
	}
	table = tableOf(nil, map[string]demands{"a.test": {suites: []uint16{cbc128}}})
	theirs := client(func(o *tls.Config) { o.MaxVersion, o.NextProtos = tls.VersionTLS12, []string{"h2"} })
	if _, err, _ := connect(t, h, usual, theirs); err == nil {
		t.Error("a client that speaks HTTP/2 alone gets it over CBC")
	}
}
