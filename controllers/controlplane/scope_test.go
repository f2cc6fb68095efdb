package controlplane

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/controllers"
	"podlane.dev/podlane/router/ingress"
)

// TestRightsInOneNamespaceOnly runs a replica whose rights are Roles in its namespace: no IngressClasses, no nodes.
func TestRightsInOneNamespaceOnly(t *testing.T) {
	c := server(t)
	ns, other := c.Namespace(t).Name, c.Namespace(t).Name
	ctx := t.Context()
	var rules []rbacv1.PolicyRule
	for _, rule := range markers(t) {
		rule.Resources = slices.DeleteFunc(rule.Resources, func(r string) bool { return r == "ingressclasses" || r == "nodes" })
		if len(rule.Resources) > 0 {
			rules = append(rules, rule)
		}
	}
	must(t)(c.Client.RbacV1().Roles(ns).Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "podlane"}, Rules: rules}, metav1.CreateOptions{}))
	must(t)(c.Client.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "podlane"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "podlane"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "scoped"}},
	}, metav1.CreateOptions{}))

	class := "mine"
	ours, foreign, elsewhere := newIngress("ours", "ours.example", "web", "certificate"), newIngress("foreign", "foreign.example", "web"), newIngress("elsewhere", "elsewhere.example", "web")
	ours.Spec.IngressClassName, elsewhere.Spec.IngressClassName = &class, &class
	foreign.Spec.IngressClassName = new(string)
	*foreign.Spec.IngressClassName = "nginx"
	create(t, c, ns, newService("web"), newSlice("web", 0, 2), newSecret(t, "certificate", corev1.SecretTypeOpaque, "tls0.ours.example"), ours, foreign)
	create(t, c, other, newService("web"), elsewhere)

	o := lead(ns, "scoped")
	o.Ingress.EveryClass = false
	o.Ingress.IngressClass = class
	o.Status = controllers.StatusOptions{Update: true, Addresses: []string{"192.0.2.7"}}
	r := run(t, as(c, "scoped"), o)
	if !r.plane.has("ours.example") || r.plane.has("foreign.example") || r.plane.has("elsewhere.example") {
		t.Errorf("the first table is\n%s", r.plane.table.Load())
	}
	waitFor(t, "the certificate", func() bool {
		certificates := r.plane.table.Load().Certificates()
		return len(certificates) == 1 && certificates[0].KeyPair != nil
	})
	waitFor(t, "status", func() bool {
		i, err := c.Client.NetworkingV1().Ingresses(ns).Get(ctx, "ours", metav1.GetOptions{})
		return err == nil && len(i.Status.LoadBalancer.Ingress) == 1
	})
	for _, p := range r.Problems() {
		if p.Object.Name == "foreign" {
			t.Errorf("%s is said of an Ingress of a class that nobody may read: %s", p.Reason, p.Message)
		}
	}
	if i, err := c.Client.NetworkingV1().Ingresses(ns).Get(ctx, "foreign", metav1.GetOptions{}); err != nil || len(i.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("status of an Ingress of another class: %v, %v", i.Status, err)
	}
}

// TestClaimedClasses runs a replica beside another controller of ingress-nginx's class, then in its place.
func TestClaimedClasses(t *testing.T) {
	c := server(t)
	ns := c.Namespace(t).Name
	ctx := t.Context()
	classes := c.Client.NetworkingV1().IngressClasses()
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "claimed"}, Spec: networkingv1.IngressClassSpec{Controller: ingress.NginxClass}}
	must(t)(classes.Create(ctx, class, metav1.CreateOptions{}))
	t.Cleanup(func() {
		if err := classes.Delete(context.Background(), "claimed", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	i := newIngress("i", "claimed.example", "web")
	i.Spec.IngressClassName = &class.Name
	create(t, c, ns, newService("web"), newSlice("web", 0, 1), i)
	theirs := []byte(`{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.1"}]}}}`)
	must(t)(c.Client.NetworkingV1().Ingresses(ns).Patch(ctx, "i", types.MergePatchType, theirs, metav1.PatchOptions{}, "status"))
	address := func() string {
		got, err := c.Client.NetworkingV1().Ingresses(ns).Get(ctx, "i", metav1.GetOptions{})
		if err != nil || len(got.Status.LoadBalancer.Ingress) != 1 {
			return fmt.Sprint(got.Status, err)
		}
		return got.Status.LoadBalancer.Ingress[0].IP
	}

	o := options(ns)
	o.Ingress.EveryClass = false
	o.Status = controllers.StatusOptions{Addresses: []string{"192.0.2.7"}}
	unclaimed := run(t, as(c, "podlane"), o)
	if unclaimed.plane.has("claimed.example") {
		t.Error("an Ingress of a class that is not claimed is served")
	}
	o.Ingress.ClaimNginx = true
	beside := run(t, as(c, "podlane"), o)
	waitFor(t, "the leader", beside.Leading)
	if !beside.plane.has("claimed.example") {
		t.Error("an Ingress of a claimed class is not served")
	}
	beside.stop()
	if got := address(); got != "198.51.100.1" {
		t.Errorf("the status is %s, want what the other controller wrote", got)
	}
	o.Status.Update = true
	run(t, as(c, "podlane"), o)
	waitFor(t, "status", func() bool { return address() == "192.0.2.7" })
}

// TestAllNamespaces runs a replica as most do, with classes.
func TestAllNamespaces(t *testing.T) {
	c := server(t)
	first, second := c.Namespace(t).Name, c.Namespace(t).Name
	ctx := t.Context()
	classes := c.Client.NetworkingV1().IngressClasses()
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: networkingv1.IngressClassSpec{Controller: "podlane.dev/all"}}
	must(t)(classes.Create(ctx, class, metav1.CreateOptions{}))
	t.Cleanup(func() {
		if err := classes.Delete(context.Background(), "all", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	o := controllers.Options{}
	o.Ingress.ControllerClass = "podlane.dev/all"
	r := run(t, as(c, "podlane"), o)
	for _, ns := range []string{first, second} {
		i := newIngress("i", ns+".example", "web")
		i.Spec.IngressClassName = &class.Name
		create(t, c, ns, newService("web"), newSlice("web", 0, 2), i, newIngress("unclassed", "un."+ns+".example", "web"))
	}
	waitFor(t, "both namespaces", func() bool { return r.plane.has(first+".example") && r.plane.has(second+".example") })
	if r.plane.has("un." + first + ".example") {
		t.Error("an Ingress without a class is taken")
	}

	// An Ingress that changes to another class is let go; so are all when the class is.
	patch := []byte(`{"spec":{"ingressClassName":"nginx"}}`)
	must(t)(c.Client.NetworkingV1().Ingresses(first).Patch(ctx, "i", types.MergePatchType, patch, metav1.PatchOptions{}))
	waitFor(t, "one namespace", func() bool { return !r.plane.has(first + ".example") })
	if !r.plane.has(second + ".example") {
		t.Error("the other Ingress is gone, too")
	}
}
