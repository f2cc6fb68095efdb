package controllers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// guard is a family that keeps strangers out.
func guard() policy.Family {
	return &policy.Of[string]{
		Name: "guard", Doc: "Keeps strangers out.", IfInvalid: policy.Deny,
		Keys: []policy.Key{{Name: "guard", Kind: policy.String, Where: policy.Everywhere, Closes: true, Doc: "Who.", Example: "dog"}},
		Parse: func(v policy.Values) (string, error) {
			if v["guard"] != "dog" {
				return "", errors.New("guard: write dog")
			}
			return "dog", nil
		},
	}
}

// newRemembering returns a fixture with a Builder that remembers good forms.
func newRemembering(t *testing.T) *fixture {
	t.Helper()
	b := ingress.NewBuilder([]policy.Family{guard()})
	f := newFixture(t, b.Build)
	o := &f.mirror.options
	o.Remember, o.Ingress.AnnotationPrefixes, o.Ingress.Settings = b.Remember, []string{"podlane.dev"}, "system/settings"
	o.Ingress.References.ConfigMapSettings = []string{"add-headers"}
	return f
}

// wanted returns the Secrets and ConfigMaps whose data is held for somebody.
func (f *fixture) wanted() string {
	var names []string
	for _, r := range []map[string]struct{}{keysOf(f.mirror.secrets), keysOf(f.mirror.configMaps)} {
		names = append(names, slices.Sorted(maps.Keys(r))...)
	}
	return strings.Join(names, " ")
}

func keysOf[T object](r *referents[T]) map[string]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[string]struct{}{}
	for key := range r.wanted {
		names[key.Name] = struct{}{}
	}
	return names
}

// TestSecretsOfHeldForms follows an Ingress and the operator's ConfigMap that are broken and corrected: what their last good forms name is held for as long
// as those stand in, and no longer.
func TestSecretsOfHeldForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRemembering(t)
		step := func(want string, held int) {
			t.Helper()
			time.Sleep(time.Second)
			f.wake()
			f.reconcile(t)
			if got := f.wanted(); got != want {
				t.Errorf("held for somebody: %s, want %s", got, want)
			}
			if got := f.mirror.lastGood.Held(); got != held {
				t.Errorf("%d objects stand in an earlier form, want %d: %v", got, held, f.current())
			}
		}
		one := newIngress("web", "a")
		one.Annotations = map[string]string{"podlane.dev/guard": "dog"}
		f.mirror.ingressChanged(nil, one)
		settings := configMap("system", "settings", "1", "guard", "dog", "add-headers", "x")
		f.mirror.settingsChanged(nil, settings)
		step("a x", 0)

		two := newIngress("web", "b")
		two.Generation, two.ResourceVersion, two.Annotations = 2, "2", map[string]string{"podlane.dev/guard": "cat"}
		f.mirror.ingressChanged(one, two)
		broken := configMap("system", "settings", "2", "guard", "cat", "add-headers", "y")
		f.mirror.settingsChanged(settings, broken)
		step("a b x y", 2)
		if got := fmt.Sprint(f.current()); strings.Count(got, "(Kept)") != 2 {
			t.Errorf("the Problems are %s", got)
		}

		three := newIngress("web", "c")
		three.Generation, three.ResourceVersion, three.Annotations = 3, "3", one.Annotations
		f.mirror.ingressChanged(two, three)
		f.mirror.settingsChanged(broken, configMap("system", "settings", "3", "guard", "dog", "add-headers", "z"))
		step("c z", 0)
		f.mirror.ingressChanged(three, nil)
		step("z", 0)
	})
}
