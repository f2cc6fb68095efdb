package chart_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/chart/render"
)

// scoped is the chart with two watched namespaces.
func scoped(t *testing.T) objects {
	t.Helper()
	return template(t, render.Release{Name: "podlane", Namespace: "podlane-system", Values: []string{path(t, "chart/ci/namespaces-values.yaml")}})
}

// TestHeaders: the ConfigMaps with headers are there, and the operator's names them.
func TestHeaders(t *testing.T) {
	t.Parallel()
	data := map[string]map[string]string{}
	for _, c := range of[*corev1.ConfigMap](scoped(t)) {
		data[c.Namespace+"/"+c.Name] = c.Data
	}
	want := map[string]map[string]string{
		"podlane-system/podlane": {
			"add-headers": "podlane-system/podlane-add-headers", "proxy-set-headers": "podlane-system/podlane-proxy-set-headers",
		},
		"podlane-system/podlane-add-headers":       {"X-Served-By": "podlane"},
		"podlane-system/podlane-proxy-set-headers": {"X-Large-Number": "10000000"},
	}
	if diff := cmp.Diff(want, data); diff != "" {
		t.Error(diff)
	}
}

// TestNetworkPolicy: the policy is about these Pods, lets clients and Prometheus in where they are to come from, and no one at the
// port of the debug pages.
func TestNetworkPolicy(t *testing.T) {
	t.Parallel()
	all := scoped(t)
	pod := workloadOf(t, all).Template
	policy := one[*networkingv1.NetworkPolicy](t, all).Spec
	if !selects(t, &policy.PodSelector, pod.Labels) {
		t.Errorf("the policy selects no Pod: %v", policy.PodSelector)
	}
	if diff := cmp.Diff([]networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, policy.PolicyTypes); diff != "" {
		t.Errorf("the Pods may not reach every Pod: %s", diff)
	}
	var got []string
	for _, rule := range policy.Ingress {
		for _, p := range rule.Ports {
			who := "all"
			for _, peer := range rule.From {
				if peer.IPBlock != nil {
					who = peer.IPBlock.CIDR
				} else {
					who = metav1.FormatLabelSelector(peer.NamespaceSelector)
				}
			}
			got = append(got, p.Port.String()+" "+who)
		}
	}
	want := []string{"http 192.0.2.0/24", "https 192.0.2.0/24", "metrics kubernetes.io/metadata.name=monitoring", "9999 all"}
	if !slices.Equal(got, want) {
		t.Errorf("the policy lets in %q, want %q", got, want)
	}
	for _, rule := range one[*networkingv1.NetworkPolicy](t, template(t, standard("controller.networkPolicy.enabled=true"))).Spec.Ingress {
		if len(rule.From) != 0 || len(rule.Ports) == 0 {
			t.Errorf("without peers the policy has the rule %v: everybody, at these ports only", rule)
		}
	}
}

func TestClassAliases(t *testing.T) {
	t.Parallel()
	classes := map[string]string{}
	all := template(t, standard("controller.ingressClassResource.aliases={nginx,podlane}", "controller.ingressClassResource.default=true"))
	for _, c := range of[*networkingv1.IngressClass](all) {
		classes[c.Name] = c.Annotations["ingressclass.kubernetes.io/is-default-class"]
	}
	if diff := cmp.Diff(map[string]string{"podlane": "true", "nginx": ""}, classes); diff != "" {
		t.Errorf("classes, and whether they are the default: %s", diff)
	}
}
