package controlplane

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/controllers"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/test/cluster"
)

// loseAndFind makes the API server go and come back, and expects a replica that keeps all it has and follows afterwards.
func loseAndFind(t *testing.T, c *cluster.Cluster, outage func(r *replica)) {
	t.Helper()
	ns := c.Namespace(t).Name
	lb := newService("lb")
	lb.Spec.Type, lb.Spec.ClusterIP = corev1.ServiceTypeLoadBalancer, ""
	// Some Problem has an Event, too.
	create(t, c, ns, lb, newService("web"), newSlice("web", 0, 5), newIngress("web", "web.example", "web"), newIngress("bad", "bad.example", "missing"))
	setBalancer(t, c, ns, "192.0.2.1")
	o := lead(ns, "only")
	r := run(t, c.RESTConfig(), o)
	waitFor(t, "the leader", r.Leading)
	waitFor(t, "two status and one Event", func() bool { return len(r.written()) == 3 })
	want := []string{"Ingress/bad ServiceMissing 1"}
	waitFor(t, "the Event to be stored", func() bool { return slices.Equal(notes(t, c, ns), want) })
	generation := r.Generation()
	outage(r)
	if err := r.Ready(); err != nil {
		t.Errorf("not ready after the outage: %v", err)
	}
	waitFor(t, "contact", func() bool { return time.Since(r.LastSync()) < time.Second })
	time.Sleep(2 * time.Second)
	if n := r.plane.losses(); n != 0 {
		t.Errorf("%d routes and addresses flapped", n)
	}
	if g := r.Generation(); g != generation {
		t.Errorf("generation %d after an outage in which nothing changed, was %d", g, generation)
	}
	// All objects were listed anew, and the lease may have been lost and found. Nothing changed: an Event may be asked for once more, and is not written.
	for _, request := range r.written()[3:] {
		if !strings.HasPrefix(request, "POST") || !strings.HasSuffix(request, "/events") {
			t.Errorf("written after an outage in which nothing changed: %s", request)
		}
	}
	if got := notes(t, c, ns); !slices.Equal(got, want) {
		t.Errorf("Events %q, want %q", got, want)
	}
	start := time.Now()
	create(t, c, ns, newIngress("after", "after.example", "web"))
	waitFor(t, "a change after the outage", func() bool { return r.plane.has("after.example") })
	must(t)(c.Client.DiscoveryV1().EndpointSlices(ns).Update(t.Context(), newSlice("web", 0, 7), metav1.UpdateOptions{}))
	waitFor(t, "endpoints after the outage", func() bool { return len(r.plane.addresses(ns, "web")) == 7 })
	t.Logf("changes after the outage are live after %v", time.Since(start).Round(time.Millisecond))
	waitFor(t, "a leader after the outage", r.Leading)
	if n := r.plane.losses(); n != 0 {
		t.Errorf("%d routes and addresses flapped", n)
	}
}

func TestAPIServerHangs(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	loseAndFind(t, c, func(*replica) {
		if err := c.PauseAPIServer(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Second)
		if err := c.ResumeAPIServer(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAPIServerRestarts(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	loseAndFind(t, c, func(r *replica) {
		back := make(chan error, 1)
		go func() { back <- c.RestartAPIServer(t.Context(), 8*time.Second) }()
		waitFor(t, "LastSync to stand still", func() bool { return time.Since(r.LastSync()) > time.Second })
		// A replica that starts now waits for the API server instead of failing.
		late := run(t, c.RESTConfig(), controllers.Options{Ingress: ingress.Options{EveryClass: true}})
		if !late.plane.has("web.example") {
			t.Error("the first table of a replica that started without an API server is not complete")
		}
		if err := <-back; err != nil {
			t.Fatal(err)
		}
	})
}
