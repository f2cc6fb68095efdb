package policies_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// hostile are values that got into nginx's configuration through ingress-nginx's annotations, by the CVEs of SECURITY.md C1.
var hostile = []string{
	"/foo;}load_module /tmp/evil.so;{", "/$1#;\nload_module x;", `"; ssl_engine x; #`, "${env:PATH}", "http://a/#;\n}\nlocation /x { return 200; }",
	"*.evil.example\n", "$(id)", "{{ .Env }}", "a\x00b", "\r\nSet-Cookie: a=b", strings.Repeat("(", 2000), "https://[::1]%2f@evil.example/", "~(a+)+$", "GET\r\nHost: x",
}

// keysOf returns every key of every family, and where it may be.
func keysOf() (keys []policy.Key) {
	for _, f := range filters.Families(config.Policies()) {
		keys = append(keys, f.FamilyKeys()...)
	}
	return keys
}

// written returns a Snapshot in which each key has the value, as an annotation or in the operator's ConfigMap, each annotation in an Ingress of its own.
func written(value string, keys []policy.Key, compat ingress.Compat) ingress.Snapshot {
	s := ingress.Snapshot{Options: config.ServeIngress().Options()}
	s.Options.Settings, s.Options.Compat = "podlane/settings", compat
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "podlane", Name: "settings"}, Data: map[string]string{}}
	typ := networkingv1.PathTypeImplementationSpecific
	for n, k := range keys {
		if k.InConfigMap() {
			settings.Data[k.SettingName()] = value
		}
		if !k.InAnnotations() {
			continue
		}
		i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("i", n), Annotations: map[string]string{"podlane.dev/" + k.Name: value}}}
		rule := networkingv1.IngressRule{Host: fmt.Sprintf("h%d.example", n)}
		rule.HTTP = &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/(.*)", PathType: &typ, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}},
		}}}}
		i.Spec.Rules = []networkingv1.IngressRule{rule}
		s.Ingresses = append(s.Ingresses, i)
	}
	s.ConfigMaps = []*corev1.ConfigMap{settings}
	addServices(&s)
	return s
}

// checkWritten builds s, and compiles what came of it: nothing panics, and what is not understood is told of.
func checkWritten(t *testing.T, s ingress.Snapshot) {
	t.Helper()
	policies := config.Policies()
	table, problems := ingress.Build(s, filters.Families(policies))
	for _, p := range problems {
		if p.Reason == ingress.PolicyFailed {
			t.Fatal(p)
		}
		if strings.ContainsAny(p.Message, "\r\n\x00") {
			t.Fatalf("a Problem of more than one line: %q", p.Message)
		}
		if len(p.Message) > 1000 {
			t.Fatalf("a Problem of %d bytes: %.300q", len(p.Message), p.Message)
		}
	}
	runtime := filters.NewRuntime(0)
	for r := range table.Routes() {
		filters.Compile(policies, r, &runtime).Release()
		_ = filters.Guard(policies, r)
	}
	filters.Govern(policies, table.Globals())
	if again, _ := ingress.Build(s, filters.Families(policies)); again.String() != table.String() {
		t.Fatal("the same objects give two tables")
	}
}

// TestHostileValues writes what broke others into every key of every family (SECURITY.md C1): whatever is not refused is a value, never text that
// something runs.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	keys := keysOf()
	for _, value := range hostile {
		for _, compat := range []ingress.Compat{ingress.CompatOff, ingress.CompatNginx} {
			checkWritten(t, written(value, keys, compat))
		}
	}
}

// FuzzValues writes a value into one key after the other.
func FuzzValues(f *testing.F) {
	keys := keysOf()
	for n, k := range keys {
		f.Add(n, k.Example)
	}
	for n, value := range hostile {
		f.Add(n, value)
	}
	f.Fuzz(func(t *testing.T, n int, value string) {
		if n < 0 || len(value) > 4096 {
			return
		}
		checkWritten(t, written(value, keys[n%len(keys):n%len(keys)+1], ingress.CompatNginx))
	})
}
