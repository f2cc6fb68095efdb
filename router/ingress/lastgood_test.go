package ingress_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router/ingress"
)

// history is one cluster through its changes, built twice: by a Builder that remembers, and each time from nothing.
type history struct {
	t       *testing.T
	builder *ingress.Builder
	good    *ingress.LastGood
	now     time.Time
	s       ingress.Snapshot
}

// step is what the cluster came to after a change.
type step struct{ table, problems string }

const lastGoodObjects = `
kind: Ingress
metadata: {name: web, uid: "1", annotations: {podlane.dev/guard-by: dog}}
spec:
  tls: [{hosts: [www.example], secretName: tls}]
  rules: [{host: www.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
kind: Ingress
metadata: {name: other, uid: "2"}
spec:
  rules: [{host: other.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
kind: ConfigMap
metadata: {name: settings, uid: "3"}
data: {limit-rps: "7"}
---
kind: ConfigMap
metadata: {name: headers}
data: {X-A: "1"}
`

func newHistory(t *testing.T) *history {
	t.Helper()
	h := &history{t: t, builder: ingress.NewBuilder(testFamilies()), good: &ingress.LastGood{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	h.s = parseYAML(t, []byte(lastGoodObjects))
	h.s.Options = testOptions()
	h.s.Options.Settings = "default/settings"
	return h
}

// build builds the cluster as it is now, a minute later.
func (h *history) build() step {
	h.t.Helper()
	h.now = h.now.Add(time.Minute)
	h.s.LastGood, h.s.Taken = h.good, h.now
	table, problems := h.builder.Build(h.s)
	fresh, freshProblems := ingress.Build(h.s, testFamilies())
	if text(table) != text(fresh) || !slices.Equal(problems, freshProblems) {
		h.t.Errorf("Builder:\n%s%s\nBuild:\n%s%s", table, problemText(problems), fresh, problemText(freshProblems))
	}
	h.builder.Remember(h.good)
	return step{table.String(), problemText(problems)}
}

// edit replaces an Ingress by a changed copy.
func (h *history) edit(name string, change func(*networkingv1.Ingress)) {
	for n, i := range h.s.Ingresses {
		if i.Name == name {
			next := i.DeepCopy()
			change(next)
			h.s.Ingresses = slices.Clone(h.s.Ingresses)
			h.s.Ingresses[n] = next
		}
	}
}

// set replaces the data of a ConfigMap by pairs of keys and values.
func (h *history) set(name string, data ...string) {
	for n, c := range h.s.ConfigMaps {
		if c.Name == name {
			next := c.DeepCopy()
			next.Data = map[string]string{}
			for i := 0; i < len(data); i += 2 {
				next.Data[data[i]] = data[i+1]
			}
			h.s.ConfigMaps = slices.Clone(h.s.ConfigMaps)
			h.s.ConfigMaps[n] = next
		}
	}
}

func annotate(pairs ...string) func(*networkingv1.Ingress) {
	return func(i *networkingv1.Ingress) {
		i.Annotations = map[string]string{}
		for n := 0; n < len(pairs); n += 2 {
			i.Annotations["podlane.dev/"+pairs[n]] = pairs[n+1]
		}
	}
}

func (h *history) want(got step, table string, problems ...string) {
	h.t.Helper()
	if got.table != table {
		h.t.Errorf("the table is\n%swant\n%s", got.table, table)
	}
	for _, p := range problems {
		if !strings.Contains(got.problems, p) {
			h.t.Errorf("no Problem has %q:\n%s", p, got.problems)
		}
	}
	if len(problems) == 0 && got.problems != "" {
		h.t.Errorf("there are Problems:\n%s", got.problems)
	}
}

// TestBrokenIngressIsHeld breaks an Ingress in every way in which one can be, while something else of it changes: it stays as it was.
func TestBrokenIngressIsHeld(t *testing.T) {
	many := func(i *networkingv1.Ingress) {
		http := i.Spec.Rules[0].HTTP
		for range ingress.MaxPaths {
			http.Paths = append(http.Paths, http.Paths[0])
		}
	}
	for name, test := range map[string]struct {
		change func(*networkingv1.Ingress)
		says   string
	}{
		"value":     {annotate("guard-by", "cat"), `podlane.dev/guard-by]: InvalidAnnotation (Kept): guard-by: "cat" is not valid: write "dog"; until it is corrected the whole Ingress is served as it was before, since 2026-01-02T03:06:05Z, `},
		"crash":     {annotate("guard-by", "dog", "crash", "x"), `podlane.dev/crash]: PolicyFailed (Kept): Podlane failed to read the crash annotations (panic: index out of range): please report it; until`},
		"paths":     {many, "spec.rules: TooLarge (Kept): there are 1001 paths"},
		"too large": {annotate("guard-by", "dog", "big", strings.Repeat("x", ingress.MaxAnnotations)), "metadata.annotations: TooLarge (Kept)"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			first := h.build()
			h.want(first, first.table, "SecretMissing")
			h.edit("web", func(i *networkingv1.Ingress) {
				test.change(i)
				i.Spec.Rules[0].Host = "elsewhere.example" // not even this comes into effect
			})
			h.want(h.build(), first.table, test.says, "SecretMissing")
			if h.good.Held() != 1 {
				t.Errorf("%d objects are held", h.good.Held())
			}
			// Another mistake, and a change elsewhere, make it no younger.
			h.edit("other", annotate("limit-rps", "5"))
			h.edit("web", func(i *networkingv1.Ingress) { i.Annotations["podlane.dev/guard-by"] = "bird" })
			got := h.build()
			if !strings.Contains(got.problems, "since 2026-01-02T03:06:05Z") || !strings.Contains(got.table, "www.example") || !strings.Contains(got.table, "guard dog") {
				t.Errorf("got\n%s\n%s", got.table, got.problems)
			}
			// Corrected, all of the new form comes into effect.
			h.edit("web", annotate("guard-by", "dog"))
			h.edit("web", func(i *networkingv1.Ingress) { i.Spec.Rules[0].HTTP.Paths = i.Spec.Rules[0].HTTP.Paths[:1] })
			if got := h.build(); strings.Contains(got.problems, "Kept") || !strings.Contains(got.table, "elsewhere.example") || h.good.Held() != 0 {
				t.Errorf("got\n%s\n%s", got.table, got.problems)
			}
		})
	}
}

// TestBrokenIngressIsClosed has the cases in which an earlier form must not stand in.
func TestBrokenIngressIsClosed(t *testing.T) {
	const denied = "(RouteDenied)"
	for name, change := range map[string]func(h *history){
		"there was no guard before": func(h *history) {
			h.edit("web", annotate())
			h.build()
			h.edit("web", annotate("guard-by", "cat"))
		},
		"a guard is asked for that was not there": func(h *history) {
			h.edit("web", annotate("guard-by", "cat", "custom-headers", "headers"))
		},
		"a value names what is not there": func(h *history) {
			h.edit("web", annotate("guard-by", "cat", "custom-headers", "missing"))
		},
		"only what a value names is missing": func(h *history) {
			h.edit("web", annotate("guard-by", "dog", "custom-headers", "headers"))
			h.build()
			h.edit("web", annotate("guard-by", "dog", "custom-headers", "missing"))
		},
		"it is another Ingress of the name": func(h *history) {
			h.edit("web", func(i *networkingv1.Ingress) { annotate("guard-by", "cat")(i); i.UID = "9" })
		},
		"it was gone in between": func(h *history) {
			web := h.s.Ingresses[0]
			h.s.Ingresses = h.s.Ingresses[1:]
			h.build()
			h.s.Ingresses = append(slices.Clone(h.s.Ingresses), web)
			h.edit("web", annotate("guard-by", "cat"))
		},
		"the earlier form is forbidden now": func(h *history) {
			h.edit("web", annotate("guard-by", "cat"))
			h.set("settings", "word-blocklist", "dog,cat")
		},
		"Podlane has started anew": func(h *history) {
			h.builder, h.good = ingress.NewBuilder(testFamilies()), &ingress.LastGood{}
			h.edit("web", annotate("guard-by", "cat"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			h.build()
			change(h)
			got := h.build()
			if strings.Contains(got.problems, "Kept") || !strings.Contains(got.problems, denied) || !strings.Contains(got.table, "denied") {
				t.Errorf("got\n%s\n%s", got.table, got.problems)
			}
		})
	}
}

// TestHeldIngressFollowsTheRest checks that what is held is its text only: the objects that it names are those of now.
func TestHeldIngressFollowsTheRest(t *testing.T) {
	h := newHistory(t)
	h.edit("web", annotate("guard-by", "dog", "custom-headers", "headers"))
	h.build()
	h.edit("web", annotate("guard-by", "cat", "custom-headers", "headers"))
	if got := h.build(); !strings.Contains(got.problems, "Kept") || !strings.Contains(got.table, "map[X-A:1]") {
		t.Fatalf("got\n%s\n%s", got.table, got.problems)
	}
	h.set("headers", "X-A", "2")
	if got := h.build(); !strings.Contains(got.problems, "Kept") || !strings.Contains(got.table, "map[X-A:2]") {
		t.Errorf("got\n%s\n%s", got.table, got.problems)
	}
	// What it names goes: closed, as ever.
	h.s.ConfigMaps = h.s.ConfigMaps[:1]
	if got := h.build(); !strings.Contains(got.problems, "ConfigMapMissing (RouteDenied)") || !strings.Contains(got.table, "denied") {
		t.Errorf("got\n%s\n%s", got.table, got.problems)
	}
}

// TestBrokenSettingsAreHeld does the same with the operator's ConfigMap, whose mistakes would close every route.
func TestBrokenSettingsAreHeld(t *testing.T) {
	h := newHistory(t)
	h.set("settings", "guards", "dog", "limit-rps", "7")
	first := h.build()
	h.set("settings", "guards", "cat", "limit-rps", "8")
	h.want(h.build(), first.table, `data.guards: InvalidSetting (Kept): guard-by: "cat" is not valid: write "dog"; until it is corrected the whole ConfigMap holds as it was before, since 2026-01-02T03:06:05Z`)
	h.edit("other", func(i *networkingv1.Ingress) { i.Labels = map[string]string{"a": "b"} })
	h.set("settings", "guards", "bird", "limit-rps", "8")
	h.want(h.build(), first.table, "since 2026-01-02T03:06:05Z")
	h.set("settings", "guards", "dog", "limit-rps", "8")
	if got := h.build(); strings.Contains(got.problems, "Kept") || !strings.Contains(got.table, "RPS:8") {
		t.Errorf("got\n%s\n%s", got.table, got.problems)
	}
	// There never was a good value.
	h = newHistory(t)
	h.build()
	h.set("settings", "guards", "cat")
	if got := h.build(); !strings.Contains(got.problems, "(RouteDenied)") || strings.Contains(got.problems, "Kept") {
		t.Errorf("got\n%s\n%s", got.table, got.problems)
	}
	// An Ingress's guard stands behind the operator's, which is not there any more.
	h.set("settings", "guards", "dog")
	h.build()
	h.set("settings")
	h.build()
	h.set("settings", "guards", "cat")
	if got := h.build(); !strings.Contains(got.problems, "(RouteDenied)") {
		t.Errorf("got\n%s\n%s", got.table, got.problems)
	}
}

// TestPanicCostsOneIngress makes the reading of one Ingress panic: it alone is refused, or held where it was good before.
func TestPanicCostsOneIngress(t *testing.T) {
	h := newHistory(t)
	first := h.build()
	h.builder.Break(types.NamespacedName{Namespace: "default", Name: "poison"})
	poison := func(i *networkingv1.Ingress) { i.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name = "poison" }
	h.edit("web", poison)
	h.s.LastGood, h.s.Taken = h.good, h.now
	table, problems := h.builder.Build(h.s)
	h.builder.Remember(h.good)
	h.want(step{table.String(), problemText(problems)}, first.table, "Ingress default/web spec: PolicyFailed (Kept): Podlane failed to read the Ingress (panic: broken): please report it; until it is corrected")
	h.edit("web", func(i *networkingv1.Ingress) { i.UID = "9" })
	h.s.LastGood = h.good
	table, problems = h.builder.Build(h.s)
	if got := table.String(); strings.Contains(got, "www.example") || !strings.Contains(got, "other.example") {
		t.Errorf("the table is\n%s", got)
	}
	if got := problemText(problems); !strings.Contains(got, "PolicyFailed (RouteDropped)") {
		t.Errorf("the Problems are\n%s", got)
	}
}

// TestPanicCostsOneHost makes the merging of one host panic: it stays as it was, under each of its names, and others follow their Ingresses.
func TestPanicCostsOneHost(t *testing.T) {
	h := newHistory(t)
	h.edit("web", annotate("guard-by", "dog", "server-alias", "alias.example"))
	h.build()
	h.builder.Poison(types.NamespacedName{Namespace: "default", Name: "web"})
	// Another Ingress of the host, and a host of its own.
	h.edit("other", func(i *networkingv1.Ingress) {
		i.Spec.Rules = append(i.Spec.Rules, *i.Spec.Rules[0].DeepCopy(), *i.Spec.Rules[0].DeepCopy())
		i.Spec.Rules[1].Host, i.Spec.Rules[1].HTTP.Paths[0].Path = "www.example", "/new"
		i.Spec.Rules[2].Host = "third.example"
	})
	// And one that gives it a further name, which nothing stands in for.
	h.s.Ingresses = append(h.s.Ingresses, parseYAML(t, []byte(`
kind: Ingress
metadata: {name: more, uid: "4", annotations: {podlane.dev/server-alias: fresh.example}}
spec:
  rules: [{host: www.example, http: {paths: [{path: /more, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
`)).Ingresses...)
	h.s.LastGood, h.s.Taken = h.good, h.now
	table, problems := h.builder.Build(h.s)
	if _, ok := table.Lookup("fresh.example", "/"); ok {
		t.Error("a name of the host that cannot be merged is served")
	}
	for host, want := range map[string]string{"www.example": "default/web", "alias.example": "default/web", "third.example": "default/other", "other.example": "default/other"} {
		route, ok := table.Lookup(host, "/new")
		if !ok || route.ID.Namespace+"/"+route.ID.Ingress != want {
			t.Errorf("%s is served by %v, want %s", host, route, want)
		}
	}
	for _, about := range []string{"Ingress default/web spec.rules: PolicyFailed (Kept)", "Ingress default/other spec.rules: PolicyFailed (Kept)", "host alias.example (panic", "Ingress default/more spec.rules: PolicyFailed (RouteDropped): Podlane failed to merge what Ingresses say about host fresh.example"} {
		if got := problemText(problems); !strings.Contains(got, about) {
			t.Errorf("no Problem has %q:\n%s", about, got)
		}
	}
}

// TestReferencesOfHeldForms checks that what an earlier form names is asked for as long as it may be needed.
func TestReferencesOfHeldForms(t *testing.T) {
	h := newHistory(t)
	h.s.Options.References = ingress.ReferencesOf(testFamilies())
	h.edit("web", annotate("guard-by", "dog", "custom-headers", "old"))
	h.s.ConfigMaps[1].Name = "old"
	h.set("settings", "guards", "dog", "add-headers", "global-old")
	h.s.ConfigMaps = append(h.s.ConfigMaps, parseYAML(t, []byte("kind: ConfigMap\nmetadata: {name: global-old}\n")).ConfigMaps...)
	h.build()
	h.edit("web", func(i *networkingv1.Ingress) {
		annotate("guard-by", "cat", "custom-headers", "new")(i)
		i.Spec.TLS[0].SecretName = "new"
	})
	h.set("settings", "guards", "cat", "add-headers", "global-new")
	h.s.LastGood = h.good
	names := func(refs []types.NamespacedName) (list []string) {
		for _, r := range refs {
			list = append(list, r.Name)
		}
		return list
	}
	if got, want := names(ingress.SecretRefs(h.s)), []string{"new", "tls"}; !slices.Equal(got, want) {
		t.Errorf("Secrets %q, want %q", got, want)
	}
	if got, want := names(ingress.ConfigMapRefs(h.s)), []string{"global-new", "global-old", "new", "old", "settings"}; !slices.Equal(got, want) {
		t.Errorf("ConfigMaps %q, want %q", got, want)
	}
	h.edit("web", annotate("guard-by", "dog"))
	h.set("settings")
	h.s.LastGood, h.s.Taken = h.good, h.now
	h.builder.Build(h.s)
	if released := h.builder.Remember(h.good); !slices.Equal(names(released), []string{"web", ""}) {
		t.Errorf("released %v", released)
	}
	if got, want := names(ingress.SecretRefs(h.s)), []string{"new"}; !slices.Equal(got, want) {
		t.Errorf("Secrets %q, want %q", got, want)
	}
}
