package server_test

import (
	"crypto/tls"
	"testing"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// BenchmarkPolicyHandshake runs both sides; what a policy adds is the difference.
func BenchmarkPolicyHandshake(b *testing.B) {
	root := issue(b, nil, "root", authority)
	shown := issue(b, root, "leaf", nil).pair()
	store := storeFor(b, certs.Options{})
	p := policyOf(router.VerifyOptional, trust(nil, root))
	for _, c := range []struct {
		name    string
		policy  *router.TLSPolicy
		shown   []tls.Certificate
		resumed bool
	}{
		{"plain", nil, nil, false}, {"plain resumed", nil, nil, true},
		{"policy without certificate", p, nil, false}, {"policy", p, []tls.Certificate{shown}, false}, {"policy resumed", p, []tls.Certificate{shown}, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			config := newConfig(b, store, server.Options{Table: tableWith(nil, map[string]*router.TLSPolicy{"a.test": c.policy})})
			h := server.NewHandshaker(server.HandshakerOptions{})
			own := client(func(o *tls.Config) { o.Certificates = c.shown })
			if c.resumed {
				own.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err, clientErr := connect(b, h, config, own); err != nil || clientErr != nil {
					b.Fatal(err, clientErr)
				}
			}
		})
	}
}
