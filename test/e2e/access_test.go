package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"podlane.dev/podlane/test/cluster"
)

// Everything in this package runs with the rights of config/rbac. Here it is what they do not allow, and that Podlane met no
// closed door.
func TestAccessRights(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	i := install(t, c)
	ns := namespace(t, c)
	lane := i.start(t, "--publish-status-address=192.0.2.1")
	ns.Apply(workload{Name: "web"}.yaml() + ingressOf(i.class, "web", "web.access.test", "web-svc") + ingressOf(i.class, "bad", "bad.access.test", "nothing-svc"))
	ns.WaitRollout("web")
	lane.waitStatus(t, "http://web.access.test/", http.StatusOK)
	waitAddress(ns, "web", "192.0.2.1")
	waitEvent(t, c, waitProblem(t, lane, problem{Kind: "Ingress", Namespace: ns.Name, Name: "bad", Reason: "ServiceMissing"}))
	if log := lane.Output(); strings.Contains(log, "forbidden") || strings.Contains(log, "cannot list") {
		t.Errorf("podlane tried what it may not do\n%s", lane.Tail(40))
	}
	for _, args := range [][]string{
		{"update", "ingresses.networking.k8s.io"}, {"delete", "ingresses.networking.k8s.io"}, {"create", "secrets"}, {"update", "secrets"},
		{"delete", "services"}, {"update", "services", "--subresource=status"}, {"list", "pods"}, {"create", "pods"}, {"create", "pods", "--subresource=exec"},
		{"create", "configmaps"}, {"update", "configmaps"}, {"list", "nodes"}, {"update", "endpointslices.discovery.k8s.io"}, {"create", "clusterrolebindings.rbac.authorization.k8s.io"},
	} {
		out, err := c.Kubectl(t.Context(), "", append([]string{"--kubeconfig=" + i.kubeconfig, "auth", "can-i", "-n", ns.Name}, args...)...)
		if err == nil || strings.TrimSpace(out) != "no" {
			t.Errorf("podlane may %s: %s %v", strings.Join(args, " "), out, err)
		}
	}
}

// SECURITY.md C9: what shows the table is on loopback only; the address for Prometheus and the kubelet has three pages.
func TestAdminIsPrivate(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(pod("client", "app: client"))
	ns.WaitPods("app=client", 1)
	node := c.NodeIP().String()
	from := func(address string) (string, error) {
		out, err := c.Kubelet.Exec(t.Context(), ns.Name, "client", "curl", "--silent", "--show-error", "--include", "--max-time", "5", address)
		return string(out), err
	}
	if out, err := from("http://" + node + ":9091/debug/routes"); err == nil || !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "connect") {
		t.Errorf("a Pod reaches the admin address: %s %v", out, err)
	}
	for path, want := range map[string]int{
		"/metrics": http.StatusOK, "/healthz": http.StatusOK, "/readyz": http.StatusOK,
		"/": http.StatusNotFound, "/debug/routes": http.StatusNotFound, "/debug/endpoints": http.StatusNotFound,
		"/debug/problems": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound, "/debug/pprof/heap": http.StatusNotFound,
	} {
		out, err := from("http://" + node + ":9090" + path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if a, err := parseAnswer(out); err != nil || a.Status != want {
			t.Errorf("the metrics address answers %s with %s %v, want %d", path, strings.SplitN(out, "\r\n", 2)[0], err, want)
		}
	}
	// Profiles are off, also for who may see the table.
	if status, _, err := fetch(t.Context(), lane.url(9091, "/debug/pprof/")); err != nil || status != http.StatusNotFound {
		t.Errorf("profiles: status %d %v", status, err)
	}
	// Labels of metrics come from objects, never from a client.
	if a := lane.curl(t, "http://made-up-by-a-client.test/made/up/path"); a.Status != http.StatusNotFound {
		t.Errorf("status %d", a.Status)
	}
	if _, body, err := fetch(t.Context(), lane.url(9090, "/metrics")); err != nil || strings.Contains(body, "made-up") || strings.Contains(body, "/made/up") || !strings.Contains(body, "podlane_") {
		t.Errorf("metrics name what a client sent, or nothing of podlane: %v", err)
	}
}
