package chart_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"podlane.dev/podlane/test/chart/render"
)

func TestServiceOfEachType(t *testing.T) {
	t.Parallel()
	// Fields that only another type may have would make the API server refuse the Service.
	set := "controller.service.loadBalancerIP=192.0.2.1,controller.service.externalTrafficPolicy=Local," +
		"controller.service.healthCheckNodePort=31000,controller.service.nodePorts.http=30080,controller.service.type="
	for _, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer} {
		spec := one[*corev1.Service](t, template(t, standard(set+string(kind)))).Spec
		cloud, outside := kind == corev1.ServiceTypeLoadBalancer, kind != corev1.ServiceTypeClusterIP
		if (spec.LoadBalancerIP != "") != cloud || (spec.HealthCheckNodePort != 0) != cloud {
			t.Errorf("%s has loadBalancerIP %q and healthCheckNodePort %d", kind, spec.LoadBalancerIP, spec.HealthCheckNodePort)
		}
		if (spec.ExternalTrafficPolicy != "") != outside || (spec.Ports[0].NodePort != 0) != outside {
			t.Errorf("%s has externalTrafficPolicy %q and nodePort %d", kind, spec.ExternalTrafficPolicy, spec.Ports[0].NodePort)
		}
	}
}

// service returns the Service of a name.
func service(t *testing.T, all objects, name string) *corev1.Service {
	t.Helper()
	list := of[*corev1.Service](all)
	i := slices.IndexFunc(list, func(s *corev1.Service) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no Service %s among %d", name, len(list))
	}
	return list[i]
}

// TestInternalService: the second Service has keys of its own, and leads to the same Pods.
func TestInternalService(t *testing.T) {
	t.Parallel()
	all := template(t, render.Release{Name: "podlane", Namespace: "n", Values: []string{path(t, "chart/ci/internal-values.yaml")}})
	outside, inside := service(t, all, "podlane"), service(t, all, "podlane-internal")
	if diff := cmp.Diff(outside.Spec.Selector, inside.Spec.Selector); diff != "" {
		t.Errorf("the Services lead to different Pods: %s", diff)
	}
	if inside.Annotations["networking.gke.io/load-balancer-type"] != "Internal" || outside.Annotations["networking.gke.io/load-balancer-type"] != "" {
		t.Errorf("annotations outside %v, inside %v", outside.Annotations, inside.Annotations)
	}
	for _, s := range []*corev1.Service{outside, inside} {
		if s.Labels["both"] != "yes" || s.Labels["side"] != strings.Replace(s.Spec.LoadBalancerSourceRanges[0], "/", "_", 1) {
			t.Errorf("%s has labels %v", s.Name, s.Labels)
		}
	}
	var got []int32
	for _, s := range []*corev1.Service{outside, inside} {
		for _, p := range s.Spec.Ports {
			got = append(got, p.Port, p.NodePort)
		}
	}
	if want := []int32{80, 30080, 443, 0, 8000, 0, 443, 30443}; !slices.Equal(got, want) {
		t.Errorf("ports and node ports %v, want %v", got, want)
	}
	if *inside.Spec.AllocateLoadBalancerNodePorts || outside.Spec.AllocateLoadBalancerNodePorts != nil {
		t.Error("allocateLoadBalancerNodePorts is not each Service's own")
	}
	if *inside.Spec.TrafficDistribution != "PreferClose" || inside.Spec.ExternalTrafficPolicy != "Local" || outside.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("inside %v", inside.Spec)
	}
}

func TestInternalServiceAlone(t *testing.T) {
	t.Parallel()
	s := one[*corev1.Service](t, template(t, standard(
		"controller.service.external.enabled=false", "controller.service.internal.enabled=true", "controller.service.internal.annotations.a=b",
		"controller.service.loadBalancerIP=192.0.2.1",
	)))
	if s.Name != "podlane-internal" || s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.LoadBalancerIP != "" {
		t.Errorf("the Service is %s, %v", s.Name, s.Spec)
	}
}
