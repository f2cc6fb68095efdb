package e2e_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/e2e/load"
)

// rollingUpdates is how often each Deployment is rolled over.
const rollingUpdates = 20

// Rolling updates at 500 GETs a second, from clients with and without keep-alive: none may fail. The Pods of one Deployment
// shut down gracefully, those of the other refuse connections from the moment of SIGTERM on and finish what they accepted
// (F16). POSTs go along and are counted apart: one of them may be lost where nobody can know whether a Pod that ends has acted on it.
// Each body is checked at both ends.
func TestRollingUpdates(t *testing.T) {
	c, lane := sharedLane(t)
	variants := map[string][]string{"graceful": {"--shutdown=graceful"}, "refuse": {"--shutdown=refuse"}}
	if testing.Short() {
		delete(variants, "graceful")
	}
	t.Run("all", func(t *testing.T) {
		for name, args := range variants {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				rollingUpdate(t, c, lane, name, args)
			})
		}
	})
}

func rollingUpdate(t *testing.T, c *cluster.Cluster, lane *lane, name string, args []string) {
	t.Helper()
	ns := namespace(t, c)
	host := name + ".rolling.test"
	ns.Apply(workload{Name: "web", Replicas: 2, Args: args}.yaml() + ingress("web", host, "web-svc"))
	ns.WaitRollout("web")
	for _, p := range ns.Pods("app=web") {
		lane.waitPods(t, "http://"+host+"/", p.Name)
	}
	source := netip.MustParseAddr(map[string]string{"graceful": "127.0.0.11", "refuse": "127.0.0.12"}[name])
	o := load.Options{Address: load.Fixed(lane.address(80)), Host: host, Rate: 250, Clients: 16, Source: source, Download: 4000}
	gets := []*load.Load{}
	posts := []*load.Load{}
	for _, keep := range []bool{true, false} {
		o.KeepAlive, o.Name = keep, fmt.Sprintf("%s-%t", name, keep)
		gets = append(gets, load.Start(o))
		post := o
		post.Method, post.Rate, post.Clients, post.Upload, post.Name = http.MethodPost, 25, 4, 20_000, o.Name+"-post"
		posts = append(posts, load.Start(post))
	}
	began := time.Now()
	for round := range rollingUpdates {
		ns.Kubectl("set", "env", "deployment/web", fmt.Sprintf("ROUND=%d", round)) // kubectl rollout restart refuses a second within a second
		ns.WaitRollout("web")
	}
	took := time.Since(began)
	time.Sleep(2500 * time.Millisecond) // the last Pods end
	all, sent := &load.Result{}, &load.Result{}
	for i := range gets {
		all.Add(gets[i].Stop())
		sent.Add(posts[i].Stop())
	}
	t.Logf("%d rolling updates in %s, %.0f GET/s", rollingUpdates, took.Round(time.Second), float64(all.Sent)/(took.Seconds()+2.5))
	t.Logf("GET: %s, by %d Pods", all, len(all.Pods))
	t.Logf("POST: %s, by %d Pods", sent, len(sent.Pods))
	if all.Failed > 0 {
		t.Errorf("%d of %d GETs have failed", all.Failed, all.Sent)
	}
	if sent.Corrupt > 0 || sent.Failed*200 > sent.Sent {
		t.Errorf("%d of %d POSTs have failed, %d of them corrupt", sent.Failed, sent.Sent, sent.Corrupt)
	}
	if want := 2 * (rollingUpdates + 1); len(all.Pods) != want {
		t.Errorf("%d Pods answered, want %d", len(all.Pods), want)
	}
}
