package scenarios

import (
	"math"
	"testing"
	"time"

	"podlane.dev/podlane/test/e2e/load"
)

// S9: requests spread evenly over three Pods, whatever connections and replicas of Podlane they come by.
func TestS09Hostnames(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s09-hostnames.yaml")
	p.rollout("hostnames")
	p.lane.waitPods(t, "http://hostnames.goweb.com/", names(p.pods("app=hostnames", 3))...)
	l := p.load("hostnames.goweb.com", 400)
	for l.count((*load.Load).Sent) < 3000 {
		time.Sleep(10 * time.Millisecond)
	}
	r := l.stop(t)
	t.Logf("%d requests by Pod: %v", r.Sent, r.Pods)
	if len(r.Pods) != 3 {
		t.Errorf("%d Pods answered", len(r.Pods))
	}
	for pod, n := range r.Pods {
		if share := 100 * float64(n) / float64(r.Sent); math.Abs(share-100.0/3) > 6 {
			t.Errorf("%s has %.1f%% of the requests", pod, share)
		}
	}
}
