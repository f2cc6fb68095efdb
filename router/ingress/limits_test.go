package ingress_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router/ingress"
)

// TestLimits holds both sides of each limit of one Ingress.
func TestLimits(t *testing.T) {
	const web = "---\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
	for big, want := range map[string]int{
		fmt.Sprintf("paths: %d", ingress.MaxPaths):                      ingress.MaxPaths,
		fmt.Sprintf("paths: %d", ingress.MaxPaths+1):                    0,
		fmt.Sprintf("paths: 1\ntlsHosts: %d", ingress.MaxTLSHosts):      1,
		fmt.Sprintf("paths: 1\ntlsHosts: %d", ingress.MaxTLSHosts+1):    0,
		fmt.Sprintf("paths: 2\nannotation: %d", ingress.MaxAnnotations): 2,
	} {
		s := parseYAML(t, []byte("kind: Big\nmetadata: {name: big}\n"+big+"\n"+web))
		s.Options = testOptions()
		table, problems := ingress.Build(s, testFamilies())
		if table.Len() != want {
			t.Errorf("%q: %d routes, want %d", big, table.Len(), want)
		}
		if tooLarge := slices.ContainsFunc(problems, func(p ingress.Problem) bool { return p.Reason == ingress.TooLarge }); tooLarge != (want == 0 || strings.Contains(big, "annotation")) {
			t.Errorf("%q: Problems %v", big, problems)
		}
	}
}

// TestUselessAnnotations fills an Ingress with annotations that nobody knows: what is said of them is bounded, how many they are is not lost, and what is
// known among them holds.
func TestUselessAnnotations(t *testing.T) {
	s := parseYAML(t, []byte("kind: Big\nmetadata: {name: big}\npaths: 1\n---\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"))
	s.Options = testOptions()
	for n, want := range map[int]int{50: 50, 51: 51, 9000: 51} {
		annotations := map[string]string{}
		for k := range n {
			annotations[fmt.Sprintf("podlane.dev/x%05d", k)] = "x"
		}
		s.Ingresses[0].Annotations = annotations
		_, problems := ingress.Build(s, testFamilies())
		if len(problems) != want {
			t.Errorf("%d annotations give %d Problems, want %d", n, len(problems), want)
		}
		more := fmt.Sprintf("there are %d more annotations that Podlane does not know", n-50)
		if said := slices.ContainsFunc(problems, func(p ingress.Problem) bool { return strings.HasPrefix(p.Message, more) }); said != (n > 50) {
			t.Errorf("%d annotations: that there are more is said: %t", n, said)
		}
	}
}

// TestReasons looks for each Reason in the goldens: the set is closed, and nothing in it is only promised.
func TestReasons(t *testing.T) {
	elsewhere := []ingress.Reason{ingress.MassRemoval, ingress.ManifestInvalid, ingress.NotManifest, ingress.NoService, ingress.UnknownField, ingress.OldVersion, ingress.DuplicateObject}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		all.Write(readFile(t, f))
	}
	seen := map[ingress.Reason]bool{}
	for _, r := range ingress.Reasons() {
		if seen[r] {
			t.Errorf("%s is listed twice", r)
		}
		seen[r] = true
		if !slices.Contains(elsewhere, r) && !strings.Contains(all.String(), ": "+string(r)+" (") {
			t.Errorf("no golden has a Problem of Reason %s", r)
		}
	}
}

func TestOwnedAndSecretRefs(t *testing.T) {
	s := parseYAML(t, []byte(`
kind: Ingress
metadata: {name: b, namespace: z}
spec: {tls: [{secretName: two}, {secretName: one}, {secretName: other/ns}, {}]}
---
kind: Ingress
metadata: {name: a, namespace: z}
spec: {tls: [{secretName: one}]}
---
kind: Ingress
metadata: {name: c, namespace: a}
spec: {ingressClassName: theirs, tls: [{secretName: never}]}
`))
	s.Options = testOptions()
	s.Options.EveryClass, s.Options.WithoutClass, s.Options.DefaultCertificate = false, true, "system/default"
	s.Ingresses = append(s.Ingresses, nil)
	var names []string
	for _, i := range ingress.Owned(s) {
		names = append(names, i.Namespace+"/"+i.Name)
	}
	if want := []string{"z/a", "z/b"}; !slices.Equal(names, want) {
		t.Errorf("Owned = %q", names)
	}
	want := []types.NamespacedName{{Namespace: "system", Name: "default"}, {Namespace: "z", Name: "one"}, {Namespace: "z", Name: "two"}}
	if got := ingress.SecretRefs(s); !slices.Equal(got, want) {
		t.Errorf("SecretRefs = %v", got)
	}
}

// TestNilObjects: a Snapshot is what somebody else collected.
func TestNilObjects(t *testing.T) {
	s := ingress.Snapshot{
		Ingresses: []*networkingv1.Ingress{nil, {}}, Services: []*corev1.Service{nil, {}}, Secrets: []*corev1.Secret{nil, {}},
		Classes: []*networkingv1.IngressClass{nil, {}}, Options: testOptions(),
	}
	s.Ingresses[1].Spec.Rules = []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: make([]networkingv1.HTTPIngressPath, 1)}}}}
	if _, problems := ingress.Build(s, nil); len(problems) == 0 {
		t.Error("no Problems")
	}
}

// FuzzBuild puts arbitrary text into every field of an Ingress: whatever it says, the routes of an older neighbour stay as
// they are, and the Builder that saw the neighbour alone before says the same as Build.
func FuzzBuild(f *testing.F) {
	f.Add("www.example", "/", "Prefix", "web", "http", "tls", "10", "podlane")
	f.Add("*.example", "/a//..", "ImplementationSpecific", "", "", "other/tls", "x", "")
	f.Add("BAD:80", "%zz", "Exact", "gone", "9", "", "\x00", "theirs")
	f.Fuzz(func(t *testing.T, host, path, pathType, service, port, secret, annotation, class string) {
		const neighbour = `
kind: Ingress
metadata: {name: neighbour, namespace: a, creationTimestamp: 2020-01-01T00:00:00Z}
spec:
  defaultBackend: {service: {name: web, port: {number: 80}}}
  tls: [{hosts: [www.example, "*.example"], secretName: tls}]
  rules:
  - {host: www.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}
  - {host: "*.example", http: {paths: [{path: /x, pathType: Exact, backend: {service: {name: web, port: {number: 80}}}}]}}
---
{kind: Service, metadata: {name: web, namespace: a}, spec: {ports: [{name: http, port: 80}]}}
---
{kind: Certificate, metadata: {name: tls, namespace: a}, hosts: [www.example, "*.example"]}
`
		s := parseYAML(t, []byte(neighbour))
		s.Options = testOptions()
		builder := ingress.NewBuilder(testFamilies())
		before, _ := builder.Build(s)
		typ := networkingv1.PathType(pathType)
		i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "fuzz", CreationTimestamp: metav1.Now()}}
		i.Annotations = map[string]string{"podlane.dev/limit-rps": annotation, "podlane.dev/" + annotation: host, "kubernetes.io/ingress.class": class}
		backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Name: port, Number: int32(len(port))}}}
		i.Spec = networkingv1.IngressSpec{
			IngressClassName: &class, DefaultBackend: &backend,
			TLS: []networkingv1.IngressTLS{{Hosts: []string{host, "www.example"}, SecretName: secret}, {SecretName: secret}},
			Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: path, PathType: &typ, Backend: backend}, {Path: path, Backend: backend}},
			}}}},
		}
		s.Ingresses = append(s.Ingresses, i)
		table, problems := builder.Build(s)
		want, wantProblems := ingress.Build(s, testFamilies())
		if text(table) != text(want) || !slices.Equal(problems, wantProblems) {
			t.Fatalf("Builder:\n%s%s\nBuild:\n%s%s", text(table), problemText(problems), text(want), problemText(wantProblems))
		}
		for r := range before.RoutesNotIn(table) {
			t.Errorf("the neighbour lost %s", r)
		}
		if !slices.Equal(before.Certificates(), table.Certificates()[:1]) {
			t.Errorf("the neighbour's certificate became %v", table.Certificates())
		}
		for _, p := range problems {
			if p.Object.Name == "neighbour" || p.Field == "" || p.Reason == "" || p.Effect == "" || p.Message == "" || !slices.Contains(ingress.Reasons(), p.Reason) {
				t.Errorf("Problem %+v", p)
			}
		}
	})
}
