package scenarios

import (
	"net/http"
	"testing"
)

// S7: 503 while none is ready; each Pod gets traffic when it says that it is ready, and none after it has withdrawn that; under load no request
// fails.
func TestS07Readiness(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s07-readiness.yaml")
	pods := names(p.pods("app=goweb-readiness", 2))
	const address = "http://ready.goweb.com/"
	p.lane.waitStatus(t, address, http.StatusServiceUnavailable)
	p.kubectl("exec", pods[0], "--", "touch", "/var/ready")
	p.lane.waitPods(t, address, pods[0])
	p.kubectl("exec", pods[1], "--", "touch", "/var/ready")
	p.lane.waitPods(t, address, pods...)
	l := p.load("ready.goweb.com", 200)
	for round := range 3 {
		leaving, staying := pods[round%2], pods[(round+1)%2]
		p.kubectl("exec", leaving, "--", "rm", "/var/ready")
		p.lane.waitPods(t, address, staying)
		p.kubectl("exec", leaving, "--", "touch", "/var/ready")
		p.lane.waitPods(t, address, pods...)
	}
	l.stop(t)
}
