package scenarios

import (
	"strings"
	"testing"
)

// S8: a rolling update, scaling up, scaling down and undoing it all, under load, without a failed request.
func TestS08LogSearch(t *testing.T) {
	p := newPlace(t, world.lane)
	version := func(v string) string { return strings.ReplaceAll(p.manifest("s08-log-search.yaml"), "VERSION", v) }
	p.applyText(version("v1"))
	p.rollout("log-search")
	const address = "http://log-search.goweb.com/"
	p.lane.waitPods(t, address, names(p.pods("app=log-search", 2))...)
	l := p.load("log-search.goweb.com", 200)
	p.applyText(version("v2"))
	p.rollout("log-search")
	if a := p.lane.curl(t, address); !strings.HasPrefix(a.Body, "v2 ") {
		t.Errorf("after the update: %q", a.Body)
	}
	p.kubectl("scale", "deployment/log-search", "--replicas=4")
	p.rollout("log-search")
	p.lane.waitPods(t, address, names(p.pods("app=log-search", 4))...)
	p.kubectl("scale", "deployment/log-search", "--replicas=1")
	p.lane.waitPods(t, address, names(p.pods("app=log-search", 1))...)
	p.kubectl("rollout", "undo", "deployment/log-search")
	p.rollout("log-search")
	p.lane.waitPods(t, address, names(p.pods("app=log-search", 1))...)
	// Two at first, two of the update, two of the scaling, one of the undoing.
	if r := l.stop(t); len(r.Pods) != 7 {
		t.Errorf("7 Pods should have answered, have %v", r.Pods)
	}
}
