package proxy_test

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"podlane.dev/podlane/router"
)

// publishCiphers makes hosts live, each with the ciphers that it offers.
func (r *tlsRig) publishCiphers(hosts map[string][]uint16) {
	r.t.Helper()
	sp := router.ServicePort{Namespace: "default", Name: "web"}
	var routes []*router.Route
	for name, suites := range hosts {
		route := &router.Route{ID: router.RouteID{Namespace: "default", Ingress: "web", Host: name, Path: "/"}, Backends: []router.Backend{{Service: sp, Weight: 1}}}
		if suites != nil {
			route.Ciphers = router.NewTLSCiphers(suites, "default/web")
		}
		routes = append(routes, route)
	}
	t := router.NewTable(routes, nil)
	r.engine.Prepare(t)
	r.engine.SetAddresses(sp.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(r.pod), UID: "u", Ready: true, Serving: true}}})
	r.engine.Publish(t)
}

// TestServerNameHostCiphers: a connection carries requests for all hosts that offer the suite that it speaks, and for no other. With TLS 1.3 that is
// any host.
func TestServerNameHostCiphers(t *testing.T) {
	const (
		a = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
		b = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
		c = tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	)
	hosts := map[string][]uint16{"plain.test": nil, "a.test": {a}, "ab.test": {a, b}, "twin.test": {b, a}, "c.test": {c}}
	r := newTLSRig(t)
	r.publishCiphers(hosts)
	wanted := func(host string, version, suite uint16) int {
		offered, known := hosts[host]
		switch {
		case !known:
			return 404
		case offered == nil || version == tls.VersionTLS13 || slices.Contains(offered, suite):
			return 200
		}
		return 421
	}
	for _, protocol := range []string{"http/1.1", "h2"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for sni, offered := range hosts {
				t.Run(fmt.Sprint(protocol, " ", tls.VersionName(version), " ", sni), func(t *testing.T) {
					if offered == nil {
						offered = []uint16{a, b, c}
					}
					for _, suite := range offered {
						client := r.browser(protocol, version, nil)
						client.config.CipherSuites = []uint16{suite}
						client.connect(sni)
						if state := client.conn.ConnectionState(); version == tls.VersionTLS12 && state.CipherSuite != suite {
							t.Fatalf("%s is spoken", tls.CipherSuiteName(state.CipherSuite))
						}
						for _, host := range []string{"plain.test", "a.test", "ab.test", "twin.test", "c.test", "unknown.test", sni} {
							status, body, again := client.get(host)
							if want := wanted(host, version, suite); status != want || !again {
								t.Errorf("Host %s: %d %q, another request may follow: %v, want %d", host, status, body, again, want)
							}
						}
						client.close()
					}
				})
			}
		}
	}
}

// TestCiphersChangeUnderConnections: handshakes that begin later obey, and a connection that is there goes on for the hosts of its server name.
func TestCiphersChangeUnderConnections(t *testing.T) {
	const a, b = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	for _, protocol := range []string{"http/1.1", "h2"} {
		r := newTLSRig(t)
		r.publishCiphers(map[string][]uint16{"a.test": {a}, "b.test": {a}})
		client := r.browser(protocol, tls.VersionTLS12, nil)
		client.connect("a.test")
		for i, step := range []struct {
			hosts map[string][]uint16
			a, b  int
		}{
			{map[string][]uint16{"a.test": {a}, "b.test": {a}}, 200, 200},
			{map[string][]uint16{"a.test": {b}, "b.test": {a, b}}, 200, 200},
			{map[string][]uint16{"a.test": {b}, "b.test": {b}}, 200, 200},
			{map[string][]uint16{"a.test": nil, "b.test": {b}}, 200, 421},
			{map[string][]uint16{"a.test": {b}, "b.test": nil}, 200, 200},
		} {
			r.publishCiphers(step.hosts)
			for host, want := range map[string]int{"a.test": step.a, "b.test": step.b} {
				if status, body, again := client.get(host); status != want || !again {
					t.Errorf("%s, step %d, Host %s: %d %q, another request may follow: %v, want %d", protocol, i, host, status, body, again, want)
				}
			}
		}
		client.connect("a.test")
		if suite := client.conn.ConnectionState().CipherSuite; suite != b {
			t.Errorf("%s: a handshake that began later speaks %s", protocol, tls.CipherSuiteName(suite))
		}
		client.close()
	}
}
