package server_test

import (
	"crypto/tls"
	"fmt"
	"slices"
	"testing"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// The suites of these tests, all for ECDSA certificates.
const (
	gcm128 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	gcm256 = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	chacha = tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	cbc128 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
)

// demands are what a host says of its handshakes.
type demands struct {
	policy *router.TLSPolicy
	suites []uint16
}

// tableOf returns a Table whose hosts have demands.
func tableOf(keys *router.TicketKeys, hosts map[string]demands) *router.Table {
	change := router.Change{TicketKeys: keys}
	for name, d := range hosts {
		r := &router.Route{ID: router.RouteID{Namespace: "default", Ingress: "web", Host: name, Path: "/"}, TLS: d.policy}
		if d.suites != nil {
			r.Ciphers = router.NewTLSCiphers(d.suites, "default/web")
		}
		change.Hosts = append(change.Hosts, router.NewHost(name, []*router.Route{r}))
	}
	return new(router.Table).With(change)
}

// TestHostCiphers: a host that chooses ciphers speaks these up to TLS 1.2, whatever the listener's and the operator's are, and the others theirs. Each
// is asked in turn, so that what is made for one serves no other.
func TestHostCiphers(t *testing.T) {
	asking := policyOf(router.VerifyOptional, trust(nil, issue(t, nil, "clients", authority)))
	hosts := map[string]demands{
		"plain.test": {}, "asks.test": {policy: asking},
		"gcm.test": {suites: []uint16{gcm256, gcm128}}, "cbc.test": {suites: []uint16{cbc128}}, "*.wild.test": {suites: []uint16{chacha}},
		"gcm.asks.test": {policy: asking, suites: []uint16{gcm256, gcm128}}, "cbc.asks.test": {policy: asking, suites: []uint16{cbc128}},
	}
	for i := range 10 { // more than are kept for one policy
		hosts[fmt.Sprintf("%d.asks.test", i)] = demands{asking, []uint16{chacha, uint16(0xff00 + i)}} //nolint:gosec // small
	}
	table := tableOf(nil, hosts)
	terms := &server.Terms{CipherSuites: []uint16{gcm256}}
	h := server.NewHandshaker(server.HandshakerOptions{})
	for _, c := range []struct {
		name   string
		config *tls.Config
		usual  []uint16
	}{
		{"the listener's", newConfig(t, storeFor(t, certs.Options{}), server.Options{Table: func() *router.Table { return table }}), []uint16{gcm128, gcm256, chacha}},
		{"the operator's", newConfig(t, storeFor(t, certs.Options{}), server.Options{
			Table: func() *router.Table { return table }, Terms: func() *server.Terms { return terms },
		}), terms.CipherSuites},
	} {
		for range 2 {
			for name, d := range hosts {
				if name == "*.wild.test" {
					name = "x.wild.test"
				}
				offered := d.suites
				if offered == nil {
					offered = c.usual
				}
				for _, suite := range []uint16{gcm128, gcm256, chacha, cbc128} {
					state, err, _ := connect(t, h, c.config, client(func(o *tls.Config) {
						o.ServerName, o.MaxVersion, o.CipherSuites = name, tls.VersionTLS12, []uint16{suite}
					}))
					if want := slices.Contains(offered, suite); (err == nil) != want || want && state.CipherSuite != suite {
						t.Errorf("%s, %s: a client that has %s: %v, %#x", c.name, name, tls.CipherSuiteName(suite), err, state.CipherSuite)
					}
				}
				if state, err, _ := connect(t, h, c.config, client(func(o *tls.Config) { o.ServerName = name })); err != nil || state.Version != tls.VersionTLS13 {
					t.Errorf("%s, %s: TLS 1.3 is not spoken: %v", c.name, name, err)
				}
			}
		}
	}
}

// TestCiphersShareNoSessions: a session is resumed where the same is offered and asked for, and nowhere else.
func TestCiphersShareNoSessions(t *testing.T) {
	root := issue(t, nil, "root", authority)
	shown := issue(t, root, "leaf", nil).pair()
	store := storeFor(t, certs.Options{})
	p := policyOf(router.VerifyOn, trust(nil, root))
	hosts := map[string]demands{
		"nothing": {}, "two": {suites: []uint16{gcm128, gcm256}}, "two, turned round": {suites: []uint16{gcm256, gcm128, gcm256}},
		"three":  {suites: []uint16{gcm128, gcm256, chacha}},
		"policy": {policy: p}, "policy and two": {p, []uint16{gcm128, gcm256}}, "policy and three": {p, []uint16{gcm128, gcm256, chacha}},
	}
	same := func(a, b demands) bool {
		clean := func(s []uint16) []uint16 { return slices.Compact(slices.Sorted(slices.Values(s))) }
		return a.policy.Same(b.policy) && slices.Equal(clean(a.suites), clean(b.suites))
	}
	for _, keys := range []*router.TicketKeys{nil, keysOf(t, "k")} {
		for _, version := range versions {
			for from, before := range hosts {
				for to, after := range hosts {
					live := tableOf(keys, map[string]demands{"a.test": before})
					config := newConfig(t, store, server.Options{Table: func() *router.Table { return live }})
					visit := visits(t, version, "a.test", &shown)
					if visit(config) {
						t.Fatal("the first visit is resumed")
					}
					live = tableOf(keys, map[string]demands{"a.test": after})
					if resumed, want := visit(config), same(before, after); resumed != want {
						t.Errorf("%s, shared keys %v: from %q to %q: resumed is %v", tls.VersionName(version), keys != nil, from, to, resumed)
					}
				}
			}
		}
	}
}

// TestHostCiphersCostNothing: what a host's choice needs is made once.
func TestHostCiphersCostNothing(t *testing.T) {
	table := tableOf(nil, map[string]demands{"plain.test": {}, "gcm.test": {suites: []uint16{gcm256}}})
	config := newConfig(t, storeFor(t, certs.Options{}), server.Options{Table: func() *router.Table { return table }})
	for _, name := range []string{"plain.test", "gcm.test"} {
		hello := &tls.ClientHelloInfo{ServerName: name}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := config.GetConfigForClient(hello); err != nil {
				t.Error(err)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations for each handshake", name, n)
		}
	}
}
