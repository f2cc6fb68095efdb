package scenarios

import (
	"net/http"
	"strings"
	"testing"
)

// S5, as it is by default: the Service is refused, and the Event says how the operator may allow it.
func TestS05ExternalNameIsOff(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s05-external-name.yaml")
	if note := p.event("db", "ExternalNameRefused"); !strings.Contains(note, "--allow-external-name") {
		t.Errorf("the Event says %q", note)
	}
	p.lane.waitStatus(t, "http://db.goweb.com/", http.StatusServiceUnavailable)
}

// S5, where the operator allows it: resolved by the cluster's DNS, and followed as the name changes.
func TestS05ExternalName(t *testing.T) {
	p := newPlace(t, open(t))
	p.apply("s05-external-name.yaml")
	p.pods("app=outside", 2)
	const address = "http://db.goweb.com/"
	p.lane.waitPods(t, address, "one")
	l := p.load("db.goweb.com", 100)
	p.kubectl("label", "pod", "two", "answers=yes")
	p.lane.waitPods(t, address, "one", "two")
	p.kubectl("label", "pod", "one", "answers-")
	p.lane.waitPods(t, address, "two")
	l.stop(t)
}
