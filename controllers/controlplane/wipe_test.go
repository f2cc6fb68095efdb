package controlplane

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/controllers"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/test/cluster"
)

// TestEtcdWiped lets the API server come back without its objects (FAULTS.md F12), and then with them. Of two replicas, the one that holds such steps
// loses nothing; the other shows what would be lost.
func TestEtcdWiped(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	ns := c.Namespace(t).Name
	const many, endpoints = 300, 3
	fill := func() {
		parallel(many, func(i int) {
			name := fmt.Sprint("web", i)
			create(t, c, ns, newService(name), newSlice(name, i*endpoints, endpoints), newIngress(name, name+".example", name))
		})
	}
	fill()
	var mu sync.Mutex
	var steps []controllers.BrakeStep
	o := options(ns)
	o.Brake = controllers.BrakeOptions{Percent: 50, Hold: 10 * time.Minute}
	o.Observer.OnBrake = func(s controllers.BrakeStep) {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, s)
	}
	holds, obeys := run(t, c.RESTConfig(), o), run(t, c.RESTConfig(), options(ns))

	back := make(chan error, 1)
	go func() { back <- c.RestartAPIServer(t.Context(), 10*time.Second) }()
	waitFor(t, "the API server to be away", func() bool { return time.Since(holds.LastSync()) > time.Second })
	for _, kind := range []string{"ingress", "services/specs", "endpointslices"} {
		if err := c.WipeEtcd(t.Context(), "/registry/"+kind+"/"+ns+"/"); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the other replica to obey", func() bool { return obeys.plane.table.Load().Len() == 0 })
	waitFor(t, "both to be held", func() bool {
		held := map[string]bool{}
		for _, p := range holds.Problems() {
			if p.Reason == ingress.MassRemoval {
				held[p.Message] = true
			}
		}
		return len(held) == 2
	})
	if err := holds.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if n := holds.plane.losses(); n > 0 {
		t.Errorf("%d routes and addresses are lost", n)
	}
	// Somebody restores them. What is new in the meantime waits for that, or for the end of the time.
	fill()
	waitFor(t, "the hold to end", func() bool { return len(holds.Problems()) == 0 })
	create(t, c, ns, newService("new"), newSlice("new", many*endpoints, 1), newIngress("new", "new.example", "new"))
	waitFor(t, "a change afterwards", func() bool { return holds.plane.has("new.example") && obeys.plane.has("new.example") })
	if n := holds.plane.losses(); n > 0 {
		t.Errorf("%d routes and addresses are lost", n)
	}
	if n := obeys.plane.losses(); n < many {
		t.Errorf("without a brake only %d routes and addresses were lost: this test shows nothing", n)
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("steps %+v; the other replica lost %d routes and addresses", steps, obeys.plane.losses())
}
