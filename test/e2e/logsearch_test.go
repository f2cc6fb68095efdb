package e2e_test

import (
	"testing"
	"time"
)

// S8: log-search as in the text: a port named http-8080, a readiness probe that is slow to say yes, a rolling update with
// maxSurge 1 and maxUnavailable 0, scaling up and down; all of it under load, without a failed request.
func TestS8LogSearch(t *testing.T) {
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	manifest := func(version string, replicas int) string {
		return workload{
			Name: "log-search", Replicas: replicas,
			Args:  []string{"'--listen=:8080'", "--start-delay=500ms", "'--answer=" + version + " %s'"},
			Ports: "{name: http-8080, containerPort: 8080, protocol: TCP}",
			Probe: "{httpGet: {path: /api/v1/cat/test, port: 8080, scheme: HTTP}, initialDelaySeconds: 1, " +
				"periodSeconds: 1, failureThreshold: 3, successThreshold: 1, timeoutSeconds: 1}",
			Service: "ports: [{name: http-8080, port: 8080, targetPort: http-8080, protocol: TCP}]",
		}.yaml()
	}
	ns.Apply(manifest("v1", 2) + `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: log-search}
spec:
  ingressClassName: podlane
  rules:
    - host: log-search.goweb.com
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: log-search-svc, port: {name: http-8080}}}}
`)
	ns.WaitRollout("log-search")
	const address = "http://log-search.goweb.com/"
	pods := ns.Pods("app=log-search")
	lane.waitPods(t, address, pods[0].Name, pods[1].Name)

	loads := bothKinds("log-search", "log-search.goweb.com", lane, 200)
	time.Sleep(500 * time.Millisecond)
	ns.Apply(manifest("v2", 2)) // rolling update
	ns.WaitRollout("log-search")
	ns.Kubectl("scale", "deployment/log-search", "--replicas=4")
	ns.WaitRollout("log-search")
	ns.Kubectl("scale", "deployment/log-search", "--replicas=1")
	ns.WaitRollout("log-search")
	ns.Kubectl("rollout", "undo", "deployment/log-search")
	ns.WaitRollout("log-search")
	time.Sleep(2500 * time.Millisecond) // until the Pods that shut down gracefully have ended
	all := stopAll(t, loads)
	// Two at first, two of the update, two of the scaling, one of the undoing.
	if len(all.Pods) != 7 {
		t.Errorf("7 Pods should have answered, have %v", all.Pods)
	}
}
