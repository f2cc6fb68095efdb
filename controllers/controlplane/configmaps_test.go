package controlplane

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/controllers"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/test/cluster"
)

func newConfigMap(name string, data ...string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{}}
	for i := 0; i < len(data); i += 2 {
		m.Data[data[i]] = data[i+1]
	}
	return m
}

// update replaces a ConfigMap.
func update(t *testing.T, c *cluster.Cluster, namespace string, m *corev1.ConfigMap) {
	t.Helper()
	must(t)(c.Client.CoreV1().ConfigMaps(namespace).Update(t.Context(), m, metav1.UpdateOptions{}))
}

// remove deletes a ConfigMap.
func remove(t *testing.T, c *cluster.Cluster, namespace, name string) {
	t.Helper()
	if err := c.Client.CoreV1().ConfigMaps(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// withHeaders returns an Ingress whose annotation names a ConfigMap.
func withHeaders(name, configMap string) *networkingv1.Ingress {
	i := newIngress(name, name+".example", "web")
	i.Annotations = map[string]string{"podlane.dev/custom-headers": configMap}
	return i
}

// naming lets annotations and the ConfigMap settings name ConfigMaps.
func naming(o controllers.Options, settings string) controllers.Options {
	o.Ingress.AnnotationPrefixes, o.Ingress.Settings = []string{"podlane.dev"}, settings
	o.Ingress.References = ingress.References{ConfigMapAnnotations: []string{"custom-headers"}, ConfigMapSettings: []string{"add-headers"}}
	return o
}

// seen returns the ConfigMaps of a namespace that Build was given last, as name=v.
func (r *replica) seen(namespace string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var got []string
	for _, c := range r.snapshot.ConfigMaps {
		if c.Namespace == namespace {
			got = append(got, c.Name+"="+c.Data["v"])
		}
	}
	slices.Sort(got)
	return got
}

// waitSeen waits until these are the ConfigMaps of a namespace that Build was given.
func (r *replica) waitSeen(t *testing.T, namespace string, want ...string) {
	t.Helper()
	cluster.Until(t, "the ConfigMaps that Build sees", func(context.Context) error {
		if got := r.seen(namespace); !slices.Equal(got, want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// says reports whether a line was logged.
func (r *replica) says(part string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.logged, func(line string) bool { return strings.Contains(line, part) })
}

// TestConfigMaps follows a ConfigMap that an annotation names, and the operator's, which is outside the namespaces that are watched.
func TestConfigMaps(t *testing.T) {
	c := server(t)
	ns, home, other := c.Namespace(t).Name, c.Namespace(t).Name, c.Namespace(t).Name
	create(t, c, ns, newService("web"), newSlice("web", 0, 1), newConfigMap("unwanted", "v", "0"))
	create(t, c, home, newConfigMap("one", "v", "1"), newConfigMap("two", "v", "2"))
	create(t, c, other, newConfigMap("foreign", "v", "1"))
	o := naming(lead(ns, "only"), home+"/settings")
	o.Namespaces = append(o.Namespaces, other)
	r := run(t, as(c, "podlane"), o)
	waitFor(t, "the leader", r.Leading)

	create(t, c, ns, withHeaders("web", "headers"), withHeaders("abroad", other+"/foreign"))
	waitFor(t, "the Ingresses", func() bool { return r.plane.has("web.example") && r.plane.has("abroad.example") })
	r.waitSeen(t, ns)
	create(t, c, ns, newConfigMap("headers", "v", "1"))
	r.waitSeen(t, ns, "headers=1")
	update(t, c, ns, newConfigMap("headers", "v", "2"))
	r.waitSeen(t, ns, "headers=2")
	remove(t, c, ns, "headers")
	r.waitSeen(t, ns)
	create(t, c, ns, newConfigMap("headers", "v", "3"))
	r.waitSeen(t, ns, "headers=3")

	create(t, c, home, newConfigMap("settings", "v", "a", "add-headers", "one"))
	r.waitSeen(t, home, "one=1", "settings=a")
	// What the form before names is at hand until this one is found to be good.
	update(t, c, home, newConfigMap("settings", "v", "b", "add-headers", home+"/two"))
	r.waitSeen(t, home, "one=1", "settings=b", "two=2")
	if got := r.seen(other); len(got) > 0 {
		t.Errorf("Build is given %q of a namespace that the Ingress may not name", got)
	}
	update(t, c, home, newConfigMap("settings", "v", "c", "allow-cross-namespace-resources", "true"))
	r.waitSeen(t, home, "settings=c", "two=2")
	r.waitSeen(t, other, "foreign=1")

	// A key that no family knows is said on the ConfigMap itself, as an Event.
	waitFor(t, "an Event on the operator's ConfigMap", func() bool {
		return slices.Contains(notes(t, c, home), "ConfigMap/settings UnsupportedSetting 1")
	})
	remove(t, c, home, "settings")
	r.waitSeen(t, home)
	update(t, c, ns, newConfigMap("headers", "v", "4"))
	r.waitSeen(t, ns, "headers=4")
	r.waitSeen(t, other)

	r.mu.Lock()
	defer r.mu.Unlock()
	fetched := 0
	for _, request := range r.configMaps {
		switch path, selector, _ := strings.Cut(request, " "); {
		case selector == "metadata.name=settings" && path == "/api/v1/namespaces/"+home+"/configmaps":
		case strings.HasSuffix(path, "/headers"), strings.HasSuffix(path, "/one"), strings.HasSuffix(path, "/two"), strings.HasSuffix(path, "/foreign"):
			fetched++
		default:
			t.Errorf("data was asked for by %q", request)
		}
	}
	if fetched != 7 {
		t.Errorf("%d fetches, want 7: one of each version that an Ingress or the settings named", fetched)
	}
}

// TestConfigMapsWithoutTheRight runs a replica that may read the operator's ConfigMap and no other.
func TestConfigMapsWithoutTheRight(t *testing.T) {
	c := server(t)
	ns, home := c.Namespace(t).Name, c.Namespace(t).Name
	var rules []rbacv1.PolicyRule
	for _, rule := range markers(t) {
		rule.Resources = slices.DeleteFunc(rule.Resources, func(r string) bool { return r == "configmaps" })
		rules = append(rules, rule)
	}
	grant := func(namespace string, rules ...rbacv1.PolicyRule) {
		must(t)(c.Client.RbacV1().Roles(namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "bare"}, Rules: rules}, metav1.CreateOptions{}))
		must(t)(c.Client.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "bare"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "bare"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "bare"}},
		}, metav1.CreateOptions{}))
	}
	grant(ns, rules...)
	grant(home, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"settings"}, Verbs: []string{"get", "list", "watch"}})
	create(t, c, ns, newService("web"), newSlice("web", 0, 1), newConfigMap("headers", "v", "1"), withHeaders("web", "headers"))
	create(t, c, home, newConfigMap("settings", "v", "a"))
	r := run(t, as(c, "bare"), naming(options(ns), home+"/settings"))
	if !r.plane.has("web.example") || !slices.Equal(r.seen(home), []string{"settings=a"}) || len(r.seen(ns)) > 0 {
		t.Errorf("the first Snapshot has %q and %q", r.seen(home), r.seen(ns))
	}
	if !r.says("ConfigMaps may not be listed") {
		t.Error("no line says that a right is missing")
	}
	update(t, c, home, newConfigMap("settings", "v", "b"))
	r.waitSeen(t, home, "settings=b")
}

// TestMemoryOfConfigMaps prints what a replica's heap grows by when all namespaces have ConfigMaps that nobody names.
func TestMemoryOfConfigMaps(t *testing.T) {
	c := server(t)
	ns := c.Namespace(t).Name
	const many, large = 1000, 32 << 10
	create(t, c, ns, newService("web"), newSlice("web", 0, 1), newConfigMap("headers", "v", "1"), withHeaders("web", "headers"))
	o := naming(options(ns), ns+"/settings")
	o.Namespaces = nil
	r := run(t, as(c, "podlane"), o)
	if got := r.seen(ns); !slices.Equal(got, []string{"headers=1"}) || r.Generation() != 1 {
		t.Errorf("the first table, generation %d, is built from %q", r.Generation(), got)
	}
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before, generation := heap(), r.Generation()
	parallel(many, func(i int) {
		create(t, c, ns, newConfigMap(fmt.Sprint("unwanted", i), "v", strings.Repeat("x", large)))
	})
	// What comes after them in the watch has come: so have they.
	update(t, c, ns, newConfigMap("headers", "v", "2"))
	r.waitSeen(t, ns, "headers=2")
	grown := heap() - before
	t.Logf("%d ConfigMaps of %d KiB that nobody names: %d KiB more heap", many, large>>10, grown>>10)
	if grown > many*large/4 {
		t.Errorf("%d bytes are held of ConfigMaps that nobody names", grown)
	}
	if g := r.Generation(); g > generation+1 {
		t.Errorf("generation %d, was %d: they rebuild the table", g, generation)
	}
}
