package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Patience is how long the Wait functions wait before they fail the test.
const Patience = 60 * time.Second

// A Namespace is a test's own namespace. Its methods end the test when they fail.
type Namespace struct {
	// Name is the namespace's name in the cluster.
	Name    string
	t       testing.TB
	cluster *Cluster
}

var counter atomic.Int64

// Namespace makes a namespace for the test. At the end of the test it is deleted, without waiting for what was in it.
func (c *Cluster) Namespace(t testing.TB) *Namespace {
	t.Helper()
	base := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name())), "-")
	name := fmt.Sprintf("%.40s-%d", base, counter.Add(1))
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := c.Client.CoreV1().Namespaces().Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n := &Namespace{Name: name, t: t, cluster: c}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if t.Failed() {
			t.Log(n.describe(ctx))
		}
		if err := c.Client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace %s: %v", name, err)
		}
	})
	return n
}

// describe lists what a failed test leaves in its namespace.
func (n *Namespace) describe(ctx context.Context) string {
	out, err := n.cluster.Kubectl(ctx, "", "get", "pods,services,endpointslices,ingresses,events", "-o", "wide", "-n", n.Name)
	if err != nil {
		return err.Error()
	}
	return "left in namespace " + n.Name + ":\n" + out
}

// Apply applies manifests, a YAML stream, with kubectl.
func (n *Namespace) Apply(manifests string) string {
	n.t.Helper()
	return n.kubectl(manifests, "apply", "-f", "-")
}

// Delete deletes the objects of the manifests with kubectl, without waiting for their end.
func (n *Namespace) Delete(manifests string) string {
	n.t.Helper()
	return n.kubectl(manifests, "delete", "--wait=false", "-f", "-")
}

// Kubectl runs kubectl in the namespace and returns what it prints.
func (n *Namespace) Kubectl(args ...string) string {
	n.t.Helper()
	return n.kubectl("", args...)
}

func (n *Namespace) kubectl(stdin string, args ...string) string {
	n.t.Helper()
	out, err := n.cluster.Kubectl(n.t.Context(), stdin, append([]string{"-n", n.Name}, args...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// Exec runs a command in a Pod, such as "touch /var/ready".
func (n *Namespace) Exec(pod string, command ...string) string {
	n.t.Helper()
	out, err := n.cluster.Kubelet.Exec(n.t.Context(), n.Name, pod, command...)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(out)
}

// Until calls check every few milliseconds until it returns nil, and ends the test with its last error after Patience.
func (n *Namespace) Until(what string, check func(ctx context.Context) error) {
	n.t.Helper()
	Until(n.t, what, check)
}

// Until calls check every few milliseconds until it returns nil, and ends the test with its last error after Patience.
func Until(t testing.TB, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	last := check(ctx)
	for last != nil {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, Patience, last)
		case <-time.After(20 * time.Millisecond):
		}
		if err := check(ctx); err == nil || ctx.Err() == nil {
			last = err
		}
	}
}

// WaitRollout waits until a Deployment is rolled out: every replica is of the newest form, ready, and no other is left.
func (n *Namespace) WaitRollout(deployment string) {
	n.t.Helper()
	deployment = deployment[strings.LastIndexByte(deployment, '/')+1:]
	n.Until("roll-out of "+deployment, func(ctx context.Context) error {
		d, err := n.cluster.Client.AppsV1().Deployments(n.Name).Get(ctx, deployment, metav1.GetOptions{})
		if err != nil {
			return err
		}
		want, s := int32(1), d.Status
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.Replicas != want || s.AvailableReplicas != want {
			return fmt.Errorf("want %d replicas, have %d, %d updated, %d available", want, s.Replicas, s.UpdatedReplicas, s.AvailableReplicas)
		}
		return nil
	})
}

// Pods lists the Pods that match a label selector ("app=goweb"; empty for all) and are not being deleted.
func (n *Namespace) Pods(selector string) []corev1.Pod {
	n.t.Helper()
	pods, err := n.pods(n.t.Context(), selector)
	if err != nil {
		n.t.Fatal(err)
	}
	return pods
}

func (n *Namespace) pods(ctx context.Context, selector string) ([]corev1.Pod, error) {
	list, err := n.cluster.Client.CoreV1().Pods(n.Name).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// PodIPs are the addresses of the Pods that match a label selector.
func (n *Namespace) PodIPs(selector string) []string {
	n.t.Helper()
	var out []string
	for _, p := range n.Pods(selector) {
		out = append(out, p.Status.PodIP)
	}
	return out
}

// WaitPods waits until exactly count Pods match the selector and all of them run, ready or not, and returns them.
func (n *Namespace) WaitPods(selector string, count int) []corev1.Pod {
	n.t.Helper()
	var found []corev1.Pod
	n.Until(fmt.Sprintf("%d running Pods of %q", count, selector), func(ctx context.Context) error {
		pods, err := n.pods(ctx, selector)
		if err != nil {
			return err
		}
		running := 0
		for _, p := range pods {
			if p.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		if found = pods; running != count || len(pods) != count {
			return fmt.Errorf("have %d Pods, %d of them running", len(pods), running)
		}
		return nil
	})
	return found
}

// ReadyAddresses are the addresses of a Service's EndpointSlices that are ready.
func (n *Namespace) ReadyAddresses(ctx context.Context, service string) ([]string, error) {
	slices, err := n.cluster.Client.DiscoveryV1().EndpointSlices(n.Name).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service,
	})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, slice := range slices.Items {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				out = append(out, e.Addresses...)
			}
		}
	}
	return out, nil
}

// WaitEndpoints waits until a Service's EndpointSlices have exactly count ready addresses, and returns them.
func (n *Namespace) WaitEndpoints(service string, count int) []string {
	n.t.Helper()
	var found []string
	n.Until(fmt.Sprintf("%d ready endpoints of %s", count, service), func(ctx context.Context) error {
		have, err := n.ReadyAddresses(ctx, service)
		if err != nil {
			return err
		}
		if found = have; len(have) != count {
			return fmt.Errorf("have %v", have)
		}
		return nil
	})
	return found
}

// SetLoadBalancer does a cloud's part for a Service of type LoadBalancer: it writes its address into the status.
func (n *Namespace) SetLoadBalancer(service string, address netip.Addr) {
	n.t.Helper()
	patch := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, address)
	n.Kubectl("patch", "service", service, "--subresource=status", "--type=merge", "-p", patch)
}

// Kubeconfig makes a kubeconfig for a service account of the namespace, with what RBAC allows it and no more.
func (n *Namespace) Kubeconfig(serviceAccount string) string {
	n.t.Helper()
	path, err := n.cluster.ServiceAccountKubeconfig(n.t.Context(), n.Name, serviceAccount)
	if err != nil {
		n.t.Fatal(err)
	}
	return path
}

// ServiceAccountKubeconfig makes a kubeconfig for a service account of any namespace. It is good for an hour.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (path string, err error) {
	hour := int64(3600)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}}
	request, err = c.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("token for service account %s/%s: %w", namespace, name, err)
	}
	path = c.path(fmt.Sprintf("kubeconfig-%s-%s", namespace, name))
	return path, c.writeConfig(path, request.Status.Token, namespace)
}
