package chart_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

type (
	// objects are what one rendering made, decoded strictly.
	objects []runtime.Object
	// A workload is a Deployment or a DaemonSet.
	workload struct {
		Kind, Name, Namespace string
		// Replicas is nil for a DaemonSet too.
		Replicas *int32
		Selector *metav1.LabelSelector
		Template corev1.PodTemplateSpec
	}
)

// workloadOf returns the only workload, whatever its kind.
func workloadOf(t *testing.T, all objects) workload {
	t.Helper()
	if len(of[*appsv1.DaemonSet](all)) > 0 {
		if d := of[*appsv1.Deployment](all); len(d) > 0 {
			t.Fatalf("a DaemonSet and the Deployment %s", d[0].Name)
		}
		d := one[*appsv1.DaemonSet](t, all)
		return workload{"DaemonSet", d.Name, d.Namespace, nil, d.Spec.Selector, d.Spec.Template}
	}
	d := one[*appsv1.Deployment](t, all)
	return workload{"Deployment", d.Name, d.Namespace, d.Spec.Replicas, d.Spec.Selector, d.Spec.Template}
}

// podOf returns the Pods' specification.
func podOf(t *testing.T, all objects) corev1.PodSpec {
	t.Helper()
	return workloadOf(t, all).Template.Spec
}

// clusterScoped are the kinds here that belong to no namespace.
var clusterScoped = []string{"Namespace", "ClusterRole", "ClusterRoleBinding", "IngressClass"}

// teams are the namespaces that the values files of ci/ have watched.
var teams = []string{"team-a", "team-b"}

// of returns the objects of one type.
func of[T runtime.Object](all objects) []T {
	var found []T
	for _, o := range all {
		if t, ok := o.(T); ok {
			found = append(found, t)
		}
	}
	return found
}

// one returns the only object of its type.
func one[T runtime.Object](t *testing.T, all objects) T {
	t.Helper()
	found := of[T](all)
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, want one", len(found), *new(T))
	}
	return found[0]
}

func accessor(t *testing.T, o runtime.Object) metav1.Object {
	t.Helper()
	m, err := meta.Accessor(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// id is kind namespace/name.
func id(t *testing.T, o runtime.Object) string {
	t.Helper()
	m := accessor(t, o)
	return o.GetObjectKind().GroupVersionKind().Kind + " " + m.GetNamespace() + "/" + m.GetName()
}

func checkIdentity(t *testing.T, all objects, namespace string) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range all {
		m, name := accessor(t, o), id(t, o)
		if seen[name] {
			t.Errorf("%s is made twice", name)
		}
		seen[name] = true
		kind := o.GetObjectKind().GroupVersionKind().Kind
		if strings.HasSuffix(kind, "WebhookConfiguration") {
			t.Errorf("%s: what the API server asks of Podlane lets whoever reaches it in (SECURITY.md C2)", name)
		}
		inside := !slices.Contains(clusterScoped, kind)
		if inside && m.GetNamespace() != namespace && !slices.Contains(teams, m.GetNamespace()) {
			t.Errorf("%s: want the namespace %s", name, namespace)
		}
		if !inside && m.GetNamespace() != "" {
			t.Errorf("%s: has a namespace", name)
		}
		for _, label := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "helm.sh/chart"} {
			if m.GetLabels()[label] == "" {
				t.Errorf("%s: no label %s", name, label)
			}
		}
	}
}

// checkReferences follows every reference by name or label between the objects.
func checkReferences(t *testing.T, all objects) {
	t.Helper()
	d := workloadOf(t, all)
	pod := labels.Set(d.Template.Labels)
	if !selects(t, d.Selector, pod) {
		t.Errorf("the workload does not select its own Pods: %v, %v", d.Selector, pod)
	}
	for _, b := range of[*policyv1.PodDisruptionBudget](all) {
		if !selects(t, b.Spec.Selector, pod) {
			t.Errorf("the PodDisruptionBudget selects no Pod: %v, %v", b.Spec.Selector, pod)
		}
	}
	for _, c := range d.Template.Spec.TopologySpreadConstraints {
		if !selects(t, c.LabelSelector, pod) {
			t.Errorf("topologySpreadConstraint of %s selects no Pod: %v, %v", c.TopologyKey, c.LabelSelector, pod)
		}
	}
	for _, s := range of[*corev1.Service](all) {
		if !labels.SelectorFromSet(s.Spec.Selector).Matches(pod) || len(s.Spec.Selector) == 0 {
			t.Errorf("Service %s selects no Pod: %v, %v", s.Name, s.Spec.Selector, pod)
		}
		for _, p := range s.Spec.Ports {
			if !hasPort(d, p) {
				t.Errorf("Service %s: port %s leads to %s, which no container has", s.Name, p.Name, p.TargetPort.String())
			}
		}
	}
	account := d.Template.Spec.ServiceAccountName
	if a := one[*corev1.ServiceAccount](t, all); a.Name != account || a.Namespace != d.Namespace {
		t.Errorf("the Pods use the ServiceAccount %s, but %s/%s is made", account, a.Namespace, a.Name)
	}
	checkBindings(t, all, rbacv1.Subject{Kind: "ServiceAccount", Namespace: d.Namespace, Name: account})
}

func checkBindings(t *testing.T, all objects, account rbacv1.Subject) {
	t.Helper()
	roles := map[string]bool{}
	for _, r := range of[*rbacv1.ClusterRole](all) {
		roles["ClusterRole "+r.Name] = false
	}
	for _, r := range of[*rbacv1.Role](all) {
		roles["Role "+r.Namespace+"/"+r.Name] = false
	}
	bind := func(role string, subjects []rbacv1.Subject) {
		if _, made := roles[role]; !made {
			t.Errorf("%s is bound, but not made: %v", role, slices.Sorted(maps.Keys(roles)))
		}
		roles[role] = true
		if len(subjects) != 1 || subjects[0] != account {
			t.Errorf("%s is bound to %v, want %v", role, subjects, account)
		}
	}
	for _, b := range of[*rbacv1.ClusterRoleBinding](all) {
		bind("ClusterRole "+b.RoleRef.Name, b.Subjects)
	}
	for _, b := range of[*rbacv1.RoleBinding](all) {
		bind("Role "+b.Namespace+"/"+b.RoleRef.Name, b.Subjects)
	}
	for role, bound := range roles {
		if !bound {
			t.Errorf("%s is made, but not bound", role)
		}
	}
}

func selects(t *testing.T, s *metav1.LabelSelector, pod labels.Set) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return !selector.Empty() && selector.Matches(pod)
}

func hasPort(d workload, p corev1.ServicePort) bool {
	return slices.ContainsFunc(d.Template.Spec.Containers[0].Ports, func(c corev1.ContainerPort) bool {
		return c.Name == p.TargetPort.StrVal || c.ContainerPort == p.TargetPort.IntVal
	})
}
