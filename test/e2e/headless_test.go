package e2e_test

import (
	"net/http"
	"testing"
)

// S6: a headless Service routes as any other; its unready Pods count only with publishNotReadyAddresses.
func TestS6Headless(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{
		Name: "headless", Replicas: 3, Probe: "{exec: {command: [ls, /var/ready]}, periodSeconds: 1, failureThreshold: 1}",
		Service: "clusterIP: None\n  ports: [{name: http, port: 80, targetPort: 8000}]",
	}.yaml() + ingress("headless", "headless.goweb.com", "headless-svc"))
	const address = "http://headless.goweb.com/"
	pods := ns.WaitPods("app=headless", 3)
	lane.waitStatus(t, address, http.StatusServiceUnavailable)
	ready, all := []string{pods[0].Status.PodIP + ":8000"}, []string{}
	for _, p := range pods {
		all = append(all, p.Status.PodIP+":8000")
	}

	ns.Exec(pods[0].Name, "touch", "/var/ready")
	lane.waitEndpoints(t, ns.Name, "headless-svc", ready...)
	if seen := lane.pods(t, address, 6); seen[pods[0].Name] != 6 {
		t.Errorf("with one ready Pod the answers came from %v", seen)
	}
	ns.Kubectl("patch", "service", "headless-svc", "-p", `{"spec":{"publishNotReadyAddresses":true}}`)
	lane.waitEndpoints(t, ns.Name, "headless-svc", all...)
	if seen := lane.pods(t, address, 12); len(seen) != 3 {
		t.Errorf("with publishNotReadyAddresses the answers came from %v", seen)
	}
	ns.Kubectl("patch", "service", "headless-svc", "-p", `{"spec":{"publishNotReadyAddresses":false}}`)
	lane.waitEndpoints(t, ns.Name, "headless-svc", ready...)
	if seen := lane.pods(t, address, 6); seen[pods[0].Name] != 6 {
		t.Errorf("without publishNotReadyAddresses the answers came from %v", seen)
	}
}
