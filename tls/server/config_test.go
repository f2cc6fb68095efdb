package server_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

func TestNegotiation(t *testing.T) {
	type state = tls.ConnectionState
	version := func(low, high uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MinVersion, c.MaxVersion = low, high }
	}
	suite12 := func(ids ...uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, ids }
	}
	offer := func(protocols ...string) func(*tls.Config) {
		return func(c *tls.Config) { c.NextProtos = protocols }
	}
	for _, c := range []struct {
		story  string
		server server.Options
		client func(*tls.Config)
		want   func(state) bool // nil: the handshake fails
	}{
		{"1.3 by default", server.Options{}, nil, func(s state) bool { return s.Version == tls.VersionTLS13 }},
		{"1.2 by default", server.Options{}, version(0, tls.VersionTLS12), func(s state) bool { return s.Version == tls.VersionTLS12 }},
		{"not 1.1", server.Options{}, version(tls.VersionTLS10, tls.VersionTLS11), nil},
		{"1.1 where asked for", server.Options{MinVersion: tls.VersionTLS11}, version(tls.VersionTLS10, tls.VersionTLS11),
			func(s state) bool { return s.Version == tls.VersionTLS11 }},
		{"1.3 only", server.Options{MinVersion: tls.VersionTLS13}, version(0, tls.VersionTLS12), nil},
		{"1.2 only", server.Options{MaxVersion: tls.VersionTLS12}, nil, func(s state) bool { return s.Version == tls.VersionTLS12 }},
		{"AEAD", server.Options{}, suite12(tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
			func(s state) bool { return s.CipherSuite == tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 }},
		{"no CBC by default", server.Options{}, suite12(tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA), nil},
		{"no RSA key exchange by default", server.Options{}, suite12(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), nil},
		{"CBC where asked for", server.Options{CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}, suite12(tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA),
			func(s state) bool { return s.CipherSuite == tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA }},
		{"http/1.1", server.Options{}, offer("h2", "http/1.1"), func(s state) bool { return s.NegotiatedProtocol == "http/1.1" }},
		{"h2 where asked for", server.Options{Protocols: []string{"h2", "http/1.1"}}, offer("http/1.1", "h2"), func(s state) bool { return s.NegotiatedProtocol == "h2" }},
		{"no common protocol", server.Options{}, offer("h2"), nil},
		{"no ALPN at all", server.Options{}, offer(), func(s state) bool { return s.NegotiatedProtocol == "" }},
		{"post-quantum by default", server.Options{}, nil, func(s state) bool { return s.CurveID == tls.X25519MLKEM768 }},
		{"a curve", server.Options{Curves: []tls.CurveID{tls.CurveP384}}, nil, func(s state) bool { return s.CurveID == tls.CurveP384 }},
		{"no common curve", server.Options{Curves: []tls.CurveID{tls.CurveP384}}, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, nil},
	} {
		t.Run(c.story, func(t *testing.T) {
			config := newConfig(t, storeFor(t, certs.Options{}), c.server)
			state, serverErr, clientErr := connect(t, server.NewHandshaker(server.HandshakerOptions{}), config, client(c.client))
			if c.want == nil {
				var failed *server.HandshakeError
				if !errors.As(serverErr, &failed) || failed.Reason != server.Protocol || clientErr == nil {
					t.Errorf("server: %v, client: %v, want a protocol failure", serverErr, clientErr)
				}
				return
			}
			if serverErr != nil || clientErr != nil {
				t.Fatalf("server: %v, client: %v", serverErr, clientErr)
			}
			if !c.want(state) {
				t.Errorf("negotiated %s %s %v %q", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.CurveID, state.NegotiatedProtocol)
			}
		})
	}
}

func TestImpossibleOptions(t *testing.T) {
	store := storeFor(t, certs.Options{})
	for story, o := range map[string]server.Options{
		"lowest above highest":  {MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12},
		"default above highest": {MaxVersion: tls.VersionTLS11},
		"SSLv3":                 {MinVersion: 0x0300},
		"TLS 1.4":               {MaxVersion: 0x0305},
		"no suites":             {CipherSuites: []uint16{}},
		"no curves":             {Curves: []tls.CurveID{}},
	} {
		if _, err := server.NewConfig(store, o); err == nil {
			t.Errorf("%s: accepted", story)
		}
	}
}

func TestUnknownNameAlert(t *testing.T) {
	config := newConfig(t, storeFor(t, certs.Options{RejectUnknown: true}), server.Options{})
	h := server.NewHandshaker(server.HandshakerOptions{})
	for _, name := range []string{"b.test", ""} {
		_, serverErr, clientErr := connect(t, h, config, client(func(c *tls.Config) { c.ServerName = name }))
		var failed *server.HandshakeError
		if !errors.As(serverErr, &failed) || failed.Reason != server.UnknownName {
			t.Errorf("%q: server says %v, want %s", name, serverErr, server.UnknownName)
		}
		if clientErr == nil || !strings.Contains(clientErr.Error(), "unrecognized name") {
			t.Errorf("%q: client says %v, want the alert unrecognized_name", name, clientErr)
		}
	}
	if _, serverErr, clientErr := connect(t, h, config, client(nil)); serverErr != nil || clientErr != nil {
		t.Errorf("known name: server: %v, client: %v", serverErr, clientErr)
	}
}

func TestSessionTickets(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for tickets, want := range map[server.Tickets]bool{server.TicketsOn: true, server.TicketsOff: false} {
			config := newConfig(t, storeFor(t, certs.Options{}), server.Options{Tickets: tickets})
			h := server.NewHandshaker(server.HandshakerOptions{})
			theirs := client(func(c *tls.Config) { c.MaxVersion, c.ClientSessionCache = version, tls.NewLRUClientSessionCache(1) })
			var state tls.ConnectionState
			for range 2 {
				var serverErr, clientErr error
				if state, serverErr, clientErr = connect(t, h, config, theirs); serverErr != nil || clientErr != nil {
					t.Fatalf("server: %v, client: %v", serverErr, clientErr)
				}
			}
			if state.DidResume != want {
				t.Errorf("%s, tickets %v: resumed %v, want %v", tls.VersionName(version), tickets, state.DidResume, want)
			}
		}
	}
}
