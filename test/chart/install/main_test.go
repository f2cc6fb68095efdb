package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/chart/render"
	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/cluster/assets"
)

var tools render.Tools

func TestMain(m *testing.M) {
	// Before the network is left, as there is none inside.
	var err error
	if tools, err = render.Build(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "install tests:", err)
		os.Exit(1)
	}
	os.Exit(cluster.Main(m, "cmd/podlane"))
}

// start starts a cluster where the images of the chart and of the samples are programs of this repository.
func start(t *testing.T) *cluster.Cluster {
	t.Helper()
	return cluster.New(t, cluster.Options{Images: map[string]string{
		"ghcr.io/podlane/podlane":    cluster.Program("podlane"),
		"registry.example.com/goweb": cluster.Program("backend"),
	}})
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	root, err := assets.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// dryRun has the API server check everything about the manifests, admission included, and keep nothing.
func dryRun(t *testing.T, c *cluster.Cluster, manifests string) error {
	t.Helper()
	_, err := c.Kubectl(t.Context(), manifests, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
	return err
}

// TestAPIServer holds the rendered objects to the API server's own validation.
func TestAPIServer(t *testing.T) {
	c := start(t)
	// A dry run makes no namespace for what comes after it.
	for _, name := range []string{"podlane-system", "edge-system", "team-a", "team-b"} {
		if _, err := c.Kubectl(t.Context(), "", "create", "namespace", name); err != nil {
			t.Fatal(err)
		}
	}
	root, err := assets.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"chart/ci/*-values.yaml", "chart/examples/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(found) < 5 {
			t.Fatalf("found only %v: %v", found, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		t.Run("chart/"+filepath.Base(file), func(t *testing.T) {
			out, err := tools.Template(t.Context(), render.Release{Name: "podlane", Namespace: "podlane-system", Values: []string{file}})
			if err != nil {
				t.Fatal(err)
			}
			if err := dryRun(t, c, string(out)); err != nil {
				t.Error(err)
			}
		})
	}
	for _, dir := range []string{"config/default", "config/manager", "config/rbac", "config/samples"} {
		t.Run(dir, func(t *testing.T) {
			out, err := tools.Kustomize(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := dryRun(t, c, string(out)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("the demo's endpoints are refused, as their file says", func(t *testing.T) {
		err := dryRun(t, c, readFile(t, "config/samples/demo-endpoints.yaml"))
		if err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("the API server says %v", err)
		}
	})
}

// TestInstalled installs the chart and uses it.
func TestInstalled(t *testing.T) {
	c := start(t)
	t.Run("default", func(t *testing.T) {
		i := install(t, c)
		i.checkTraffic()
		i.home.SetLoadBalancer("podlane", c.NodeIP())
		i.waitStatus(c.NodeIP().String())
		i.waitEvent()
		i.checkLease()
		for _, right := range [][3]string{
			{"create", "pods", ""}, {"list", "nodes", ""}, {"list", "pods", i.home.Name}, {"create", "configmaps", i.home.Name},
			{"update", "ingresses", i.apps.Name}, {"delete", "secrets", i.apps.Name}, {"get", "leases", i.apps.Name}, {"get", "leases", i.home.Name},
		} {
			if i.can(right[0], right[1], right[2]) {
				t.Errorf("Podlane may %s %s in %q", right[0], right[1], right[2])
			}
		}
		i.checkLogs()
	})
	t.Run("without a ClusterRole", func(t *testing.T) {
		// IngressClasses are the administrator's here.
		class := "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: podlane}\nspec: {controller: podlane.dev/ingress-controller}\n"
		if _, err := c.Kubectl(t.Context(), class, "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			if err := c.Client.NetworkingV1().IngressClasses().Delete(ctx, "podlane", metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
		i := install(t, c, "rbac.scope=true", "controller.scope.enabled=true", "controller.scope.namespaces={$APPS,kube-public}",
			"controller.ingressClassResource.enabled=false")
		i.checkTraffic()
		i.home.SetLoadBalancer("podlane", c.NodeIP())
		i.waitStatus(c.NodeIP().String())
		i.waitEvent()
		i.checkLease()
		if i.can("list", "secrets", "") || i.can("list", "secrets", i.home.Name) || i.can("list", "ingressclasses", "") ||
			i.can("list", "configmaps", "") || i.can("list", "configmaps", i.home.Name) {
			t.Error("Podlane may read more than the two namespaces")
		}
		if !i.can("list", "secrets", "kube-public") {
			t.Error("Podlane may not read the second namespace")
		}
	})
	t.Run("nodes' addresses", func(t *testing.T) {
		i := install(t, c, "controller.service.enabled=false")
		i.checkTraffic()
		i.waitStatus(c.NodeIP().String())
		i.checkLogs()
	})
}
