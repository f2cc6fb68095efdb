package scenarios

import (
	"net/http"
	"strings"
	"testing"
)

// S4: traffic goes to the addresses of hand-made Endpoints, and follows when one is added or removed.
func TestS04ExternalEndpoints(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s04-external.yaml")
	ip := map[string]string{}
	for _, pod := range p.pods("app=elsewhere", 3) {
		ip[pod.Name] = pod.Status.PodIP
	}
	const address = "http://external.goweb.com/"
	p.lane.waitStatus(t, address, http.StatusServiceUnavailable)
	for _, step := range [][]string{{"one", "two"}, {"one", "two", "three"}, {"two", "three"}, {"one"}} {
		var addresses []string
		for _, name := range step {
			addresses = append(addresses, "{ip: "+ip[name]+"}")
		}
		p.applyText("apiVersion: v1\nkind: Endpoints\nmetadata: {name: external-svc}\nsubsets:\n  - addresses: [" +
			strings.Join(addresses, ", ") + "]\n    ports: [{port: 8000}]\n")
		p.lane.waitPods(t, address, step...)
	}
	p.kubectl("delete", "endpoints", "external-svc")
	p.lane.waitStatus(t, address, http.StatusServiceUnavailable)
}
