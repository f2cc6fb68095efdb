package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
)

// podCIDR is for clusters beside the shared one.
var podCIDR = netip.MustParsePrefix("10.245.0.0/16")

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// deployment is a Deployment of the backend; extra goes into its container, indented by ten.
func deployment(name string, replicas int, extra string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: web
          image: podlane.dev/test/backend:v1
          ports: [{name: http-8000, containerPort: 8000}]
%[3]s
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s-svc}
spec:
  selector: {app: %[1]s}
  ports: [{port: 80, targetPort: http-8000}]
`, name, replicas, extra)
}

func get(t *testing.T, url string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	return cluster.TryCurl(ctx, "--fail", url)
}

func TestDeploymentServes(t *testing.T) {
	t.Parallel()
	ns := cluster.Shared(t).Namespace(t)
	ns.Apply(deployment("goweb", 2, ""))
	ns.WaitRollout("deployment/goweb")
	ips := ns.WaitEndpoints("goweb-svc", 2)
	if own := ns.PodIPs("app=goweb"); !slices.Equal(slices.Sorted(slices.Values(own)), slices.Sorted(slices.Values(ips))) {
		t.Errorf("Pods are at %v, endpoints at %v", own, ips)
	}
	for _, p := range ns.Pods("app=goweb") {
		if got := cluster.Curl(t, "http://"+p.Status.PodIP+":8000/"); got != "this is "+p.Name+"\n" {
			t.Errorf("Pod %s at %s answers %q", p.Name, p.Status.PodIP, got)
		}
		if len(p.Status.PodIPs) == 2 {
			if got := cluster.Curl(t, "http://["+p.Status.PodIPs[1].IP+"]:8000/"); got != "this is "+p.Name+"\n" {
				t.Errorf("Pod %s at %s answers %q", p.Name, p.Status.PodIPs[1].IP, got)
			}
		}
	}
	endpoints := ns.Kubectl("get", "endpoints", "goweb-svc", "-o", "jsonpath={.subsets[0].addresses[*].ip}")
	if len(strings.Fields(endpoints)) != 2 {
		t.Errorf("Endpoints are %q", endpoints)
	}
}

func TestExecReadiness(t *testing.T) {
	t.Parallel()
	ns := cluster.Shared(t).Namespace(t)
	ns.Apply(deployment("lazy", 2, `          readinessProbe: {exec: {command: [ls, /var/ready]}, periodSeconds: 1, failureThreshold: 1}`))
	pods := ns.WaitPods("app=lazy", 2)
	ns.WaitEndpoints("lazy-svc", 0)
	ns.Exec(pods[0].Name, "touch", "/var/ready")
	if got := ns.WaitEndpoints("lazy-svc", 1); got[0] != pods[0].Status.PodIP {
		t.Errorf("the Pod at %s is ready, want %s", got[0], pods[0].Status.PodIP)
	}
	ns.Exec(pods[1].Name, "touch", "/var/ready")
	ns.WaitEndpoints("lazy-svc", 2)
	ns.Exec(pods[0].Name, "rm", "/var/ready")
	if got := ns.WaitEndpoints("lazy-svc", 1); got[0] != pods[1].Status.PodIP {
		t.Errorf("the Pod at %s is ready, want %s", got[0], pods[1].Status.PodIP)
	}
	if _, err := os.Stat("/var/ready"); err == nil {
		t.Error("/var of the Pod is /var of the machine")
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	ns := cluster.Shared(t).Namespace(t)
	ns.Apply(deployment("named", 1, `          readinessProbe: {httpGet: {path: /readyz, port: http-8000}, periodSeconds: 1, failureThreshold: 1}`) + "---\n" +
		deployment("tcp", 1, `          readinessProbe: {tcpSocket: {port: 8000}, initialDelaySeconds: 1}`) + "---\n" +
		deployment("never", 1, `          readinessProbe: {tcpSocket: {port: 8001}}`))
	ip := ns.WaitEndpoints("named-svc", 1)[0]
	ns.WaitEndpoints("tcp-svc", 1)
	cluster.Curl(t, "-X", "POST", "http://"+ip+":8000/ready?state=false")
	ns.WaitEndpoints("named-svc", 0)
	cluster.Curl(t, "-X", "POST", "http://"+ip+":8000/ready?state=true")
	ns.WaitEndpoints("named-svc", 1)
	ns.WaitPods("app=never", 1)
	ns.WaitEndpoints("never-svc", 0)
}

func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	ns := cluster.Shared(t).Namespace(t)
	const probe = `          readinessProbe: {httpGet: {path: /readyz, port: 8000}, periodSeconds: 1}
`
	ns.Apply(deployment("roll", 2, probe))
	ns.WaitRollout("roll")
	before := ns.PodIPs("app=roll")
	ns.Apply(deployment("roll", 2, probe+`          env: [{name: VERSION, value: "2"}]`))
	ns.WaitRollout("roll")
	after := ns.WaitEndpoints("roll-svc", 2)
	for _, ip := range after {
		if slices.Contains(before, ip) {
			t.Errorf("%s is of a Pod before the update", ip)
		}
		if _, err := get(t, "http://"+ip+":8000/"); err != nil {
			t.Error(err)
		}
	}
	ns.Until("end of the Pods before the update", func(ctx context.Context) error {
		for _, ip := range before {
			if _, err := get(t, "http://"+ip+":8000/"); err == nil {
				return fmt.Errorf("%s still answers", ip)
			}
		}
		return nil
	})
}

// A terminating Pod serves on, and its endpoint says so, until it ends by itself within the grace period.
func TestDeletionIsGraceful(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	ns := c.Namespace(t)
	ns.Apply(deployment("goweb", 1, "          args: [--shutdown=graceful, --shutdown-delay=2s]"))
	ip := ns.WaitEndpoints("goweb-svc", 1)[0]
	pod := ns.Pods("app=goweb")[0].Name
	ns.Kubectl("scale", "deployment/goweb", "--replicas=0")
	ns.Until("terminating endpoint", func(ctx context.Context) error {
		list, err := c.Client.DiscoveryV1().EndpointSlices(ns.Name).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, s := range list.Items {
			for _, e := range s.Endpoints {
				if *e.Conditions.Terminating && *e.Conditions.Serving && !*e.Conditions.Ready {
					return nil
				}
			}
		}
		return fmt.Errorf("no endpoint of %v is serving and terminating", list.Items)
	})
	if _, err := get(t, "http://"+ip+":8000/"); err != nil {
		t.Errorf("a Pod that shuts down gracefully does not serve: %v", err)
	}
	ns.Until("end of the Pod", func(ctx context.Context) error {
		if _, err := c.Client.CoreV1().Pods(ns.Name).Get(ctx, pod, metav1.GetOptions{}); err == nil {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
}

func TestAddressReuse(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	ns := c.Namespace(t)
	pod := func(name, annotations string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: reuse}, annotations: {%s}}
spec: {terminationGracePeriodSeconds: 2, containers: [{name: web, image: podlane.dev/test/backend, args: [--shutdown=abrupt]}]}
`, name, annotations)
	}
	ns.Apply(pod("first", ""))
	ip := ns.WaitPods("app=reuse", 1)[0].Status.PodIP
	ns.Apply(pod("second", `test.podlane.dev/address: "`+ip+`"`))
	url := "http://" + ip + ":8000/"
	ns.Until("first answer", func(context.Context) error { _, err := get(t, url); return err })
	if got, _ := get(t, url); got != "this is first\n" {
		t.Fatalf("before: %q", got)
	}
	ns.Kubectl("delete", "pod", "first", "--wait=false")
	ns.Until("answer of the next Pod", func(context.Context) error {
		if got, err := get(t, url); got != "this is second\n" {
			return fmt.Errorf("%q %w", got, err)
		}
		return nil
	})
}

func TestCrashRestarts(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	ns := c.Namespace(t)
	ns.Apply(deployment("crash", 1, "") + "---\n" + deployment("bad", 1, "          args: [--no-such-flag]"))
	ns.WaitRollout("crash")
	pod := ns.Pods("app=crash")[0]
	if err := c.Kubelet.Signal(ns.Name, pod.Name, 9); err != nil {
		t.Fatal(err)
	}
	ns.Until("restart", func(context.Context) error {
		if s := ns.Pods("app=crash")[0].Status.ContainerStatuses[0]; s.RestartCount != 1 || !s.Ready {
			return fmt.Errorf("%d restarts, ready %t", s.RestartCount, s.Ready)
		}
		return nil
	})
	ns.Until("crash loop", func(context.Context) error {
		s := ns.Pods("app=bad")[0].Status.ContainerStatuses
		if len(s) == 0 || s[0].RestartCount < 2 || s[0].LastTerminationState.Terminated == nil {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	ns := cluster.Shared(t).Namespace(t)
	ns.Apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: env, labels: {app: env}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: web
      image: podlane.dev/test/backend
      command: [/backend, --listen=$(POD_IP):8000, "--answer=%s $(POD_NAMESPACE) $(COLOUR) $$(COLOUR)"]
      envFrom: [{configMapRef: {name: settings}}]
      env:
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
`)
	ip := ns.WaitPods("app=env", 1)[0].Status.PodIP
	want := "env " + ns.Name + " blue $(COLOUR)\n"
	ns.Until("answer", func(context.Context) error {
		if got, err := get(t, "http://"+ip+":8000/"); got != want {
			return fmt.Errorf("got %q, want %q: %w", got, want, err)
		}
		return nil
	})
}

func TestServiceAccountAndLoadBalancer(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	ns := c.Namespace(t)
	ns.Apply("apiVersion: v1\nkind: Service\nmetadata: {name: lb}\nspec: {type: LoadBalancer, ports: [{port: 80}]}")
	ns.SetLoadBalancer("lb", c.NodeIP())
	if got := ns.Kubectl("get", "service", "lb", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"); got != c.NodeIP().String() {
		t.Errorf("address is %q", got)
	}
	ns.Kubectl("create", "serviceaccount", "nobody")
	_, err := c.Kubectl(t.Context(), "", "--kubeconfig="+ns.Kubeconfig("nobody"), "get", "secrets", "-A")
	if err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("a service account without rights lists Secrets: %v", err)
	}
}

// Stop leaves nothing behind: no process, no link. The shared cluster goes on beside it.
func TestStopLeavesNothing(t *testing.T) {
	c, err := cluster.Start(t.Context(), cluster.Options{PodCIDR: podCIDR})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	manifest := deployment("goweb", 2, "")
	if _, err := c.Kubectl(t.Context(), manifest, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	cluster.Until(t, "two Pods", func(ctx context.Context) error {
		pods, err := c.Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "status.phase=" + string(corev1.PodRunning)})
		if err == nil && len(pods.Items) != 2 {
			err = fmt.Errorf("have %d", len(pods.Items))
		}
		return err
	})
	if n := len(processes(t, c.Dir)); n < 5 {
		t.Errorf("%d processes of the cluster are known while it runs", n)
	}
	began := time.Now()
	c.Stop()
	t.Logf("stopped in %s", time.Since(began))
	if left := processes(t, c.Dir); len(left) > 0 {
		t.Errorf("processes are left: %v", slices.Collect(maps.Values(left)))
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	bridge := fmt.Sprintf("pods%x", podCIDR.Addr().As4())
	for _, l := range links {
		if l.Attrs().Name == bridge {
			t.Errorf("link %s is left", bridge)
		}
	}
}

// processes are the processes whose command line or output names the folder, by number.
func processes(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		out, _ := os.Readlink(filepath.Join(p, "fd", "1"))
		if p != fmt.Sprintf("/proc/%d", os.Getpid()) && (strings.Contains(string(line), dir) || strings.Contains(out, dir)) {
			found[p] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

// A stopped API server keeps its connections and answers nothing; Pods serve on.
func TestPauseAPIServer(t *testing.T) {
	c := cluster.New(t, cluster.Options{PodCIDR: podCIDR, APIServerOnly: true})
	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}); err == nil {
		t.Error("a paused API server answers")
	}
	if err := c.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	if err := c.RestartAPIServer(t.Context(), 100*time.Millisecond); err != nil {
		t.Error(err)
	}
	if _, err := c.Client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}
