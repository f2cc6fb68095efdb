package controllers

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// TestTicketKeysAreWanted: the Secret of an option is read whatever refers to it.
func TestTicketKeysAreWanted(t *testing.T) {
	f := newFixture(t, newTable)
	f.mirror.options.Ingress.DefaultCertificate, f.mirror.options.Ingress.TicketKeys = "ns/default", "ns/tickets"
	f.mirror.referAll()
	f.arrives(t, tlsSecret("default", "1", "D1"))
	f.arrives(t, tlsSecret("tickets", "1", "T1"))
	wantSecrets(t, f.collected(t, time.Second), "default=D1", "tickets=T1")
}

// TestAnnotationsRefer: a Secret that an annotation names is read, one in another namespace is not.
func TestAnnotationsRefer(t *testing.T) {
	f := newFixture(t, newTable)
	f.mirror.options.Ingress.AnnotationPrefixes = []string{"podlane.dev"}
	f.mirror.options.Ingress.References.SecretAnnotations = []string{"auth-tls-secret", "proxy-ssl-secret"}
	for name, annotation := range map[string][2]string{"own": {"auth-tls-secret", "ns/ca"}, "foreign": {"auth-tls-secret", "other/b"}, "pods": {"proxy-ssl-secret", "pods"}} {
		i := newIngress(name, "")
		i.Annotations = map[string]string{"podlane.dev/" + annotation[0]: annotation[1]}
		f.mirror.ingressChanged(nil, i)
	}
	f.arrives(t, tlsSecret("ca", "1", "C1"))
	f.arrives(t, tlsSecret("b", "1", "B1"))
	f.arrives(t, tlsSecret("pods", "1", "P1"))
	wantSecrets(t, f.collected(t, time.Second), "ca=C1", "pods=P1")
}

// TestOperatorsSecretsOutsideTheNamespaces: an operator's Secret is watched by its name alone, as far as that goes.
func TestOperatorsSecretsOutsideTheNamespaces(t *testing.T) {
	name := func(namespace, name string) types.NamespacedName {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	for _, c := range []struct {
		story     string
		operators []types.NamespacedName
		want      map[string]string // selectors of namespaces beside those listed
	}{
		{"none", nil, nil},
		{"in a namespace that is watched", []types.NamespacedName{name("apps", "a")}, nil},
		{"in two others", []types.NamespacedName{name("x", "a"), name("y", "b")}, map[string]string{"x": "type=t,metadata.name=a", "y": "type=t,metadata.name=b"}},
		{"one for both options", []types.NamespacedName{name("x", "a"), name("x", "a")}, map[string]string{"x": "type=t,metadata.name=a"}},
		{"two in another", []types.NamespacedName{name("x", "a"), name("x", "b")}, map[string]string{"x": "type=t"}},
		{"three in another", []types.NamespacedName{name("x", "a"), name("x", "b"), name("x", "c")}, map[string]string{"x": "type=t"}},
	} {
		got := operatorsSecrets([]string{"apps"}, c.operators, fields.OneTermEqualSelector("type", "t"), nil).Namespaces
		if own, ok := got["apps"]; !ok || own.FieldSelector != nil || len(got) != 1+len(c.want) {
			t.Errorf("%s: %v", c.story, got)
		}
		for namespace, want := range c.want {
			if s := got[namespace].FieldSelector; s == nil || s.String() != want {
				t.Errorf("%s: namespace %s has selector %v, want %s", c.story, namespace, s, want)
			}
		}
	}
}
