package ingress_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

const protected = `
{kind: Ingress, metadata: {name: asks, annotations: {podlane.dev/auth-tls-secret: ca}},
 spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}
---
{kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}
`

// TestClientAuthSurvives: a policy is the same pointer as long as nothing of it changes, so that what hangs from it stays; a Secret that
// changes in what it holds makes another one.
func TestClientAuthSurvives(t *testing.T) {
	builder := ingress.NewBuilder(testFamilies())
	build := func(extra string) *ingress.Snapshot {
		s := parseYAML(t, []byte(protected+"---\n"+extra))
		s.Options = testOptions()
		return &s
	}
	first, _ := builder.Build(*build("{kind: Authority, metadata: {name: ca}}"))
	policy := first.TLSPolicy("a.example")
	if policy == nil {
		t.Fatalf("no policy in\n%s", first)
	}
	s := build("{kind: Authority, metadata: {name: ca}}")
	s.Secrets[0].Data["note"] = []byte("not for us")
	s.Ingresses[0].Annotations["podlane.dev/limit-rps"] = "5"
	second, _ := builder.Build(*s)
	if second.TLSPolicy("a.example") != policy {
		t.Error("another key in the Secret and another annotation make another policy")
	}
	s.Ingresses[0] = s.Ingresses[0].DeepCopy()
	s.Ingresses[0].Annotations["podlane.dev/auth-tls-verify-client"] = "optional"
	optional, _ := builder.Build(*s)
	if p := optional.TLSPolicy("a.example"); p == nil || p.Same(policy) || p.Verify != router.VerifyOptional {
		t.Errorf("another demand of the same authority makes policy %v", p)
	}
	s.Ingresses[0] = s.Ingresses[0].DeepCopy()
	s.Ingresses[0].Annotations["podlane.dev/auth-tls-match-cn"] = "CN=a"
	named, _ := builder.Build(*s)
	if p := named.TLSPolicy("a.example"); p.MatchCN != "CN=a" {
		t.Errorf("another name makes policy %v", p)
	}
	third, _ := builder.Build(*build("{kind: Authority, metadata: {name: ca}, serial: 1}"))
	if p := third.TLSPolicy("a.example"); p == nil || p.Same(policy) {
		t.Errorf("another certificate in the Secret makes policy %v", p)
	}
	gone, problems := builder.Build(*build("{kind: Authority, metadata: {name: other}}"))
	if p := gone.TLSPolicy("a.example"); p != nil || len(problems) != 1 {
		t.Errorf("without the Secret: policy %v, Problems %v", p, problems)
	}
	if r, _ := gone.Lookup("a.example", "/"); r.Denied == "" {
		t.Error("without the Secret the route is open")
	}
}

// FuzzAuthority: whatever is in a Secret, the route it protects has a policy or is closed.
func FuzzAuthority(f *testing.F) {
	cert, key := makeAuthority(f, 0)
	f.Add(cert, makeList(f, cert, key, "good"), true)
	f.Add(append(key, cert...), []byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"), true)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n"), []byte(nil), false)
	f.Fuzz(func(t *testing.T, ca, list []byte, withList bool) {
		s := parseYAML(t, []byte(protected))
		s.Options = testOptions()
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "ca"}, Data: map[string][]byte{"ca.crt": ca}}
		if withList {
			secret.Data["ca.crl"] = list
		}
		s.Secrets = append(s.Secrets, secret)
		table, problems := ingress.Build(s, testFamilies())
		route, ok := table.Lookup("a.example", "/")
		policy := table.TLSPolicy("a.example")
		switch {
		case !ok, policy != route.TLS:
			t.Fatalf("route %v, policy %v", route, policy)
		case policy == nil:
			if route.Denied == "" || len(problems) != 1 || problems[0].Effect != ingress.RouteDenied {
				t.Errorf("no policy, but %s, Problems %v", route, problems)
			}
		case route.Denied != "" || len(problems) != 0 || len(policy.Authority.Certificates) == 0 || withList != (len(policy.Authority.CRLs) > 0):
			t.Errorf("policy %v with %d certificates and %d lists: %s, Problems %v",
				policy, len(policy.Authority.Certificates), len(policy.Authority.CRLs), route, problems)
		}
	})
}
