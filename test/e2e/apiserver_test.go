package e2e_test

import (
	"context"
	"net/http"
	"testing"
	"time"
)

// watcher polls podlane while something is done to the API server: readiness and the number of routes may not turn.
type watcher struct {
	stop func() (unready int, fewest int, polls int)
}

func watchLane(t *testing.T, l *lane, namespace string) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var unready, polls int
	fewest := -1
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			polls++
			if status, _, err := fetch(context.WithoutCancel(ctx), l.url(9090, "/readyz")); err != nil || status != http.StatusOK {
				unready++
			}
			var table struct{ Routes []struct{ Namespace string } }
			if err := l.debug(context.WithoutCancel(ctx), "routes", &table); err != nil {
				unready++
				continue
			}
			n := 0
			for _, r := range table.Routes {
				if r.Namespace == namespace {
					n++
				}
			}
			if fewest < 0 || n < fewest {
				fewest = n
			}
		}
	}()
	return &watcher{stop: func() (int, int, int) {
		cancel()
		<-ended
		return unready, fewest, polls
	}}
}

// F12, short form: the API server hangs for 10 s under load, then is killed and comes back. Nothing of it is seen by clients,
// readiness stays, no route goes, and changes are followed again.
func TestF12APIServerAway(t *testing.T) {
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{Name: "web", Replicas: 2}.yaml() + ingress("web", "f12.goweb.com", "web-svc") + ingress("web2", "f12b.goweb.com", "web-svc"))
	ns.WaitRollout("web")
	lane.waitStatus(t, "http://f12b.goweb.com/", http.StatusOK)
	pods := ns.Pods("app=web")
	lane.waitPods(t, "http://f12.goweb.com/", pods[0].Name, pods[1].Name)

	loads := bothKinds("f12", "f12.goweb.com", lane, 200)
	w := watchLane(t, lane, ns.Name)
	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second)
	if err := c.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	resumed := time.Now()
	ns.Apply(ingress("later", "f12-later.goweb.com", "web-svc"))
	lane.waitStatus(t, "http://f12-later.goweb.com/", http.StatusOK)
	t.Logf("a change is followed %s after the API server goes on", time.Since(resumed).Round(time.Millisecond))

	if err := c.RestartAPIServer(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	restarted := time.Now()
	ns.Apply(ingress("last", "f12-last.goweb.com", "web-svc"))
	lane.waitStatus(t, "http://f12-last.goweb.com/", http.StatusOK)
	t.Logf("a change is followed %s after the API server has restarted", time.Since(restarted).Round(time.Millisecond))
	time.Sleep(time.Second)
	unready, fewest, polls := w.stop()
	if unready > 0 || fewest < 2 {
		t.Errorf("of %d polls %d were not ready, and the fewest routes were %d of 2", polls, unready, fewest)
	}
	all := stopAll(t, loads)
	if len(all.Pods) != 2 {
		t.Errorf("answers came from %v", all.Pods)
	}
}
