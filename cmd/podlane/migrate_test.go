package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/migrate"
)

const migrated = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  annotations:
    nginx.ingress.kubernetes.io/rewrite-target: /$1
    nginx.ingress.kubernetes.io/configuration-snippet: |
      more_set_headers "X-Frame-Options: DENY";
      more_set_headers "X-A: b";
      if ($host = a) { return 403; }
spec:
  ingressClassName: nginx
  rules:
  - host: a.example
    http: {paths: [{path: "/x/(.*)", pathType: ImplementationSpecific, backend: {service: {name: a, port: {number: 80}}}}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: controller, namespace: ingress-nginx}
data: {worker-processes: "4"}
`

// folderOf writes text as the only manifest of a folder.
func folderOf(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runLine runs a command line and returns its exit code and what it printed.
func runLine(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	p := newProcess()
	p.stdout, p.stderr = &out, &err
	defer p.stop()
	return run(context.Background(), p, args), out.String(), err.String()
}

func TestMigrateFolder(t *testing.T) {
	dir := folderOf(t, migrated)
	code, out, stderr := runLine(t, "migrate", "--from", dir, "--configmap", "ingress-nginx/controller")
	if code != 2 || stderr != "" {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	for _, want := range []string{
		"VERDICT  OBJECT", "refused  Ingress shop/web", "same     ConfigMap ingress-nginx/controller",
		"in.yaml:8: metadata.annotations[nginx.ingress.kubernetes.io/configuration-snippet]",
		"instead: podlane.dev/set-response-headers: |\n            X-Frame-Options: DENY\n            X-A: b\n", "nothing instead of line 3: if",
		"because rewrite-target implies use-regex", "objects: 1 the same, 0 differ, 1 refused\n", "annotations and settings: 2 the same, 0 differ, 1 refused\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	for flag, want := range map[string]int{"refused": 2, "differs": 2, "never": 0, "often": 1} {
		if code, _, _ := runLine(t, "migrate", "--from", dir, "--fail-on", flag); code != want {
			t.Errorf("--fail-on %s: exit code %d, want %d", flag, code, want)
		}
	}
	_, out, _ = runLine(t, "migrate", "--from", dir, "-o", "json")
	var r struct {
		Items []struct {
			Name, Verdict string
			Notes         []struct {
				Instead map[string]string
				Left    []string
			}
		}
		Objects map[string]int
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if len(r.Items) != 1 || r.Items[0].Verdict != "refused" || r.Items[0].Notes[0].Instead["set-response-headers"] == "" || len(r.Items[0].Notes[0].Left) != 1 || r.Objects["refused"] != 1 {
		t.Errorf("%+v", r)
	}
}

func TestLint(t *testing.T) {
	code, out, stderr := runLine(t, "lint", "--from", folderOf(t, migrated))
	if code != 2 || stderr != "" {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	for _, want := range []string{"in.yaml:8: Ingress shop/web metadata.annotations", ": error: configuration-snippet has no effect", "  instead: podlane.dev/set-response-headers", "1 mistake, 0 notices\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	clean := strings.Replace(migrated, "configuration-snippet: |", "x: |", 1)
	clean = strings.Replace(clean, "nginx.ingress.kubernetes.io/x", "example.com/x", 1)
	if code, out, _ = runLine(t, "lint", "--from", folderOf(t, clean), "-o", "json"); code != 0 || out != "[]\n" {
		t.Errorf("exit code %d, %s", code, out)
	}
	if code, out, _ = runLine(t, "lint", "--from", folderOf(t, "kind: [")); code != 2 || !strings.Contains(out, "in.yaml:1") || !strings.Contains(out, "ManifestInvalid") {
		t.Errorf("a broken file: exit code %d, %s", code, out)
	}
	for _, args := range [][]string{{"lint"}, {"lint", "--from", "/nowhere"}, {"lint", "--from", ".", "-o", "xml"}, {"migrate", "--from", "/nowhere"}, {"migrate", "--kubeconfig", "/nowhere"}} {
		if code, _, stderr := runLine(t, args...); code != 1 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, said %q", args, code, stderr)
		}
	}
}

// objectReader is an API server that has some objects, and counts what is asked for.
type objectReader struct {
	client.Reader
	objects []client.Object
	asked   []string
}

func (r *objectReader) Get(_ context.Context, name client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	r.asked = append(r.asked, name.String())
	for _, o := range r.objects {
		if client.ObjectKeyFromObject(o) != name {
			continue
		}
		switch into := into.(type) {
		case *corev1.ConfigMap:
			if c, ok := o.(*corev1.ConfigMap); ok {
				c.DeepCopyInto(into)
				return nil
			}
		case *corev1.Secret:
			if s, ok := o.(*corev1.Secret); ok {
				s.DeepCopyInto(into)
				return nil
			}
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{}, name.Name)
}

func (r *objectReader) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if ingresses, ok := list.(*networkingv1.IngressList); ok {
		for _, o := range r.objects {
			if i, ok := o.(*networkingv1.Ingress); ok {
				ingresses.Items = append(ingresses.Items, *i)
			}
		}
	}
	return nil
}

// TestMigrateReadsWhatIsNamed: of Secrets and ConfigMaps only those that somebody names, the ConfigMap's own references too.
func TestMigrateReadsWhatIsNamed(t *testing.T) {
	meta := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	i := &networkingv1.Ingress{ObjectMeta: meta("shop", "a")}
	i.Annotations = map[string]string{"kubernetes.io/ingress.class": "nginx", "nginx.ingress.kubernetes.io/proxy-ssl-secret": "pods", "nginx.ingress.kubernetes.io/auth-tls-secret": "shop/gone"}
	i.Spec.TLS = []networkingv1.IngressTLS{{SecretName: "tls"}}
	o := config.MigrateIngress()
	o.ConfigMap = "nginx/controller"
	options := o.Options()
	options.References.ConfigMapSettings = []string{"add-headers"}
	api := &objectReader{objects: []client.Object{
		i, &corev1.ConfigMap{ObjectMeta: meta("nginx", "controller"), Data: map[string]string{"add-headers": "nginx/more"}},
		&corev1.ConfigMap{ObjectMeta: meta("nginx", "more")}, &corev1.ConfigMap{ObjectMeta: meta("nginx", "others")},
		&corev1.Secret{ObjectMeta: meta("shop", "tls")}, &corev1.Secret{ObjectMeta: meta("shop", "pods")}, &corev1.Secret{ObjectMeta: meta("shop", "others")},
	}}
	r := clusterReader{client: api, out: ingress.Snapshot{Options: options}}
	if err := r.read(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(r.out.ConfigMaps) != 2 || len(r.out.Secrets) != 2 {
		t.Errorf("%d ConfigMaps, %d Secrets", len(r.out.ConfigMaps), len(r.out.Secrets))
	}
	slices.Sort(api.asked)
	if want := []string{"nginx/controller", "nginx/more", "shop/gone", "shop/pods", "shop/tls"}; !slices.Equal(api.asked, want) {
		t.Errorf("asked for %v, want %v", api.asked, want)
	}
	_, problems := ingress.Build(r.out, o.Families())
	if got := migrate.New(r.out, o.Families(), problems, migrate.Options{}); got.Worst() != migrate.Refused {
		t.Errorf("a Secret that is not there: %s", got.Worst())
	}
	if broken := (&clusterReader{client: failingReader{}}).read(context.Background()); broken == nil {
		t.Error("no error of an API server that fails")
	}
}

// failingReader is an API server that refuses.
type failingReader struct{ client.Reader }

func (failingReader) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("forbidden")
}
