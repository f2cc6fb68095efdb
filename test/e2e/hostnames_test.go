package e2e_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"podlane.dev/podlane/test/e2e/load"
)

// S9: hostnames, three replicas on port 9376: 3,000 requests spread evenly, one after the other and many at a time.
func TestS9Hostnames(t *testing.T) {
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{
		Name: "hostnames", Replicas: 3, Args: []string{"'--listen=:9376'", "'--answer=%s'"}, Ports: "{containerPort: 9376}",
		Probe: "{tcpSocket: {port: 9376}, periodSeconds: 1}", Service: "ports: [{name: default, protocol: TCP, port: 80, targetPort: 9376}]",
	}.yaml() + ingress("hostnames", "hostnames.goweb.com", "hostnames-svc"))
	ns.WaitRollout("hostnames")
	var want []string
	for _, ip := range ns.PodIPs("app=hostnames") {
		want = append(want, ip+":9376")
	}
	lane.waitEndpoints(t, ns.Name, "hostnames-svc", want...)
	for _, clients := range []int{1, 16} {
		for _, keep := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d clients keep-alive %t", clients, keep), func(t *testing.T) {
				l := load.Start(load.Options{
					Name: "hostnames", Address: load.Fixed(lane.address(80)), Host: "hostnames.goweb.com", Rate: 4000, Clients: clients, KeepAlive: keep, Download: 20,
				})
				for l.Sent() < 3000 {
					time.Sleep(time.Millisecond)
				}
				r := l.Stop()
				t.Logf("%s: %v", r, r.Pods)
				if r.Failed > 0 || len(r.Pods) != 3 {
					t.Fatalf("%s: %v", r, r.Pods)
				}
				for name, n := range r.Pods {
					if share := 100 * float64(n) / float64(r.Sent); math.Abs(share-100.0/3) > 5 {
						t.Errorf("Pod %s has %.1f%% of %d requests", name, share, r.Sent)
					}
				}
			})
		}
	}
}
