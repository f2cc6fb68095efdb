package controlplane

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/controllers"
	"podlane.dev/podlane/test/cluster"
)

// writes counts the changes of each Ingress's status in a namespace from now on.
type writes struct {
	mu    sync.Mutex
	count map[string]int
	last  map[string]string
}

func watchStatus(t *testing.T, c *cluster.Cluster, namespace string) *writes {
	t.Helper()
	w := &writes{count: map[string]int{}, last: map[string]string{}}
	stream, err := c.Client.NetworkingV1().Ingresses(namespace).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stream.Stop)
	go func() {
		for event := range stream.ResultChan() {
			i, ok := event.Object.(*networkingv1.Ingress)
			if !ok || event.Type != "MODIFIED" {
				continue
			}
			w.mu.Lock()
			w.count[i.Name]++
			w.last[i.Name] = fmt.Sprint(i.Status.LoadBalancer.Ingress)
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *writes) of(name string) (int, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[name], w.last[name]
}

// notes returns Podlane's Events of a namespace, as "object reason count". The API server's own controllers write some too: its repair of Service
// addresses may look at a Service in the moment between the address and the record of it.
func notes(t *testing.T, c *cluster.Cluster, namespace string) []string {
	t.Helper()
	list, err := c.Client.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list.Items {
		if e.ReportingController != "podlane.dev/ingress-controller" {
			continue
		}
		count := int32(1)
		if e.Series != nil {
			count = e.Series.Count
		}
		got = append(got, fmt.Sprintf("%s/%s %s %d", e.Regarding.Kind, e.Regarding.Name, e.Reason, count))
	}
	slices.Sort(got)
	return got
}

// lead returns options of a replica that takes part in an election and publishes the Service "lb".
func lead(namespace, identity string) controllers.Options {
	o := options(namespace)
	o.Status = controllers.StatusOptions{Update: true, PublishService: types.NamespacedName{Namespace: namespace, Name: "lb"}}
	o.Election = controllers.ElectionOptions{Namespace: namespace, ID: "podlane-leader", Identity: identity, LeaseDuration: 3 * time.Second}
	return o
}

func setBalancer(t *testing.T, c *cluster.Cluster, namespace, ip string) {
	t.Helper()
	patch := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, ip)
	must(t)(c.Client.CoreV1().Services(namespace).Patch(t.Context(), "lb", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"))
}

// TestTwoReplicas follows status and Events through a leader that is cut off and one that stops.
func TestTwoReplicas(t *testing.T) {
	c := server(t)
	ns := c.Namespace(t).Name
	lb := newService("lb")
	lb.Spec.Type, lb.Spec.ClusterIP = corev1.ServiceTypeLoadBalancer, ""
	create(t, c, ns, lb, newService("web"), newSlice("web", 0, 1))
	setBalancer(t, c, ns, "192.0.2.1")
	status := watchStatus(t, c, ns)

	a := run(t, as(c, "podlane"), lead(ns, "a"))
	waitFor(t, "a leader", a.Leading)
	b := run(t, as(c, "podlane"), lead(ns, "b"))
	create(t, c, ns, newIngress("good", "good.example", "web"), newIngress("bad", "bad.example", "missing"))
	both := func(writes int, address string) func() bool {
		return func() bool {
			for _, name := range []string{"good", "bad"} {
				if n, last := status.of(name); n != writes || last != "[{"+address+"  []}]" {
					return false
				}
			}
			return true
		}
	}
	waitFor(t, "one status write each", both(1, "192.0.2.1"))
	one := []string{"Ingress/bad ServiceMissing 1"}
	waitFor(t, "an Event", func() bool { return slices.Equal(notes(t, c, ns), one) })
	if !b.plane.has("good.example") {
		waitFor(t, "the replica that does not lead to serve", func() bool { return b.plane.has("good.example") })
	}

	// The leader is cut off: the other takes over and finds nothing to write, until the address changes.
	a.cut.Store(true)
	waitFor(t, "a new leader", func() bool { return b.Leading() && !a.Leading() })
	setBalancer(t, c, ns, "192.0.2.2")
	waitFor(t, "the new address", both(2, "192.0.2.2"))
	if !a.plane.has("good.example") || a.plane.losses() > 0 {
		t.Error("a replica that is cut off lost routes or addresses")
	}

	// The old leader is back, as the second. Then the leader stops, and it leads again.
	a.cut.Store(false)
	time.Sleep(2 * time.Second)
	if a.Leading() || !b.Leading() {
		t.Errorf("a leads %t, b leads %t", a.Leading(), b.Leading())
	}
	b.stop()
	waitFor(t, "the first leader again", a.Leading)
	setBalancer(t, c, ns, "192.0.2.3")
	waitFor(t, "the third address", both(3, "192.0.2.3"))

	// The cause of the Problem is gone, and comes back.
	time.Sleep(3 * time.Second)
	if got := notes(t, c, ns); !slices.Equal(got, one) {
		t.Errorf("Events %q, want %q", got, one)
	}
	create(t, c, ns, newService("missing"))
	waitFor(t, "no Problem", func() bool { return len(a.Problems()) == 0 })
	if err := c.Client.CoreV1().Services(ns).Delete(t.Context(), "missing", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a second occurrence", func() bool { return slices.Equal(notes(t, c, ns), []string{"Ingress/bad ServiceMissing 2"}) })
	if !both(3, "192.0.2.3")() {
		t.Errorf("status was written again: %v", status.count)
	}
}
