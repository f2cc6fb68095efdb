package chart_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"podlane.dev/podlane/test/chart/render"
)

// TestKinds: a DaemonSet has the same Pods as a Deployment.
func TestKinds(t *testing.T) {
	t.Parallel()
	some, every := template(t, standard()), template(t, standard("controller.kind=DaemonSet"))
	if diff := cmp.Diff(workloadOf(t, some).Template, workloadOf(t, every).Template); diff != "" {
		t.Errorf("the Pods of a Deployment (-) and of a DaemonSet (+) differ: %s", diff)
	}
	if n := len(of[*policyv1.PodDisruptionBudget](every)); n != 0 {
		t.Errorf("%d budgets for a DaemonSet, whose Pods no drain evicts", n)
	}
	if n := len(of[*appsv1.Deployment](every)); n != 0 {
		t.Errorf("%d Deployments beside the DaemonSet", n)
	}
}

func TestReplacement(t *testing.T) {
	t.Parallel()
	newFirst := [2]intstr.IntOrString{intstr.FromInt32(1), intstr.FromInt32(0)}
	oldFirst := [2]intstr.IntOrString{intstr.FromInt32(0), intstr.FromInt32(1)}
	for _, c := range []struct {
		set  string
		want [2]intstr.IntOrString // maxSurge, maxUnavailable
	}{
		{"controller.kind=Deployment", newFirst},
		{"controller.hostPort.enabled=true", oldFirst},
		{"controller.hostNetwork=true", oldFirst},
		{"controller.updateStrategy.type=RollingUpdate", newFirst},
		{"controller.updateStrategy.rollingUpdate.maxSurge=0,controller.updateStrategy.rollingUpdate.maxUnavailable=20%", [2]intstr.IntOrString{
			intstr.FromInt32(0), intstr.FromString("20%"),
		}},
	} {
		for _, kind := range []string{"Deployment", "DaemonSet"} {
			all := template(t, standard(c.set, "controller.kind="+kind))
			var got [2]intstr.IntOrString
			if kind == "Deployment" {
				s := one[*appsv1.Deployment](t, all).Spec.Strategy
				got = [2]intstr.IntOrString{*s.RollingUpdate.MaxSurge, *s.RollingUpdate.MaxUnavailable}
			} else {
				s := one[*appsv1.DaemonSet](t, all).Spec.UpdateStrategy
				got = [2]intstr.IntOrString{*s.RollingUpdate.MaxSurge, *s.RollingUpdate.MaxUnavailable}
			}
			if got != c.want {
				t.Errorf("%s of kind %s: maxSurge and maxUnavailable are %v, want %v", c.set, kind, got, c.want)
			}
		}
	}
	s := one[*appsv1.DaemonSet](t, template(t, standard("controller.kind=DaemonSet", "controller.updateStrategy.type=OnDelete"))).Spec.UpdateStrategy
	if s.Type != appsv1.OnDeleteDaemonSetStrategyType || s.RollingUpdate != nil {
		t.Errorf("OnDelete gives %v", s)
	}
}

func TestAutoscaling(t *testing.T) {
	t.Parallel()
	all := template(t, standard("controller.autoscaling.enabled=true"))
	w := workloadOf(t, all)
	if w.Replicas != nil {
		t.Errorf("every helm upgrade sets %d replicas, whatever the autoscaler made of them", *w.Replicas)
	}
	scaler := one[*autoscalingv2.HorizontalPodAutoscaler](t, all)
	if ref := scaler.Spec.ScaleTargetRef; ref.Kind != w.Kind || ref.Name != w.Name || ref.APIVersion != "apps/v1" || scaler.Namespace != w.Namespace {
		t.Errorf("the autoscaler scales %v, want %s %s", ref, w.Kind, w.Name)
	}
	if *scaler.Spec.MinReplicas != 2 || scaler.Spec.MaxReplicas != 11 || len(scaler.Spec.Metrics) != 1 ||
		*scaler.Spec.Metrics[0].Resource.Target.AverageUtilization != 50 || scaler.Spec.Metrics[0].Resource.Name != corev1.ResourceCPU {
		t.Errorf("the autoscaler is %v", scaler.Spec)
	}
	one[*policyv1.PodDisruptionBudget](t, all)

	scaler = one[*autoscalingv2.HorizontalPodAutoscaler](t, template(t, render.Release{
		Name: "podlane", Namespace: "n", Values: []string{path(t, "chart/ci/autoscaling-values.yaml")},
	}))
	if n := len(scaler.Spec.Metrics); n != 3 || scaler.Spec.Metrics[2].Pods == nil {
		t.Errorf("%d metrics: %v", n, scaler.Spec.Metrics)
	}
	if b := scaler.Spec.Behavior; b == nil || *b.ScaleDown.StabilizationWindowSeconds != 600 || b.ScaleUp.Policies[0].Value != 4 {
		t.Errorf("the behaviour is %v", b)
	}
}

// TestBudgets: no budget may forbid every drain of a node.
func TestBudgets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set, min, max string
	}{
		{"controller.replicaCount=2", "1", ""},
		{"controller.replicaCount=2,controller.maxUnavailable=1", "", "1"},
		{"controller.replicaCount=4,controller.maxUnavailable=25%", "", "25%"},
		{"controller.replicaCount=1", "none", ""},
		{"controller.replicaCount=1,controller.maxUnavailable=1", "none", ""},
		// Somebody else scales, perhaps to one.
		{"controller.replicaCount=null", "none", ""},
		{"controller.replicaCount=null,controller.maxUnavailable=1", "", "1"},
		{"controller.autoscaling.enabled=true,controller.autoscaling.minReplicas=1", "none", ""},
		{"controller.autoscaling.enabled=true,controller.replicaCount=1", "1", ""},
	} {
		found := of[*policyv1.PodDisruptionBudget](template(t, standard(c.set)))
		if len(found) == 0 {
			if c.min != "none" {
				t.Errorf("%s: no budget", c.set)
			}
			continue
		}
		if got := text(found[0].Spec.MinAvailable); got != c.min {
			t.Errorf("%s: minAvailable %q, want %q", c.set, got, c.min)
		}
		if got := text(found[0].Spec.MaxUnavailable); got != c.max {
			t.Errorf("%s: maxUnavailable %q, want %q", c.set, got, c.max)
		}
	}
	if n := workloadOf(t, template(t, standard("controller.replicaCount=null"))).Replicas; n != nil {
		t.Errorf("replicaCount: null gives %d replicas", *n)
	}
}

func text(n *intstr.IntOrString) string {
	if n == nil {
		return ""
	}
	return n.String()
}

// TestHostPorts: two ways to a port of the node.
func TestHostPorts(t *testing.T) {
	t.Parallel()
	pod := podOf(t, template(t, standard("controller.hostPort.enabled=true", "controller.hostPort.ports.https=8443")))
	if p := pod.Containers[0].Ports; p[0].HostPort != 80 || p[1].HostPort != 8443 || p[2].HostPort != 0 {
		t.Errorf("hostPort gives %v; the metrics' port must not be the node's", p)
	}
	pod = podOf(t, template(t, standard("controller.hostNetwork=true")))
	if !pod.HostNetwork || pod.DNSPolicy != corev1.DNSClusterFirstWithHostNet {
		t.Errorf("hostNetwork gives %t and DNS policy %q", pod.HostNetwork, pod.DNSPolicy)
	}
	pod = podOf(t, template(t, standard("controller.hostNetwork=true", "controller.dnsPolicy=Default")))
	if pod.DNSPolicy != corev1.DNSDefault {
		t.Errorf("DNS policy %q, want the one that is set", pod.DNSPolicy)
	}
	// Both ways to listen below 1024.
	for _, set := range []string{
		`controller.sysctls.net\.ipv4\.ip_unprivileged_port_start=0`, "controller.containerSecurityContext.capabilities.add={NET_BIND_SERVICE}",
	} {
		pod = podOf(t, template(t, standard("controller.containerPort.http=80", set)))
		if pod.Containers[0].Ports[0].ContainerPort != 80 || value(t, pod.Containers[0].Args, "--http-address") != ":80" {
			t.Errorf("%s: listens on %v", set, pod.Containers[0].Ports)
		}
	}
}

// TestExtras: what users add to the Pods is there, beside what is the chart's.
func TestExtras(t *testing.T) {
	t.Parallel()
	w := workloadOf(t, template(t, render.Release{Name: "podlane", Namespace: "n", Values: []string{path(t, "chart/ci/extras-values.yaml")}}))
	pod := w.Template.Spec
	var got []string
	for _, c := range pod.InitContainers {
		got = append(got, "init "+c.Name)
	}
	for _, c := range pod.Containers {
		got = append(got, c.Name)
	}
	for _, v := range pod.Volumes {
		got = append(got, "volume "+v.Name)
	}
	for _, m := range pod.Containers[0].VolumeMounts {
		got = append(got, m.Name+" at "+m.MountPath)
	}
	for _, e := range pod.Containers[0].Env {
		got = append(got, "env "+e.Name)
	}
	for _, s := range pod.SecurityContext.Sysctls {
		got = append(got, s.Name+"="+s.Value)
	}
	want := []string{
		"init wait", "edge", "log-shipper", "volume spool", "volume keys", "volume logs", "spool at /tmp", "keys at /keys", "logs at /var/log/podlane",
		"env POD_NAME", "env POD_NAMESPACE", "env GOGC", "net.ipv4.ip_local_port_range=1024 65535",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds != 3 || *pod.RuntimeClassName != "gvisor" || pod.HostAliases[0].IP != "192.0.2.1" ||
		*pod.DNSConfig.Options[0].Value != "1" || !*pod.ShareProcessNamespace {
		t.Errorf("the Pod is %v", pod)
	}
}
