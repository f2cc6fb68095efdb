package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/chart/render"
	"podlane.dev/podlane/test/cluster"
)

// An installation is the chart in a namespace of its own, and the samples in another.
type installation struct {
	t *testing.T
	c *cluster.Cluster
	// home is where Podlane is; apps is where the samples are.
	home, apps *cluster.Namespace
	name       string
}

// install does what `helm install` does, in two steps: the roles, for which the Pods' credentials are made, as the process
// kubelet mounts none, and then the rest. set may say $APPS for the namespace of the samples.
func install(t *testing.T, c *cluster.Cluster, set ...string) *installation {
	t.Helper()
	i := &installation{t: t, c: c, home: c.Namespace(t), apps: c.Namespace(t), name: "podlane"}
	// Pods that ask for more than the restricted standard are not even made here.
	i.home.Kubectl("label", "namespace", i.home.Name, "pod-security.kubernetes.io/enforce=restricted")
	for n := range set {
		set[n] = strings.ReplaceAll(set[n], "$APPS", i.apps.Name)
	}
	set = append(set, "controller.drainDelaySeconds=0", "controller.shutdownTimeoutSeconds=1")
	i.apply(i.render(append(set, "controller.replicaCount=0")))
	kubeconfig := i.home.Kubeconfig(i.name)
	manifests := i.render(append(set, "controller.extraEnvs[0].name=KUBECONFIG,controller.extraEnvs[0].value="+kubeconfig))
	i.apply(manifests)
	i.home.WaitRollout("deployment/" + i.name)
	i.samples()
	return i
}

// apply applies manifests that name their own namespaces, and deletes them when the test ends: names that are in no namespace,
// and the hosts of Ingresses, are free for the next test then.
func (i *installation) apply(manifests string) {
	i.t.Helper()
	if _, err := i.c.Kubectl(i.t.Context(), manifests, "apply", "-f", "-"); err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() {
		_, err := i.c.Kubectl(context.WithoutCancel(i.t.Context()), manifests, "delete", "--ignore-not-found", "--wait=false", "-f", "-")
		if err != nil {
			i.t.Error(err)
		}
	})
}

func (i *installation) render(set []string) string {
	i.t.Helper()
	out, err := tools.Template(i.t.Context(), render.Release{Name: i.name, Namespace: i.home.Name, Set: set})
	if err != nil {
		i.t.Fatal(err)
	}
	return string(out)
}

// samples applies config/samples as its comments say, and waits for the Pods.
func (i *installation) samples() {
	i.t.Helper()
	out, err := tools.Kustomize(i.t.Context(), "config/samples")
	if err != nil {
		i.t.Fatal(err)
	}
	i.apps.Apply(string(out))
	i.t.Cleanup(func() {
		_, err := i.c.Kubectl(context.WithoutCancel(i.t.Context()), "", "delete", "ingress", "--all", "-n", i.apps.Name)
		if err != nil {
			i.t.Error(err)
		}
	})
	i.apps.Apply(readFile(i.t, "config/samples/cluster/goweb.yaml"))
	i.apps.WaitRollout("deployment/goweb")
}

// checkTraffic asks each Pod of Podlane until both Pods of goweb have answered through it.
func (i *installation) checkTraffic() {
	i.t.Helper()
	pods := i.home.Pods("app.kubernetes.io/name=podlane")
	if len(pods) != 2 {
		i.t.Fatalf("%d Pods of Podlane, want 2", len(pods))
	}
	for _, pod := range pods {
		missing := map[string]bool{}
		for _, backend := range i.apps.Pods("app=goweb") {
			missing["this is "+backend.Name] = true
		}
		i.home.Until("both Pods of goweb answer through "+pod.Name, func(ctx context.Context) error {
			answer, err := cluster.TryCurl(ctx, "--fail", "--resolve", "www.goweb.com:8080:"+pod.Status.PodIP, "http://www.goweb.com:8080/")
			if err != nil {
				return err
			}
			delete(missing, strings.TrimSpace(answer))
			if len(missing) > 0 {
				return fmt.Errorf("no answer yet: %v", missing)
			}
			return nil
		})
		https, err := cluster.TryCurl(i.t.Context(), "--fail", "--insecure", "--resolve", "www.goweb-tls.com:8443:"+pod.Status.PodIP, "https://www.goweb-tls.com:8443/")
		if err != nil || !strings.HasPrefix(https, "this is goweb-") {
			i.t.Errorf("HTTPS through %s: %q, %v", pod.Name, https, err)
		}
	}
}

// waitStatus waits until the sample Ingress has exactly this address.
func (i *installation) waitStatus(address string) {
	i.t.Helper()
	i.apps.Until("address in Ingress status", func(ctx context.Context) error {
		ingress, err := i.c.Client.NetworkingV1().Ingresses(i.apps.Name).Get(ctx, "goweb-ingress", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got := ingress.Status.LoadBalancer.Ingress
		if !slices.EqualFunc(got, []string{address}, func(a networkingv1.IngressLoadBalancerIngress, b string) bool { return a.IP == b }) {
			return fmt.Errorf("status is %v, want %s", got, address)
		}
		return nil
	})
}

// waitEvent makes a mistake in an Ingress and waits for the Event about it.
func (i *installation) waitEvent() {
	i.t.Helper()
	i.apps.Apply(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: mistaken}
spec:
  ingressClassName: ` + i.class() + `
  rules:
    - host: mistaken.example.com
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: missing, port: {number: 80}}}}]}
`)
	i.apps.Until("Event on the mistaken Ingress", func(ctx context.Context) error {
		list, err := i.c.Client.EventsV1().Events(i.apps.Name).List(ctx, metav1.ListOptions{FieldSelector: "regarding.name=mistaken"})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("none yet")
		}
		return err
	})
}

func (i *installation) class() string { return "podlane" }

// checkLogs looks for what a Pod says when a right is missing.
func (i *installation) checkLogs() {
	i.t.Helper()
	files, err := filepath.Glob(filepath.Join(i.c.Dir, "pods", i.home.Name+"_*.log"))
	if err != nil || len(files) < 2 {
		i.t.Fatalf("logs of Podlane's Pods: %v, %v", files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			i.t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if strings.Contains(strings.ToLower(line), "forbidden") || strings.Contains(line, `"level":"error"`) {
				i.t.Errorf("%s: %s", filepath.Base(file), line)
			}
		}
	}
}

func (i *installation) checkLease() {
	i.t.Helper()
	lease, err := i.c.Client.CoordinationV1().Leases(i.home.Name).Get(i.t.Context(), "podlane-leader", metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		i.t.Errorf("nobody holds the Lease: %v", lease.Spec)
	}
}

// can reports whether Podlane's service account has a right, in a namespace ("" for all).
func (i *installation) can(verb, resource, namespace string) bool {
	i.t.Helper()
	args := []string{"auth", "can-i", verb, resource, "--as=system:serviceaccount:" + i.home.Name + ":" + i.name}
	if namespace == "" {
		args = append(args, "--all-namespaces")
	} else {
		args = append(args, "-n", namespace)
	}
	out, err := i.c.Kubectl(i.t.Context(), "", args...)
	answer := strings.TrimSpace(out)
	if answer != "yes" && answer != "no" {
		i.t.Fatalf("kubectl auth can-i: %q, %v", out, err)
	}
	return answer == "yes"
}
