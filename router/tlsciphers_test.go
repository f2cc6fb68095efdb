package router

import (
	"crypto/tls"
	"testing"
)

// TestTLSCiphersIdentity: what is offered is the identity, whoever says so and however it is written.
func TestTLSCiphersIdentity(t *testing.T) {
	const a, b, c = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA
	given := []uint16{b, a}
	base := NewTLSCiphers(given, "default/a")
	for _, tc := range []struct {
		story string
		other *TLSCiphers
		same  bool
	}{
		{"another order", NewTLSCiphers([]uint16{a, b}, "default/a"), true},
		{"said twice", NewTLSCiphers([]uint16{a, b, a, b}, "default/a"), true},
		{"another owner", NewTLSCiphers([]uint16{a, b}, "default/b"), true},
		{"fewer", NewTLSCiphers([]uint16{a}, "default/a"), false},
		{"more", NewTLSCiphers([]uint16{a, b, c}, "default/a"), false},
		{"others", NewTLSCiphers([]uint16{a, c}, "default/a"), false},
		{"none", nil, false},
	} {
		if got := base.Same(tc.other); got != tc.same || tc.other.Same(base) != got || tc.other != nil && (base.ID() == tc.other.ID()) != got {
			t.Errorf("%s: same is %v", tc.story, got)
		}
	}
	if given[0] != b {
		t.Error("the caller's slice is sorted")
	}
	none := (*TLSCiphers)(nil)
	if !none.Same(nil) || !none.Admits(tls.VersionTLS12, c) {
		t.Error("no choice is a choice")
	}
	if !base.Admits(tls.VersionTLS12, a) || base.Admits(tls.VersionTLS12, c) || base.Admits(tls.VersionTLS10, c) || !base.Admits(tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256) {
		t.Error("Admits")
	}
	if got, want := base.String(), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 of default/a"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestTableTLS: handshakes find what a host offers as requests find its Routes.
func TestTableTLS(t *testing.T) {
	own := NewTLSCiphers([]uint16{1}, "default/a")
	catch := NewTLSCiphers([]uint16{2}, "default/b")
	route := func(host string, c *TLSCiphers) *Route {
		return &Route{ID: RouteID{Namespace: "default", Ingress: "a", Host: host, Path: "/"}, Ciphers: c}
	}
	all := &Route{ID: RouteID{Namespace: "default", Ingress: "b"}, IsDefault: true, Ciphers: catch}
	table := NewTable([]*Route{route("a.test", own), route("*.wild.test", own), route("free.wild.test", nil), all}, nil)
	for host, want := range map[string]*TLSCiphers{"a.test": own, "x.wild.test": own, "free.wild.test": nil, "y.x.wild.test": catch, "other.test": catch, "": catch} {
		if p, got := table.TLS(host); got != want || p != nil {
			t.Errorf("%q: %v, %v; want %v", host, p, got, want)
		}
	}
	if h, _ := table.Host("a.test"); h.Ciphers() != own {
		t.Error("Host.Ciphers")
	}
}
