package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/controllers"
)

func targetOf(kind, name, version string) *target {
	return &target{kind: kind, name: types.NamespacedName{Namespace: "ns", Name: name}, version: version}
}

func TestJudge(t *testing.T) {
	live := func(version string) appliedObjectJSON {
		return appliedObjectJSON{Watched: true, Used: true, Live: &versionJSON{ResourceVersion: version}, Seen: &versionJSON{ResourceVersion: "99"}}
	}
	problem := func(reason, effect string) appliedObjectJSON {
		o := live("10")
		o.Problems = []problemJSON{{Reason: reason, Effect: effect, Message: "it is wrong"}}
		return o
	}
	with := func(o appliedObjectJSON, change func(*appliedObjectJSON)) appliedObjectJSON {
		change(&o)
		return o
	}
	i, s := targetOf("Ingress", "i", "10"), targetOf("Service", "s", "10")
	sliced := targetOf("Service", "s", "10")
	sliced.slices = map[string]string{"s-1": "20"}
	implied := targetOf("Secret", "x", "10")
	implied.implied = true
	unused := func(o *appliedObjectJSON) { o.Used = false }
	for name, tc := range map[string]struct {
		t    *target
		o    appliedObjectJSON
		want string
	}{
		"the version":                     {i, live("10"), "   "},
		"a newer one":                     {i, live("101"), "   "},
		"an older one":                    {i, live("9"), "pending  "},
		"none":                            {i, with(live(""), func(o *appliedObjectJSON) { o.Live = nil }), "pending  "},
		"versions that cannot be ordered": {i, live("x"), "pending  "},
		"a foreign Ingress":               {i, with(live("10"), unused), "  refused"},
		"one that was foreign":            {i, with(live("9"), unused), "pending  "},
		"another namespace":               {i, with(live("10"), func(o *appliedObjectJSON) { o.Watched = false }), "  refused"},
		"a refused one":                   {i, problem("PathConflict", "RouteDropped"), "  refused"},
		"a denied one":                    {i, problem("InvalidAnnotation", "RouteDenied"), "  refused"},
		"an effect of a later version":    {i, problem("InvalidAnnotation", "Kept"), "  refused"},
		"something missing":               {i, problem("ServiceMissing", "RouteDenied"), " doubtful "},
		"a warning":                       {i, problem("UnsupportedAnnotation", "Ignored"), "   "},
		"a notice":                        {i, problem("PathNormalized", "Notice"), "   "},
		"an unused Service":               {s, with(live("10"), unused), " doubtful "},
		"an unused Secret that is named":  {implied, with(live("9"), unused), "   "},
		"a Secret that is named":          {implied, live("9"), "pending  "},
		"endpoints that are missing":      {sliced, live("10"), "pending  "},
		"endpoints that are older":        {sliced, with(live("10"), func(o *appliedObjectJSON) { o.EndpointSlices = map[string]string{"s-1": "19"} }), "pending  "},
		"endpoints that are there":        {sliced, with(live("10"), func(o *appliedObjectJSON) { o.EndpointSlices = map[string]string{"s-1": "20"} }), "   "},
	} {
		v := tc.t.judge(&tc.o)
		word := func(is, what string) string {
			if is == "" {
				return ""
			}
			return what
		}
		got := word(v.pending, "pending") + " " + word(v.doubtful, "doubtful") + " " + word(v.refused, "refused")
		if strings.TrimSpace(got) != strings.TrimSpace(tc.want) {
			t.Errorf("%s: %+v, want %q", name, v, tc.want)
		}
	}
	for _, tc := range []struct {
		o    appliedObjectJSON
		done bool
	}{{live("10"), false}, {appliedObjectJSON{Seen: &versionJSON{}}, false}, {appliedObjectJSON{}, true}} {
		if v := i.judgeGone(&tc.o); (v == verdict{}) != tc.done {
			t.Errorf("%+v: %+v, want it to be gone: %t", tc.o, v, tc.done)
		}
	}
}

func TestWhatAnIngressNames(t *testing.T) {
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "i", Annotations: map[string]string{"podlane.dev/auth-secret": "users"}}}
	backend := func(service string) networkingv1.IngressBackend {
		return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service}}
	}
	other := backend("default")
	i.Spec.DefaultBackend = &other
	i.Spec.TLS = []networkingv1.IngressTLS{{SecretName: "tls"}, {}}
	i.Spec.Rules = []networkingv1.IngressRule{{}, {IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
		Paths: []networkingv1.HTTPIngressPath{{Backend: backend("web")}, {Backend: backend("web")}, {}},
	}}}}
	var got []string
	for _, n := range namedBy(i) {
		if !n.implied {
			t.Errorf("%s counts as asked for", n)
		}
		got = append(got, n.String())
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"secret ns/tls", "secret ns/users", "service ns/default", "service ns/web"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTargets(t *testing.T) {
	for written, want := range map[string]string{
		"ingress/a": "ingress ns/a", "ing/a": "ingress ns/a", "ingresses.networking.k8s.io/a": "ingress ns/a",
		"svc/a": "service ns/a", "Secret/a": "secret ns/a", "cm/a": "configmap ns/a",
	} {
		if got, err := parseTarget(written, "ns"); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v, want %s", written, got, err, want)
		}
	}
	for _, bad := range []string{"", "a", "ingress/", "ingress/a/b", "pod/a", "/a"} {
		if got, err := parseTarget(bad, "ns"); err == nil || !strings.Contains(err.Error(), "ingress/NAME") {
			t.Errorf("%q: %v, %v, want an error that says what to write", bad, got, err)
		}
	}
	file := filepath.Join(t.TempDir(), "all.yaml")
	write(t, file, ingressOf("web", "a.example", "/", "web")+"---\n"+serviceOf("web", 80)+`---
# nothing
---
{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}]}
---
apiVersion: example.com/v1
kind: Ingress
metadata: {name: another}
`)
	found, others, err := targetsIn(file, "here")
	must(t, err)
	var names []string
	for _, f := range found {
		names = append(names, f.String())
	}
	if diff := cmp.Diff([]string{"ingress default/web", "service default/web", "secret here/s"}, names); diff != "" || others != 3 {
		t.Errorf("%d others, want the slice, the Pod and the foreign kind (-want +got):\n%s", others, diff)
	}
	if _, _, err := targetsIn(file+"x", ""); err == nil || !strings.Contains(err.Error(), "--filename") {
		t.Errorf("a file that is not there: %v", err)
	}
	write(t, file, "a: [")
	if _, _, err := targetsIn(file, ""); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file that is no YAML: %v", err)
	}
}

func TestQuestionsAreBounded(t *testing.T) {
	var targets []*target
	for n := range 250 {
		targets = append(targets, targetOf("Ingress", fmt.Sprint(n, strings.Repeat("x", n)), "1"))
	}
	var asked []string
	for rest := targets; len(rest) > 0; {
		n, query := question(rest)
		if n == 0 || n > maxAsked || len(query) > maxQuery {
			t.Fatalf("%d objects in %d bytes", n, len(query))
		}
		values, err := url.ParseQuery(query)
		must(t, err)
		asked = append(asked, values["object"]...)
		rest = rest[n:]
	}
	if len(asked) != 250 || asked[249] != "Ingress/ns/249"+strings.Repeat("x", 249) {
		t.Errorf("%d objects were asked for", len(asked))
	}
}

func TestProgressIsSaidAfterAMoment(t *testing.T) {
	var b strings.Builder
	p := newProgress(&b)
	if p.say("soon"); b.String() != "" {
		t.Errorf("said %q at once", b.String())
	}
	p.since = time.Now().Add(-time.Minute)
	p.say("this\nthing")
	p.say("another")
	if b.String() != "waiting: this thing\n" || p.last != "another" {
		t.Errorf("said %q, last %q", b.String(), p.last)
	}
}

func TestWaitMistakes(t *testing.T) {
	kubeconfig := apiServer(t, nil)
	for args, want := range map[string]string{
		"wait":                                  "name what to wait for",
		"wait pod/x":                            "does not serve objects of that kind",
		"wait --for=ready ingress/x":            "--for: \"ready\" is not known",
		"wait --timeout=-1s ingress/x":          "--timeout: -1s is negative",
		"wait --admin-port=70000 ingress/x":     "--admin-port",
		"wait --selector= ingress/x":            "--selector: it is empty",
		"wait --admin ftp://x -n a ingress/x":   "--admin: \"ftp://x\"",
		"wait -o yaml ingress/x":                "write table or json",
		"wait --admin http://127.0.0.1:1 ing/x": "there is no ingress ns/x in the cluster",
	} {
		code, stdout, stderr := podlane(t, append(strings.Fields(args), "--kubeconfig", kubeconfig)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, %q, want %q", args, code, stdout, stderr, want)
		}
	}
}

func TestAppliedPage(t *testing.T) {
	p := somePages()
	p.synced = func() time.Time { return time.Now().Add(-time.Minute) }
	if answer := fetch(p.private(), "GET", "localhost", "/debug/applied?object=Ingress/a/b"); answer.StatusCode != 404 {
		t.Errorf("without a cluster: %d, want 404", answer.StatusCode)
	}
	p.applied = func(kind string, name types.NamespacedName) (controllers.Applied, error) {
		if kind != "Ingress" {
			return controllers.Applied{}, fmt.Errorf("nothing is known of %s", kind)
		}
		return controllers.Applied{Generation: 3, Watched: true, Used: name.Name == "b", Live: controllers.Version{UID: "u", ResourceVersion: "7"}}, nil
	}
	want := `{"syncedSecondsAgo":60,"objects":[{"kind":"Ingress","namespace":"a","name":"b","table":3,"watched":true,"used":true,"live":{"uid":"u","resourceVersion":"7"}}]}`
	var got bytes.Buffer
	must(t, json.Compact(&got, []byte(bodyOf(t, fetch(p.private(), "GET", "localhost", "/debug/applied?object=Ingress/a/b&format=json")))))
	if text := regexp.MustCompile(`60\.\d+`).ReplaceAllString(got.String(), "60"); text != want {
		t.Errorf("%s, want %s", text, want)
	}
	if text := bodyOf(t, fetch(p.private(), "GET", "localhost", "/debug/applied?object=Ingress/a/b")); !strings.Contains(text, "Ingress a/b  none  7     true  3      0") || !strings.Contains(text, "60 seconds ago") {
		t.Errorf("text:\n%s", text)
	}
	for _, bad := range []string{"", "?object=x", "?object=Pod/a/b", "?object=Ingress/a/b&format=x", "?" + strings.Repeat("object=Ingress/a/b&", 101)} {
		if answer := fetch(p.private(), "GET", "localhost", "/debug/applied"+bad); answer.StatusCode != 400 {
			t.Errorf("%.40q: %d, want 400", bad, answer.StatusCode)
		}
	}
}
