package scenarios

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// S1: goweb, as in the text. Each Pod answers, and what is dialled is its own address, never the Service's.
func TestS01Goweb(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s01-goweb.yaml")
	p.rollout("goweb")
	pods := p.pods("app=goweb", 2)
	p.lane.waitPods(t, "http://www.goweb.com/", names(pods)...)
	a := p.lane.curl(t, "http://www.goweb.com/")
	if a.Status != http.StatusOK || a.Body != "this is "+a.pod()+"\n" {
		t.Errorf("curl http://www.goweb.com prints %q", a.Body)
	}
	addresses := []string{pods[0].Status.PodIP + ":8000", pods[1].Status.PodIP + ":8000"}
	service := p.kubectl("get", "service", "goweb-svc", "-o", "jsonpath={.spec.clusterIP}")
	for range 10 {
		if e := p.lane.curl(t, "http://www.goweb.com/echo").echo(t); !slices.Contains(addresses, e.Local) || strings.HasPrefix(e.Local, service+":") {
			t.Errorf("dialled was %s; Pods are at %v, the Service is at %s", e.Local, addresses, service)
		}
	}
	p.kubectl("delete", "ingress", "goweb-ingress")
	p.lane.waitStatus(t, "http://www.goweb.com/", http.StatusNotFound)
}
