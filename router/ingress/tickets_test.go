package ingress_test

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// ticketSecret is system/tickets with the given keys.
func ticketSecret(data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: "tickets"}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

func TestTicketKeys(t *testing.T) {
	a, b := bytes.Repeat([]byte("a"), 32), bytes.Repeat([]byte("b"), 80)
	want := func(texts ...[]byte) *router.TicketKeys {
		k, err := router.ParseTicketKeys(texts...)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	builder := ingress.NewBuilder(testFamilies())
	s := ingress.Snapshot{Options: testOptions()}
	s.Options.TicketKeys = "system/tickets"
	var last *router.Table
	for _, step := range []struct {
		story   string
		secret  map[string]string // nil: there is none
		want    *router.TicketKeys
		problem string
	}{
		{"missing", nil, nil, "SecretMissing"},
		{"one", map[string]string{"key": string(a)}, want(a), ""},
		{"in the order of their names", map[string]string{"2": string(a), "1": base64.StdEncoding.EncodeToString(b)}, want(b, a), ""},
		{"broken", map[string]string{"key": "x"}, nil, "SecretInvalid"},
		{"gone", nil, nil, "SecretMissing"},
	} {
		s.Secrets = nil
		if step.secret != nil {
			s.Secrets = []*corev1.Secret{ticketSecret(step.secret)}
		}
		table, problems := builder.Build(s)
		if !table.TicketKeys().Equal(step.want) {
			t.Errorf("%s: keys %v, want %v", step.story, table.TicketKeys(), step.want)
		}
		text := problemText(problems)
		if len(problems) > 1 || !strings.Contains(text, step.problem) || (step.problem == "") != (len(problems) == 0) {
			t.Errorf("%s: Problems %q, want %s", step.story, text, step.problem)
		}
		if strings.Contains(table.String()+text, string(a)) {
			t.Errorf("%s: a key is printed", step.story)
		}
		// The same content in another object is nothing new.
		if step.secret != nil {
			s.Secrets = []*corev1.Secret{ticketSecret(step.secret)}
		}
		if again, _ := builder.Build(s); again != table {
			t.Errorf("%s: nothing changed, but the Table did", step.story)
		}
		if last != nil && table == last && !last.TicketKeys().Equal(step.want) {
			t.Errorf("%s: the Table stayed", step.story)
		}
		last = table
	}
	s.Options.TicketKeys = "tickets"
	if _, problems := builder.Build(s); len(problems) != 1 || problems[0].Reason != ingress.InvalidOption {
		t.Errorf("a name without a namespace: %v", problems)
	}
}

// TestSecretRefsOfTLS: a Secret that Build reads and that nobody fetches is one that is always missing.
func TestSecretRefsOfTLS(t *testing.T) {
	s := parseYAML(t, []byte(`
kind: Ingress
metadata: {name: a, namespace: z, annotations: {podlane.dev/auth-tls-secret: ca, nginx.ingress.kubernetes.io/auth-tls-secret: z/loser}}
---
kind: Ingress
metadata: {name: b, namespace: z, annotations: {nginx.ingress.kubernetes.io/auth-tls-secret: " z/written "}}
---
kind: Ingress
metadata: {name: c, namespace: z, annotations: {podlane.dev/auth-tls-secret: other/ca, example.com/auth-tls-secret: foreign}}
---
kind: Ingress
metadata: {name: d, namespace: z, annotations: {podlane.dev/proxy-ssl-secret: pods, podlane.dev/auth-tls-secret: ca}}
`))
	s.Options = testOptions()
	s.Options.TicketKeys = "system/tickets"
	s.Options.References.SecretAnnotations = []string{"auth-tls-secret", "proxy-ssl-secret"}
	want := []types.NamespacedName{{Namespace: "system", Name: "tickets"}, {Namespace: "z", Name: "ca"}, {Namespace: "z", Name: "pods"}, {Namespace: "z", Name: "written"}}
	if got := ingress.SecretRefs(s); !slices.Equal(got, want) {
		t.Errorf("SecretRefs = %v, want %v", got, want)
	}
}

// TestConfigMapRefs: what annotations name counts in their own namespace, and in others where the operator says so; what the operator's ConfigMap
// names counts everywhere.
func TestConfigMapRefs(t *testing.T) {
	for foreign, want := range map[string][]types.NamespacedName{
		"false": {{Namespace: "other", Name: "added"}, {Namespace: "podlane", Name: "settings"}, {Namespace: "z", Name: "own"}},
		"true":  {{Namespace: "other", Name: "added"}, {Namespace: "other", Name: "headers"}, {Namespace: "podlane", Name: "settings"}, {Namespace: "z", Name: "own"}},
	} {
		s := parseYAML(t, []byte(`
kind: Ingress
metadata: {name: a, namespace: z, annotations: {podlane.dev/custom-headers: own}}
---
kind: Ingress
metadata: {name: b, namespace: z, annotations: {podlane.dev/custom-headers: other/headers}}
---
kind: ConfigMap
metadata: {name: settings, namespace: podlane}
data: {add-headers: other/added, allow-cross-namespace-resources: "`+foreign+`"}
`))
		s.Options = testOptions()
		s.Options.Settings = "podlane/settings"
		s.Options.References = ingress.ReferencesOf(testFamilies())
		if got := ingress.ConfigMapRefs(s); !slices.Equal(got, want) {
			t.Errorf("with %s: ConfigMapRefs = %v, want %v", foreign, got, want)
		}
	}
}
