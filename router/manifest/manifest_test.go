package manifest_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/manifest"
)

// folder makes a folder of files, by name and text.
func folder(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func read(t *testing.T, f fs.FS) *manifest.Set {
	t.Helper()
	s, err := manifest.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// contents lists the objects of a Set.
func contents(s *manifest.Set) []string {
	var names []string
	for _, o := range s.Snapshot.Ingresses {
		names = append(names, "Ingress "+o.Namespace+"/"+o.Name)
	}
	for _, o := range s.Snapshot.Classes {
		names = append(names, "IngressClass "+o.Name)
	}
	for _, o := range s.Snapshot.Services {
		names = append(names, "Service "+o.Namespace+"/"+o.Name)
	}
	for _, o := range s.Snapshot.Secrets {
		names = append(names, "Secret "+o.Namespace+"/"+o.Name)
	}
	for _, o := range s.Snapshot.ConfigMaps {
		names = append(names, "ConfigMap "+o.Namespace+"/"+o.Name)
	}
	for service, list := range s.Slices {
		for _, o := range list {
			names = append(names, "EndpointSlice "+service.String()+" "+o.Name)
		}
	}
	for service := range s.Endpoints {
		names = append(names, "Endpoints "+service.String())
	}
	slices.Sort(names)
	return names
}

func wantContents(t *testing.T, s *manifest.Set, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := contents(s); !slices.Equal(got, want) {
		t.Errorf("objects %q, want %q", got, want)
	}
}

// wantProblems compares Problems with "source reason effect: part of the message".
func wantProblems(t *testing.T, s *manifest.Set, want ...string) {
	t.Helper()
	ok := len(want) == len(s.Problems)
	for i := 0; ok && i < len(want); i++ {
		p := s.Problems[i]
		head, message, _ := strings.Cut(want[i], ": ")
		ok = head == fmt.Sprintf("%s %s %s", p.Source, p.Reason, p.Effect) && strings.Contains(p.Message, message)
	}
	if !ok {
		var got []string
		for _, p := range s.Problems {
			got = append(got, p.String())
		}
		t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const service = "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: 80}]}\n"

func TestReadEveryKind(t *testing.T) {
	s := read(t, folder(map[string]string{
		"all.yaml": `
# A comment first.
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {rules: [{host: a.example}]}
--- # another
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: podlane, namespace: ignored}
spec: {controller: podlane.dev/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
...
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: other}
`,
		"sub/dir/more.yml": `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: tls}, data: {a: aHVzaA==}, stringData: {b: hush}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {a: b}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-2, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  endpoints: [{addresses: [10.0.0.1]}]
  ports: [{port: 8080}]
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: []}
`,
		"objects.json": "{\n\t\"apiVersion\": \"v1\", \"kind\": \"EndpointsList\", \"items\": [{\"metadata\": {\"name\": \"web\"}, \"subsets\": []}]\n}\n",
		"stream.json":  `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}} {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "two"}}`,
		"README.md":    "kind: Nothing",
		".hidden.yaml": "broken: [", ".git/x.yaml": "broken: [",
		"kustomization.yaml": "resources: [all.yaml]", "empty.yaml": "# nothing\n---\n", "bom.yaml": "\ufeffapiVersion: v1\nkind: Service\nmetadata: {name: bom}\n",
		"crlf.yaml": "apiVersion: v1\r\nkind: Service\r\nmetadata: {name: crlf}\r\n---\r\napiVersion: v1\r\nkind: Service\r\nmetadata: {name: crlf2}\r\n",
	}))
	wantProblems(t, s)
	wantContents(t, s, "Ingress shop/web", "IngressClass podlane", "Service default/web", "Secret default/tls", "ConfigMap default/conf",
		"EndpointSlice default/web web-1", "EndpointSlice default/web web-2", "Endpoints default/web", "Service default/one", "Service default/two",
		"Service default/bom", "Service default/crlf", "Service default/crlf2")
	if !s.Complete() {
		t.Error("not complete")
	}
	if list := s.Slices[router.Service{Namespace: "default", Name: "web"}]; list[0].Name != "web-1" {
		t.Error("slices are not sorted by name")
	}
	if data := s.Snapshot.Secrets[0].Data; string(data["a"]) != "hush" || string(data["b"]) != "hush" {
		t.Errorf("Secret data %q", data)
	}
	for _, o := range s.Snapshot.Services {
		for _, p := range o.Spec.Ports {
			if p.Protocol != "TCP" || p.TargetPort.IntValue() != int(p.Port) || o.Spec.Type != "ClusterIP" {
				t.Errorf("Service %s has no defaults: %+v", o.Name, o.Spec)
			}
		}
	}
}

func TestBrokenDocuments(t *testing.T) {
	good := fmt.Sprintf(service, "good")
	s := read(t, folder(map[string]string{
		"a.yaml":  good + "---\nkind: Ingress\n  metadata: [\n---\n" + fmt.Sprintf(service, "after"),
		"b.yaml":  "- just\n- a list\n",
		"c.yaml":  "just text",
		"d.yaml":  "apiVersion: v1\nkind: Service\nmetadata:\n  name: 7\n",
		"e.yaml":  "apiVersion: v1\nkind: Service\nmetadata: {name: e}\nspec:\n  type: ClusterIP\n  ports:\n  - port: eighty\n",
		"e2.yaml": "apiVersion: v1\nkind: Service\nmetadata:\n  name: e\n  annotations:\n    yes: y\n",
		"f.yaml":  "apiVersion: v1\nkind: Service\nspec: {}\n",
		"g.yaml":  "apiVersion: v1\nkind: Secret\nmetadata: {name: g}\ndata:\n  tls.crt: '!!! hush !!!'\n",
		"h.yaml":  "metadata: {name: values}\nreplicas: 3\n",
		"i.yaml":  "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: i}\n",
		"j.yaml":  "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: j}\naddressType: IPv4\n",
		"k.yaml":  "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: k, labels: {kubernetes.io/service-name: k}}\n",
		"l.yaml":  "apiVersion: v1\nkind: Service\nmetadata: {name: l}\nspec: {ports: [{port: 1, name: a}, {port: 2}]}\n",
		"m.yaml":  "replicas: {{ .Values.replicas }}\n",
		"n.json":  "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Service\"\n  \"metadata\": {}\n}\n",
	}))
	wantContents(t, s, "Service default/good", "Service default/after")
	wantProblems(t, s,
		"a.yaml:7 ManifestInvalid RouteDropped: mapping values are not allowed in this context",
		"b.yaml:1 ManifestInvalid RouteDropped: the document cannot be of type array",
		"c.yaml:1 ManifestInvalid RouteDropped: the document cannot be of type string",
		"d.yaml:4 ManifestInvalid RouteDropped: metadata.name cannot be of type number",
		"e.yaml:6 ManifestInvalid RouteDropped: Service default/e: spec.ports.port has a string where a int32 belongs",
		"e2.yaml:5 ManifestInvalid RouteDropped: Service default/e: metadata.annotations has a bool where a string belongs: quote it",
		"f.yaml:1 ManifestInvalid RouteDropped: Service has no metadata.name",
		"g.yaml:1 ManifestInvalid RouteDropped: Secret default/g: illegal base64 data",
		"h.yaml:1 NotManifest Notice: no apiVersion and kind",
		"i.yaml:1 OldVersion RouteDropped: write apiVersion: discovery.k8s.io/v1",
		"j.yaml:3 NoService Ignored: kubernetes.io/service-name",
		"k.yaml:1 ManifestInvalid RouteDropped: addressType is missing",
		"l.yaml:1 ManifestInvalid RouteDropped: spec.ports[1].name is missing",
		"m.yaml:1 ManifestInvalid RouteDropped: is it a template",
		"n.json:3 ManifestInvalid RouteDropped: did not find expected ',' or '}'",
	)
	if s.Complete() {
		t.Error("complete, in spite of broken documents")
	}
	for _, p := range s.Problems {
		if strings.Contains(p.Message, "hush") || strings.Contains(p.Message, "\n") {
			t.Errorf("the message %q has a Secret's data, or lines", p.Message)
		}
	}
}

func TestUnknownFields(t *testing.T) {
	s := read(t, folder(map[string]string{"a.yaml": `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
spec:
  rulez: []
  rules:
  - host: a.example
    http:
      paths:
      - path: /
        backend:
          serviceName: web
          servicePort: 80
---
apiVersion: v1
kind: Service
metadata: {name: web}
metadata: {name: web2}
`}))
	wantContents(t, s, "Ingress default/web", "Service default/web2")
	wantProblems(t, s,
		`a.yaml:14 UnknownField Notice: unknown field "spec.rules[0].http.paths[0].backend.serviceName"`,
		`a.yaml:15 UnknownField Notice: unknown field "spec.rules[0].http.paths[0].backend.servicePort"`,
		`a.yaml:7 UnknownField Notice: unknown field "spec.rulez"`,
		`a.yaml:20 UnknownField Notice: key "metadata" already set in map: the last one counts`,
	)
	if !s.Complete() {
		t.Error("unknown fields make it incomplete")
	}
}

func TestOldIngress(t *testing.T) {
	for _, version := range []string{"extensions/v1beta1", "networking.k8s.io/v1beta1"} {
		s := read(t, folder(map[string]string{"old.yaml": `apiVersion: ` + version + `
kind: Ingress
metadata: {name: goweb-ingress}
spec:
  backend: {serviceName: fallback, servicePort: http}
  tls: [{hosts: [www.goweb.com], secretName: tls}]
  rules:
  - host: www.goweb.com
    http:
      paths:
      - path: /
        backend: {serviceName: goweb-svc, servicePort: 80}
      - path: /exact
        pathType: Exact
        backend: {serviceName: goweb-svc, servicePort: web}
      - backend: {resource: {kind: Bucket, name: b}}
  - host: nopaths.example
`}))
		wantProblems(t, s, "old.yaml:1 OldVersion Notice: write apiVersion: networking.k8s.io/v1; each path needs a pathType (Prefix, say), and serviceName and servicePort become backend: {service: {name: goweb-svc, port: {number: 80}}}; spec.backend is spec.defaultBackend now")
		table, problems := ingress.Build(ingress.Snapshot{Ingresses: s.Snapshot.Ingresses, Options: ingress.Options{EveryClass: true}}, nil)
		want := `host nopaths.example
  default -> default/fallback:http (ServiceNotFound); ingress default/goweb-ingress
host www.goweb.com
  Exact /exact -> default/goweb-svc:web (ServiceNotFound); ingress default/goweb-ingress
  Prefix / -> default/goweb-svc:80 (ServiceNotFound); ingress default/goweb-ingress
  default -> default/fallback:http (ServiceNotFound); ingress default/goweb-ingress
default -> default/fallback:http (ServiceNotFound); ingress default/goweb-ingress
certificate default/tls for www.goweb.com; ingress default/goweb-ingress; unusable
`
		if table.String() != want {
			t.Errorf("%s became\n%s", version, table)
		}
		// Where a field has another name today, the line is that of what is nearest.
		for _, tt := range []struct{ field, want string }{
			{"spec.rules[0].http.paths[1].backend.service.name", "old.yaml:15"},
			{"spec.rules[0].http.paths[2].backend.resource", "old.yaml:16"},
			{"spec.defaultBackend", "old.yaml:4"},
		} {
			p := problems[0]
			p.Field = tt.field
			if got := s.Locate(p).Source; got != tt.want {
				t.Errorf("%s is at %s, want %s", tt.field, got, tt.want)
			}
		}
	}
}

func TestOldIngressClass(t *testing.T) {
	s := read(t, folder(map[string]string{"old.yaml": "apiVersion: networking.k8s.io/v1beta1\nkind: IngressClass\nmetadata: {name: nginx}\nspec: {controller: k8s.io/ingress-nginx}\n"}))
	wantContents(t, s, "IngressClass nginx")
	wantProblems(t, s, "old.yaml:1 OldVersion Notice: write apiVersion: networking.k8s.io/v1")
	if got := s.Snapshot.Classes[0].Spec.Controller; got != "k8s.io/ingress-nginx" {
		t.Errorf("controller %q", got)
	}
}

func TestLocate(t *testing.T) {
	s := read(t, folder(map[string]string{"list.yaml": `---
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: v1
kind: List
items:
- kind: Namespace
  apiVersion: v1
- apiVersion: networking.k8s.io/v1
  kind: Ingress
  metadata:
    name: web
    annotations:
      podlane.dev/a.b: x
      podlane.dev/other: z
  spec:
    rules:
    - host: BAD
    - http:
        paths:
        - path: /
`}))
	wantProblems(t, s)
	object := ingress.Object{Kind: "Ingress", Namespace: "default", Name: "web", UID: "whatever"}
	for field, want := range map[string]string{
		"":                                     "list.yaml:11",
		"spec.rules[0].host":                   "list.yaml:20",
		"spec.rules[1].http.paths[0].path":     "list.yaml:23",
		"spec.rules[1].http.paths[0].pathType": "list.yaml:23",
		"spec.rules[9]":                        "list.yaml:19",
		"metadata.annotations[podlane.dev/other]": "list.yaml:17",
		"metadata.annotations[podlane.dev/a.b]":   "list.yaml:16",
		"spec.tls[0].secretName":                  "list.yaml:18",
	} {
		if got := s.Locate(ingress.Problem{Object: object, Field: field}).Source; got != want {
			t.Errorf("%q is at %q, want %q", field, got, want)
		}
	}
	unknown := ingress.Problem{Object: ingress.Object{Kind: "Option", Name: "--x"}}
	if got := s.Locate(unknown); got != unknown {
		t.Errorf("an object of no file was found: %v", got)
	}
	here := ingress.Problem{Object: object, Source: "elsewhere:1"}
	if got := s.Locate(here); got != here {
		t.Errorf("a Source was overwritten: %v", got)
	}
}

func TestAgeIsTheOrderOfFilesAndDocuments(t *testing.T) {
	const one = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: %s%s}\nspec: {rules: [{host: a.example}]}\n"
	f := folder(map[string]string{
		"b.yaml": fmt.Sprintf(one, "second", "") + "---\n" + fmt.Sprintf(one, "third", ""),
		"a.yaml": fmt.Sprintf(one, "first", ""),
		"c.yaml": fmt.Sprintf(one, "dated", ", uid: u, creationTimestamp: '2024-01-01T00:00:00Z'"),
	})
	s := read(t, f)
	var names []string
	for i, o := range s.Snapshot.Ingresses {
		names = append(names, o.Name)
		if i > 0 && !s.Snapshot.Ingresses[i-1].CreationTimestamp.Before(&o.CreationTimestamp) {
			t.Errorf("%s is not younger than the one before", o.Name)
		}
		if o.UID == "" {
			t.Errorf("%s has no UID", o.Name)
		}
	}
	if want := []string{"first", "second", "third", "dated"}; !slices.Equal(names, want) {
		t.Errorf("order %q", names)
	}
	if o := s.Snapshot.Ingresses[3]; o.UID != "u" || o.CreationTimestamp.Year() != 2024 {
		t.Errorf("what was written was overwritten: %v %v", o.UID, o.CreationTimestamp)
	}
}

func TestDuplicates(t *testing.T) {
	s := read(t, folder(map[string]string{
		"a.yaml": fmt.Sprintf(service, "web") + "---\n" + "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: other}\n",
		"b.yaml": "\n" + fmt.Sprintf(service, "web") + "---\n" + "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\n",
	}))
	wantContents(t, s, "Service default/web", "Service other/web")
	wantProblems(t, s,
		"b.yaml:4 DuplicateObject Ignored: Service default/web is in a.yaml:1 already",
		"b.yaml:9 DuplicateObject Ignored: Service default/web is in a.yaml:1 already")
}

func TestReaderKeepsWhatDidNotChange(t *testing.T) {
	const one = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: %s}\nspec: {rules: [{host: %s.example}]}\n"
	f := folder(map[string]string{"a.yaml": fmt.Sprintf(one, "a", "a"), "b.yaml": fmt.Sprintf(one, "b", "b"), "s.yaml": fmt.Sprintf(service, "web")})
	r := manifest.NewReader(f)
	first, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	f["b.yaml"] = &fstest.MapFile{Data: []byte(fmt.Sprintf(one, "b", "changed"))}
	second, _ := r.Read()
	if first.Snapshot.Ingresses[0] != second.Snapshot.Ingresses[0] || first.Snapshot.Services[0] != second.Snapshot.Services[0] {
		t.Error("objects of files that did not change are other pointers")
	}
	if first.Snapshot.Ingresses[1] == second.Snapshot.Ingresses[1] || second.Snapshot.Ingresses[1].Spec.Rules[0].Host != "changed.example" {
		t.Error("the change is not there")
	}
	// A file before the others makes them younger; the Set that somebody holds must not change.
	f["0.yaml"] = &fstest.MapFile{Data: []byte(fmt.Sprintf(one, "zero", "zero"))}
	age := second.Snapshot.Ingresses[0].CreationTimestamp
	third, _ := r.Read()
	if !second.Snapshot.Ingresses[0].CreationTimestamp.Equal(&age) {
		t.Error("an object of an earlier Set was changed")
	}
	if got := third.Snapshot.Ingresses[1]; got.Name != "a" || !age.Before(&got.CreationTimestamp) || first.Snapshot.Services[0] != third.Snapshot.Services[0] {
		t.Errorf("after a new first file: %s of %v", got.Name, got.CreationTimestamp)
	}
	// A broken file loses its objects only, and they come back.
	f["a.yaml"] = &fstest.MapFile{Data: []byte("a: [")}
	if broken, _ := r.Read(); broken.Complete() || len(broken.Snapshot.Ingresses) != 2 {
		t.Errorf("a broken file: %v", broken.Problems)
	}
	delete(f, "a.yaml")
	if gone, _ := r.Read(); !gone.Complete() || len(gone.Snapshot.Ingresses) != 2 {
		t.Errorf("a removed file: %v", gone.Problems)
	}
}

// TestLinks reads a folder that looks as kubelet mounts a ConfigMap: links to a folder with dots, which is replaced as a
// whole. Links in a circle, and links to nowhere, do no harm.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		_ = os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("..2026_01/web.yaml", fmt.Sprintf(service, "web"))
	write("..2026_01/sub/api.yaml", fmt.Sprintf(service, "api"))
	write("..2026_02/web.yaml", fmt.Sprintf(service, "web2"))
	link("..2026_01", "..data")
	link("..data/web.yaml", "web.yaml")
	link("..data/sub", "sub")
	link(".", "circle")
	link("nowhere", "dangling")
	r := manifest.NewReader(os.DirFS(dir))
	s, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	wantContents(t, s, "Service default/web", "Service default/api")
	wantProblems(t, s)
	link("..2026_02", "..data")
	s, _ = r.Read()
	wantContents(t, s, "Service default/web2")
	link("nowhere.yaml", "lost.yaml")
	s, _ = r.Read()
	wantProblems(t, s, "lost.yaml ManifestInvalid RouteDropped: no such file")
}

func TestUnreadable(t *testing.T) {
	if _, err := manifest.Read(os.DirFS(filepath.Join(t.TempDir(), "missing"))); err == nil {
		t.Error("a folder that is not there was read")
	}
	file := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.Read(os.DirFS(file)); err == nil {
		t.Error("a file was read as a folder")
	}
	big := folder(map[string]string{"ok.yaml": fmt.Sprintf(service, "web")})
	big["big.yaml"] = &fstest.MapFile{Data: make([]byte, manifest.MaxFile+1)}
	s := read(t, big)
	wantContents(t, s, "Service default/web")
	wantProblems(t, s, "big.yaml ManifestInvalid RouteDropped: more than the")
}

func FuzzRead(f *testing.F) {
	f.Add("apiVersion: v1\nkind: Service\nmetadata: {name: x}\n---\n[", "{}")
	f.Add("apiVersion: networking.k8s.io/v1beta1\nkind: Ingress\nmetadata: {name: x}\nspec: {rules: [{http: {paths: [{backend: {}}]}}]}\n", "kind: List\nitems: [1, {kind: List, items: []}]\n")
	f.Add("a: &a [*a]", "apiVersion: v1\nkind: EndpointsList\nitems: [null, {metadata: {name: x}}]\n--- x\n--- \n...\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		s, err := manifest.Read(folder(map[string]string{"a.yaml": a, "b.json": b, "z.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: neighbour, namespace: zz}\n"}))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(contents(s), "ConfigMap zz/neighbour") {
			t.Fatal("another file was lost")
		}
		for _, p := range s.Problems {
			name, line, ok := strings.Cut(p.Source, ":")
			if !ok || name != "a.yaml" && name != "b.json" && name != "z.yaml" || line == "" || line == "0" {
				t.Fatalf("source %q", p.Source)
			}
		}
		_, problems := ingress.Build(ingress.Snapshot{Ingresses: s.Snapshot.Ingresses, Services: s.Snapshot.Services, Options: ingress.Options{EveryClass: true}}, nil)
		for _, p := range problems {
			if s.Locate(p).Source == "" {
				t.Fatalf("no source for %s", p)
			}
		}
	})
}
