package ingress_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// ciphersFamily is the family of a host's cipher suites as Build sees it, with IANA's names; proxy/filters has the real one.
func ciphersFamily() policy.Family {
	return &policy.Of[router.CipherChoice]{
		Name: router.CiphersFamily, Doc: "Ciphers.", IfInvalid: policy.Ignore,
		Keys: []policy.Key{{Name: "ssl-ciphers", Kind: policy.String, Doc: "The suites.", Example: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}},
		Parse: func(v policy.Values) (c router.CipherChoice, err error) {
			for word := range strings.SplitSeq(v["ssl-ciphers"], ":") {
				known := false
				for _, s := range tls.CipherSuites() {
					if known = s.Name == word; known {
						c.Suites = append(c.Suites, s.ID)
						break
					}
				}
				if !known {
					c.Unknown = append(c.Unknown, word)
				}
			}
			if len(c.Suites) == 0 {
				return router.CipherChoice{}, errors.New("ssl-ciphers: nothing is left")
			}
			return c, nil
		},
	}
}

const choosing = `
{kind: Ingress, metadata: {name: chooses, annotations: {podlane.dev/ssl-ciphers: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}},
 spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}
---
{kind: Ingress, metadata: {name: beside, creationTimestamp: 2024-05-01T00:00:00Z},
 spec: {rules: [{host: a.example, http: {paths: [{path: /beside, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}
---
{kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}
`

// TestCiphersSurvive: a choice is the same pointer as long as it chooses the same, so that what hangs from it stays, and Routes of others with it.
func TestCiphersSurvive(t *testing.T) {
	builder := ingress.NewBuilder(testFamilies())
	build := func(annotations map[string]string) (*router.TLSCiphers, *router.Route) {
		s := parseYAML(t, []byte(choosing))
		s.Options = testOptions()
		for name, value := range annotations {
			s.Ingresses[0].Annotations["podlane.dev/"+name] = value
		}
		table, _ := builder.Build(s)
		_, c := table.TLS("a.example")
		r, _ := table.Lookup("a.example", "/beside")
		return c, r
	}
	first, beside := build(nil)
	if first == nil || beside.Ciphers != first {
		t.Fatalf("%v, and a Route has %v", first, beside.Ciphers)
	}
	if c, r := build(map[string]string{"limit-rps": "5", "ssl-ciphers": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:nonsense"}); c != first || r != beside {
		t.Errorf("another annotation, and a word that means nothing, make other ciphers: %v", c)
	}
	if c, r := build(map[string]string{"ssl-ciphers": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}); c.Same(first) || r.Ciphers != c {
		t.Errorf("another suite makes %v, and a Route has %v", c, r.Ciphers)
	}
	if c, r := build(map[string]string{"ssl-ciphers": "nonsense"}); c != nil || r.Ciphers != nil {
		t.Errorf("nonsense makes %v, and a Route has %v", c, r.Ciphers)
	}
}
