package chart_test

import (
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

func TestDefaultArguments(t *testing.T) {
	t.Parallel()
	got := podOf(t, template(t, standard())).Containers[0].Args
	want := []string{
		"controller",
		"--admin-address=127.0.0.1:9091",
		"--configmap=$(POD_NAMESPACE)/podlane",
		"--controller-class=podlane.dev/ingress-controller",
		"--drain-delay=10s",
		"--election-id=podlane-leader",
		"--http-address=:8080",
		"--https-address=:8443",
		"--ingress-class=podlane",
		"--metrics-address=:9090",
		"--public-http-port=80",
		"--public-https-port=443",
		"--publish-service=$(POD_NAMESPACE)/podlane",
		"--shutdown-timeout=240s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, set, want, not string }{
		{"a flag is added", "controller.extraArgs.default-ssl-certificate=web/cert", "--default-ssl-certificate=web/cert", ""},
		{"a large number stays one", "controller.extraArgs.some-limit=10000000", "--some-limit=10000000", ""},
		{"false is a value", "controller.extraArgs.update-status=false", "--update-status=false", ""},
		{"empty is a bare flag", "controller.extraArgs.profiling=", "--profiling", "--profiling="},
		{"no class", "controller.watchIngressWithoutClass=true", "--watch-ingress-without-class=true", ""},
		{"scope defaults to the release's namespace", "controller.scope.enabled=true", "--watch-namespace=podlane-system", ""},
		{"several namespaces", "controller.scope.enabled=true,controller.scope.namespaces={a,b}", "--watch-namespace=a,b", ""},
		{"a class by its name", "controller.ingressClassByName=true", "--ingress-class-by-name=true", ""},
		{"no election", "controller.disableLeaderElection=true", "--disable-leader-election=true", ""},
		{"the Lease's duration", "controller.electionTTL=15s", "--election-ttl=15s", ""},
		{"the default backend", "controller.defaultBackendService=web/errors", "--default-backend-service=web/errors", ""},
		{"scope without enabled does nothing", "controller.scope.namespace=a", "", "--watch-namespace=a"},
		{"another Service to publish", "controller.publishService.pathOverride=a/b", "--publish-service=a/b", "--publish-service=$(POD_NAMESPACE)/podlane"},
		{"no Service to publish", "controller.publishService.enabled=false", "", "--publish-service=$(POD_NAMESPACE)/podlane"},
		{"no Service at all", "controller.service.enabled=false", "", "--publish-service=$(POD_NAMESPACE)/podlane"},
		{"the nodes' addresses then", "controller.service.enabled=false", "--publish-node-addresses=true", ""},
		{"their internal ones", "controller.service.enabled=false,controller.reportNodeInternalIp=true", "--report-node-internal-ip-address=true", ""},
		{"no nodes with a Service", "controller.reportNodeInternalIp=true", "", "--report-node-internal-ip-address=true"},
		{"no nodes with a fixed address", "controller.service.enabled=false,controller.extraArgs.publish-status-address=192.0.2.1", "", "--publish-node-addresses=true"},
		{"the name follows the release's", "fullnameOverride=edge", "--publish-service=$(POD_NAMESPACE)/edge", ""},
		{"the lease's too", "fullnameOverride=edge", "--election-id=edge-leader", ""},
		{"the internal Service's name", "controller.service.external.enabled=false,controller.service.internal.enabled=true,controller.service.internal.type=ClusterIP", "--publish-service=$(POD_NAMESPACE)/podlane-internal", ""},
		{"neither Service", "controller.service.external.enabled=false", "--publish-node-addresses=true", ""},
		{"the PROXY protocol", "controller.proxyProtocol.enabled=true,controller.proxyProtocol.trusted={10.0.0.0/8,fd00::/8}", "--proxy-protocol-trusted=10.0.0.0/8,fd00::/8", ""},
		{"it is spoken", "controller.proxyProtocol.enabled=true,controller.proxyProtocol.trusted={10.0.0.0/8}", "--use-proxy-protocol=true", ""},
		{"by proxies that are trusted anyway", "controller.proxyProtocol.enabled=true,controller.extraArgs.trusted-proxies=10.0.0.0/8", "--use-proxy-protocol=true", "--proxy-protocol-trusted="},
		{"it is off", "controller.proxyProtocol.trusted={10.0.0.0/8}", "", "--proxy-protocol-trusted=10.0.0.0/8"},
		{"ports", "controller.containerPort.http=9999", "--http-address=:9999", ""},
		{"the Service's port is what clients use", "controller.service.ports.https=8443", "--public-https-port=8443", ""},
		{"without a Service that is the container's", "controller.service.enabled=false", "", "--public-http-port=80"},
		{"a load balancer may map it again", "controller.extraArgs.public-http-port=8000", "--public-http-port=8000", "--public-http-port=80"},
	} {
		args := podOf(t, template(t, standard(c.set))).Containers[0].Args
		all := "\n" + strings.Join(args, "\n") + "\n"
		if !strings.Contains(all, "\n"+c.want+"\n") && c.want != "" {
			t.Errorf("%s: %s gives %q, want %s", c.name, c.set, args, c.want)
		}
		if c.not != "" && strings.Contains(all, "\n"+c.not+"\n") {
			t.Errorf("%s: %s gives %q, want no %s", c.name, c.set, args, c.not)
		}
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for set, want := range map[string]string{
		"":                           "ghcr.io/podlane/podlane:v0.1.0",
		"controller.image.tag=v9":    "ghcr.io/podlane/podlane:v9",
		"controller.image.image=a/b": "ghcr.io/a/b:v0.1.0",
		"controller.image.repository=registry.example.com/x":        "registry.example.com/x:v0.1.0",
		"controller.image.tag=v9,controller.image.digest=" + digest: "ghcr.io/podlane/podlane@" + digest,
	} {
		if got := podOf(t, template(t, standard(set))).Containers[0].Image; got != want {
			t.Errorf("%s: image %s, want %s", set, got, want)
		}
	}
}

func TestOptionalObjects(t *testing.T) {
	t.Parallel()
	count := func(set ...string) map[string]int {
		n := map[string]int{}
		for _, o := range template(t, standard(set...)) {
			n[o.GetObjectKind().GroupVersionKind().Kind]++
		}
		return n
	}
	all := map[string]int{
		"ClusterRole": 1, "ClusterRoleBinding": 1, "ConfigMap": 1, "Deployment": 1, "IngressClass": 1, "PodDisruptionBudget": 1,
		"Role": 1, "RoleBinding": 1, "Service": 1, "ServiceAccount": 1,
	}
	for _, c := range []struct {
		set  string
		kind string
		want int
	}{
		{"", "Service", 1},
		{"controller.replicaCount=1", "PodDisruptionBudget", 0},
		{"controller.minAvailable=0", "PodDisruptionBudget", 0},
		{"controller.service.enabled=false", "Service", 0},
		{"controller.metrics.enabled=true", "Service", 2},
		{"controller.ingressClassResource.enabled=false", "IngressClass", 0},
		{"serviceAccount.create=false", "ServiceAccount", 0},
	} {
		want := maps.Clone(all)
		if want[c.kind] = c.want; c.want == 0 {
			delete(want, c.kind)
		}
		if diff := cmp.Diff(want, count(c.set)); diff != "" {
			t.Errorf("%s: %s", c.set, diff)
		}
	}
	for kind, n := range count("rbac.create=false") {
		if strings.Contains(kind, "Role") {
			t.Errorf("rbac.create=false makes %d of %s", n, kind)
		}
	}
}

func TestIngressClass(t *testing.T) {
	t.Parallel()
	const isDefault = "ingressclass.kubernetes.io/is-default-class"
	class := one[*networkingv1.IngressClass](t, template(t, standard()))
	if class.Name != "podlane" || class.Spec.Controller != "podlane.dev/ingress-controller" || class.Annotations[isDefault] != "" {
		t.Errorf("IngressClass is %v", class)
	}
	class = one[*networkingv1.IngressClass](t, template(t, standard("controller.ingressClassResource.default=true")))
	if class.Annotations[isDefault] != "true" {
		t.Errorf("no default class: %v", class)
	}
}

// TestBudgetOfAnOldCluster renders for a cluster that does not know the newer fields.
func TestBudgetOfAnOldCluster(t *testing.T) {
	t.Parallel()
	budget := one[*policyv1.PodDisruptionBudget](t, template(t, standard()))
	if budget.Spec.UnhealthyPodEvictionPolicy == nil || *budget.Spec.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
		t.Errorf("an unready Pod blocks the drain of its node: %v", budget.Spec)
	}
	r := standard()
	r.KubeVersion = "v1.25.0"
	if budget := one[*policyv1.PodDisruptionBudget](t, template(t, r)); budget.Spec.UnhealthyPodEvictionPolicy != nil {
		t.Errorf("Kubernetes 1.25 does not know unhealthyPodEvictionPolicy: %v", budget.Spec)
	}
}

// TestPodsSurviveAChartUpgrade: what changes with the chart's version must not be in the Pod template, or every upgrade
// replaces every Pod.
func TestPodsSurviveAChartUpgrade(t *testing.T) {
	t.Parallel()
	pod := workloadOf(t, template(t, standard())).Template
	for _, label := range []string{"helm.sh/chart", "app.kubernetes.io/version"} {
		if v, ok := pod.Labels[label]; ok {
			t.Errorf("the Pods are labelled %s=%s", label, v)
		}
	}
}
