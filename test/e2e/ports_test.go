package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"podlane.dev/podlane/test/cluster"
)

// S3: one name, another number in each Pod; a Service with two ports; the Ingress names the port or numbers it.
func TestS3NamedPorts(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	named := func(name string, port int) string {
		w := workload{
			Name: name, Service: "none",
			Args:  []string{fmt.Sprintf("'--listen=:%d,:%d'", port, port+1000)},
			Ports: fmt.Sprintf("{name: http, containerPort: %d}, {name: https, containerPort: %d}", port, port+1000),
			Probe: fmt.Sprintf("{httpGet: {path: /readyz, port: %d}, periodSeconds: 1, failureThreshold: 1}", port),
		}
		return strings.Replace(w.yaml(), "template:\n    metadata: {labels: {", "template:\n    metadata: {labels: {both: named, ", 1)
	}
	ns.Apply(named("a", 8001) + named("b", 8002) + `
apiVersion: v1
kind: Service
metadata: {name: named-svc}
spec:
  selector: {both: named}
  ports:
    - {name: http, port: 80, targetPort: http}
    - {name: https, port: 443, targetPort: https}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: named}
spec:
  ingressClassName: podlane
  rules:
    - host: named.goweb.com
      http:
        paths:
          - {path: /echo/name, pathType: Prefix, backend: {service: {name: named-svc, port: {name: http}}}}
          - {path: /echo/number, pathType: Prefix, backend: {service: {name: named-svc, port: {number: 80}}}}
          - {path: /echo/https/name, pathType: Prefix, backend: {service: {name: named-svc, port: {name: https}}}}
          - {path: /echo/https/number, pathType: Prefix, backend: {service: {name: named-svc, port: {number: 443}}}}
`)
	ns.WaitRollout("a")
	ns.WaitRollout("b")
	version := ns.Kubectl("get", "ingress", "named", "-o", "jsonpath={.metadata.generation}")
	expect := func(a, b int) {
		t.Helper()
		for path, shift := range map[string]int{"name": 0, "number": 0, "https/name": 1000, "https/number": 1000} {
			address := "http://named.goweb.com/echo/" + path
			want := map[string]bool{fmt.Sprint(a + shift): true, fmt.Sprint(b + shift): true}
			cluster.Until(t, fmt.Sprintf("ports %v on %s", want, address), func(ctx context.Context) error {
				seen := map[string]bool{}
				for range 4 {
					answer, err := lane.tryCurl(ctx, address)
					if err != nil {
						return err
					}
					if answer.Status != http.StatusOK {
						t.Errorf("%s: status %d: %s", address, answer.Status, answer.Body)
					}
					e := answer.echo(t)
					seen[e.Local[strings.LastIndexByte(e.Local, ':')+1:]] = true
				}
				for port := range want {
					if !seen[port] {
						return fmt.Errorf("seen are %v", seen)
					}
				}
				if len(seen) != len(want) {
					return fmt.Errorf("seen are %v", seen)
				}
				return nil
			})
		}
	}
	lane.waitStatus(t, "http://named.goweb.com/echo/name", http.StatusOK)
	expect(8001, 8002)
	// Another number for the same name: nobody touches the Service or the Ingress, and nothing fails on the way.
	ns.Apply(named("b", 9002))
	ns.WaitRollout("b")
	expect(8001, 9002)
	if now := ns.Kubectl("get", "ingress", "named", "-o", "jsonpath={.metadata.generation}"); now != version {
		t.Errorf("the Ingress was changed: generation %s, was %s", now, version)
	}
}
