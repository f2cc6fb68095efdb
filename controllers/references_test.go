package controllers

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router/ingress"
)

// newReferring returns a fixture whose annotations and settings can name objects.
func newReferring(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t, newTable)
	o := &f.mirror.options.Ingress
	o.AnnotationPrefixes, o.Settings = []string{"podlane.dev"}, "system/settings"
	o.References = ingress.References{
		SecretAnnotations: []string{"auth-tls-secret"}, ConfigMapAnnotations: []string{"custom-headers"}, ConfigMapSettings: []string{"add-headers"},
	}
	return f
}

func configMap(namespace, name, version string, data ...string) *corev1.ConfigMap {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, ResourceVersion: version}, Data: map[string]string{}}
	for i := 0; i < len(data); i += 2 {
		c.Data[data[i]] = data[i+1]
	}
	return c
}

// writes makes the API server have a ConfigMap, and its watch tell of it.
func (f *fixture) writes(c *corev1.ConfigMap) {
	key := named(c.Namespace, c.Name)
	f.api.change(func() { f.api.configMaps[key] = c })
	f.mirror.configMaps.bareChanged(f.mirror.configMaps.bare.find(key), &metav1.PartialObjectMetadata{ObjectMeta: identity(c)})
}

// deletes makes it have it no more.
func (f *fixture) deletes(namespace, name string) {
	key := named(namespace, name)
	f.api.change(func() { delete(f.api.configMaps, key) })
	f.mirror.configMaps.bareChanged(f.mirror.configMaps.bare.find(key), nil)
}

// annotated makes an Ingress with one annotation.
func (f *fixture) annotated(name, key, value string) *networkingv1.Ingress {
	i := newIngress(name)
	i.Annotations = map[string]string{"podlane.dev/" + key: value}
	f.mirror.ingressChanged(nil, i)
	return i
}

// wantConfigMaps checks which ConfigMaps the next table gets, as namespace/name=v.
func (f *fixture) wantConfigMaps(t *testing.T, want ...string) {
	t.Helper()
	snapshot, err := f.mirror.snapshot(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range snapshot.ConfigMaps {
		got = append(got, fmt.Sprintf("%s/%s=%s", c.Namespace, c.Name, c.Data["v"]))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the table gets ConfigMaps %q, want %q", got, want)
	}
}

// woken reports whether a table is due, and forgets it.
func (f *fixture) woken() bool {
	synctest.Wait()
	_, due := f.pacer.hold()
	f.pacer.begin()
	return due
}

func TestConfigMapsOfAnnotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newReferring(t)
		f.workers(t)
		i := f.annotated("i", "custom-headers", "headers")
		f.woken()
		f.wantConfigMaps(t)
		for _, version := range []string{"1", "2"} {
			f.writes(configMap("ns", "headers", version, "v", version))
			if !f.woken() {
				t.Errorf("no table is due for version %s", version)
			}
			f.wantConfigMaps(t, "ns/headers="+version)
			f.wantConfigMaps(t, "ns/headers="+version)
		}
		f.writes(configMap("ns", "unwanted", "1", "v", "1"))
		if f.woken() {
			t.Error("a table is due for a ConfigMap that nobody refers to")
		}
		f.wantConfigMaps(t, "ns/headers=2")
		if n := f.api.count(); n != 2 {
			t.Errorf("%d fetches, want one of each version", n)
		}
		f.deletes("ns", "headers")
		if !f.woken() {
			t.Error("no table is due for a ConfigMap that is gone")
		}
		f.wantConfigMaps(t)
		f.writes(configMap("ns", "headers", "3", "v", "3"))
		f.wantConfigMaps(t, "ns/headers=3")

		f.mirror.ingressChanged(i, nil)
		f.wantConfigMaps(t)
		if held, refs := len(f.mirror.configMaps.held), len(f.mirror.configMaps.refs); held != 0 || refs != 0 {
			t.Errorf("data of %d ConfigMaps is held, for %d owners, when nobody refers to any", held, refs)
		}
	})
}

// TestSettingsRefer: what the operator's ConfigMap names, and what it lets annotations name, changes with it.
func TestSettingsRefer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newReferring(t)
		f.workers(t)
		for _, name := range []string{"system/one", "system/two", "other/headers"} {
			key, _ := parseName(name)
			f.writes(configMap(key.Namespace, key.Name, "1", "v", "1"))
		}
		f.annotated("i", "custom-headers", "other/headers")
		f.annotated("j", "auth-tls-secret", "other/ca")
		f.annotated("k", "custom-headers", "system/settings")
		f.wantConfigMaps(t)

		var before *corev1.ConfigMap
		for n, c := range []struct {
			data    []string
			want    []string
			secrets int
		}{
			{[]string{"v", "s", "add-headers", "one"}, []string{"system/one=1", "system/settings=s"}, 0},
			{[]string{"v", "s", "add-headers", "system/two"}, []string{"system/settings=s", "system/two=1"}, 0},
			{[]string{"v", "s", "allow-cross-namespace-resources", "true"}, []string{"other/headers=1", "system/settings=s"}, 1},
			{[]string{"v", "s"}, []string{"system/settings=s"}, 0},
		} {
			current := configMap("system", "settings", fmt.Sprint(n+1), c.data...)
			f.mirror.settingsChanged(before, current)
			if !f.woken() {
				t.Errorf("settings %q: no table is due", c.data)
			}
			f.wantConfigMaps(t, c.want...)
			if got := len(f.secrets.wanted); got != c.secrets {
				t.Errorf("settings %q: %d Secrets are wanted, want %d", c.data, got, c.secrets)
			}
			if got, want := len(f.mirror.configMaps.held), len(c.want)-1; got != want {
				t.Errorf("settings %q: data of %d ConfigMaps is held, want %d", c.data, got, want)
			}
			before = current
		}
		f.mirror.settingsChanged(before, nil)
		f.wantConfigMaps(t)
	})
}

// TestTableWaitsForBothKinds: the budget is one, whatever is fetched.
func TestTableWaitsForBothKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newReferring(t)
		f.workers(t)
		f.api.delay = 150 * time.Millisecond
		f.api.secrets[named("ns", "o")] = tlsSecret("o", "1", "O1")
		f.secrets.bareChanged(nil, metadata("o", "1"))
		f.writes(configMap("ns", "headers", "1", "v", "1"))
		i := newIngress("i", "o")
		i.Annotations = map[string]string{"podlane.dev/custom-headers": "headers"}
		f.mirror.ingressChanged(nil, i)
		start := time.Now()
		s, err := f.mirror.snapshot(t.Context(), laterFetchBudget)
		if err != nil || len(s.Secrets) != 1 || len(s.ConfigMaps) != 1 {
			t.Errorf("%d Secrets and %d ConfigMaps, %v", len(s.Secrets), len(s.ConfigMaps), err)
		}
		if d := time.Since(start); d != f.api.delay {
			t.Errorf("waited %v for two fetches at a time, want %v", d, f.api.delay)
		}

		// What becomes wanted while a table waits is waited for, too; a failed fetch is not.
		f.api.change(func() { f.api.configMaps[named("ns", "more")] = configMap("ns", "more", "1", "v", "1") })
		f.mirror.configMaps.bareChanged(nil, metadata("more", "1"))
		f.writes(configMap("ns", "headers", "2", "v", "2"))
		time.AfterFunc(50*time.Millisecond, func() { f.annotated("j", "custom-headers", "more") })
		s, err = f.mirror.snapshot(t.Context(), time.Second)
		if err != nil || len(s.Ingresses) != 2 || len(s.ConfigMaps) != 2 {
			t.Errorf("%d Ingresses with %d ConfigMaps, %v", len(s.Ingresses), len(s.ConfigMaps), err)
		}
		f.api.change(func() { f.api.err = errors.New("connection refused") })
		f.writes(configMap("ns", "headers", "3", "v", "3"))
		start = time.Now()
		f.wantConfigMaps(t, "ns/headers=2", "ns/more=1")
		f.wantConfigMaps(t, "ns/headers=2", "ns/more=1")
		if d := time.Since(start); d != f.api.delay {
			t.Errorf("waited %v for a fetch that fails, want %v", d, f.api.delay)
		}
	})
}

// TestNoSnapshotWithoutItsReferences takes Snapshots while Ingresses and settings change: none has an Ingress whose ConfigMap, which is there,
// is not.
func TestNoSnapshotWithoutItsReferences(t *testing.T) {
	f := newReferring(t)
	f.workers(t)
	for n := range 8 {
		f.writes(configMap("ns", fmt.Sprint("c", n), "1", "v", "1"))
	}
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		i := newIngress("i")
		f.mirror.ingressChanged(nil, i)
		for n := range 20_000 {
			next := i.DeepCopy()
			next.Annotations = map[string]string{"podlane.dev/custom-headers": fmt.Sprint("c", n%8)}
			f.mirror.ingressChanged(i, next)
			i = next
		}
	}()
	defer func() { <-changed }()
	for {
		s, err := f.mirror.snapshot(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range s.Ingresses {
			name, ok := i.Annotations["podlane.dev/custom-headers"]
			if ok && !slices.ContainsFunc(s.ConfigMaps, func(c *corev1.ConfigMap) bool { return c.Name == name }) {
				t.Fatalf("the Ingress names %s, the Snapshot has %d other ConfigMaps", name, len(s.ConfigMaps))
			}
		}
		select {
		case <-changed:
			return
		default:
		}
	}
}

// TestMemoryOfConfigMaps prints what ConfigMaps cost that nobody refers to, and checks that they cost no data.
func TestMemoryOfConfigMaps(t *testing.T) {
	f := newReferring(t)
	f.workers(t)
	const many, large = 10_000, 64 << 10
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for n := range many {
		o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: fmt.Sprint("configmap-of-a-usual-name-", n), ResourceVersion: fmt.Sprint(100000 + n),
			UID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", n)), CreationTimestamp: metav1.Now(),
			Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: string(make([]byte, large))},
			ManagedFields: []metav1.ManagedFieldsEntry{{FieldsV1: metav1.NewFieldsV1(string(make([]byte, 1000)))}},
		}}
		trimmed, err := trimMetadata(o)
		if err != nil {
			t.Fatal(err)
		}
		f.mirror.configMaps.bareChanged(nil, trimmed.(*metav1.PartialObjectMetadata))
	}
	each := (heap() - before) / many
	t.Logf("%d ConfigMaps that nobody refers to: %d bytes each", many, each)
	if each > 2000 {
		t.Errorf("%d bytes are held of each ConfigMap that nobody refers to", each)
	}
	runtime.KeepAlive(f)
}

func TestStandInsForClasses(t *testing.T) {
	own := newIngress("own")
	own.Spec.IngressClassName = new("podlane")
	nginx, annotated, foreign := newIngress("nginx"), newIngress("annotated"), newIngress("foreign")
	nginx.Spec.IngressClassName = new("nginx")
	annotated.Annotations = map[string]string{"kubernetes.io/ingress.class": "nginx"}
	foreign.Spec.IngressClassName = new("traefik")
	for _, c := range []struct {
		options ingress.Options
		owned   []string
	}{
		{ingress.Options{IngressClass: "podlane", ControllerClass: "podlane.dev/ingress-controller"}, []string{"own"}},
		{ingress.Options{IngressClass: "podlane", ControllerClass: "podlane.dev/ingress-controller", ClaimNginx: true}, []string{"annotated", "nginx", "own"}},
		{ingress.Options{IngressClass: "nginx", ControllerClass: "podlane.dev/ingress-controller", ClaimNginx: true}, []string{"annotated", "nginx"}},
		{ingress.Options{IngressClass: "nginx", ControllerClass: "podlane.dev/ingress-controller"}, []string{"annotated", "nginx"}},
	} {
		var names []string
		for _, i := range ingress.Owned(ingress.Snapshot{
			Ingresses: []*networkingv1.Ingress{own, nginx, annotated, foreign}, Classes: standIns(c.options), Options: c.options,
		}) {
			names = append(names, i.Name)
		}
		if !slices.Equal(names, c.owned) {
			t.Errorf("%+v: owned are %q, want %q", c.options, names, c.owned)
		}
	}
}
