package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// S1: goweb as in the text. There is no kube-proxy here, so that a Service IP answers nobody: what answers is a Pod IP.
func TestS1Goweb(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{Name: "goweb", Replicas: 2}.yaml() + `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: goweb-ingress}
spec:
  ingressClassName: podlane
  rules:
    - host: www.goweb.com
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: goweb-svc, port: {number: 80}}}
`)
	ns.WaitRollout("deployment/goweb")
	pods := ns.Pods("app=goweb")
	lane.waitPods(t, "http://www.goweb.com/", pods[0].Name, pods[1].Name)

	first, second := lane.curl(t, "http://www.goweb.com/"), lane.curl(t, "http://www.goweb.com/")
	got := []string{first.Body, second.Body}
	want := []string{"this is " + pods[0].Name + "\n", "this is " + pods[1].Name + "\n"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("two curls got %q, want %q", got, want)
	}
	e := lane.curl(t, "http://www.goweb.com/echo").echo(t)
	if service := ns.Kubectl("get", "service", "goweb-svc", "-o", "jsonpath={.spec.clusterIP}"); strings.HasPrefix(e.Local, service+":") {
		t.Errorf("the Service IP %s was dialled", service)
	}
	if !slices.Contains(ns.PodIPs("app=goweb"), strings.TrimSuffix(e.Local, ":8000")) {
		t.Errorf("dialled was %s, Pods are at %v", e.Local, ns.PodIPs("app=goweb"))
	}
	if e.Host != "www.goweb.com" || e.Method != http.MethodGet {
		t.Errorf("the Pod got %+v", e)
	}
	// Deleting the Ingress takes the route away.
	ns.Kubectl("delete", "ingress", "goweb-ingress")
	lane.waitStatus(t, "http://www.goweb.com/", http.StatusNotFound)
}
