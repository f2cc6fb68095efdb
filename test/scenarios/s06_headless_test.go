package scenarios

import (
	"net/http"
	"testing"
)

// S6: a headless Service is routed as any other; Pods that are not ready are included only where publishNotReadyAddresses says so.
func TestS06Headless(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s06-headless.yaml")
	pods := names(p.pods("app=headless", 2))
	const address = "http://headless.goweb.com/"
	p.lane.waitStatus(t, address, http.StatusServiceUnavailable)
	p.kubectl("exec", pods[0], "--", "touch", "/var/ready")
	p.lane.waitPods(t, address, pods[0])
	p.kubectl("patch", "service", "headless-svc", "-p", `{"spec":{"publishNotReadyAddresses":true}}`)
	p.lane.waitPods(t, address, pods...)
	p.kubectl("patch", "service", "headless-svc", "-p", `{"spec":{"publishNotReadyAddresses":false}}`)
	p.lane.waitPods(t, address, pods[0])
}
