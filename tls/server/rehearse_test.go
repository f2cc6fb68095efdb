package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// TestRehearse: a handshake that nobody makes comes to what one comes to that somebody makes.
func TestRehearse(t *testing.T) {
	t.Parallel()
	store, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.NewConfig(store, server.Options{Protocols: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		hello    server.Hello
		version  uint16
		protocol string
		reason   server.Failure
	}{
		"of today":       {server.Hello{ServerName: "a.example", Protocols: []string{"h2", "http/1.1"}}, tls.VersionTLS13, "h2", ""},
		"without ALPN":   {server.Hello{MaxVersion: tls.VersionTLS12}, tls.VersionTLS12, "", ""},
		"too old":        {server.Hello{MaxVersion: tls.VersionTLS11}, 0, "", server.Protocol},
		"nothing shared": {server.Hello{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, 0, "", server.Protocol},
		"no protocol":    {server.Hello{Protocols: []string{"gopher"}}, 0, "", server.Protocol},
	} {
		state, err := server.Rehearse(t.Context(), config, &c.hello)
		var reason server.Failure
		if failed, ok := errors.AsType[*server.HandshakeError](err); ok {
			reason = failed.Reason
		}
		if reason != c.reason || state.Version != c.version || state.NegotiatedProtocol != c.protocol || err == nil && state.CipherSuite == 0 {
			t.Errorf("%s: %s %q %v", name, tls.VersionName(state.Version), state.NegotiatedProtocol, err)
		}
	}
	refusing, err := certs.NewStore(certs.Options{RejectUnknown: true})
	if err != nil {
		t.Fatal(err)
	}
	if config, err = server.NewConfig(refusing, server.Options{}); err != nil {
		t.Fatal(err)
	}
	_, err = server.Rehearse(t.Context(), config, &server.Hello{ServerName: "nobody.example"})
	if failed, ok := errors.AsType[*server.HandshakeError](err); !ok || failed.Reason != server.UnknownName {
		t.Errorf("a name that is refused: %v", err)
	}
}

// TestPresent: what is shown without a handshake is judged as with one.
func TestPresent(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, "root", authority)
	alice := issue(t, root, "alice", nil)
	p := policyOf(router.VerifyOn, trust(nil, root))
	if c := server.Present(p, []*x509.Certificate{alice.Certificate}); c.Judge(p, time.Now()).Outcome != router.Verified || c.Certificate() != alice.Certificate || c.Policy() != p {
		t.Errorf("alice: %+v", c.Judge(p, time.Now()))
	}
	if c := server.Present(p, nil); c.Judge(p, time.Now()).Outcome != router.NoCertificate || c.Certificate() != nil {
		t.Errorf("nobody: %+v", c.Judge(p, time.Now()))
	}
}
