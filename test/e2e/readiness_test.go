package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/e2e/load"
)

// S7: goweb-readiness as in the text: `ls /var/ready` decides. None, one, two, and one less under load.
func TestS7Readiness(t *testing.T) {
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{
		Name: "goweb-readiness", Replicas: 2, Probe: "{exec: {command: [ls, /var/ready]}, periodSeconds: 1, failureThreshold: 1}",
	}.yaml() + ingress("goweb-readiness", "ready.goweb.com", "goweb-readiness-svc"))
	const address = "http://ready.goweb.com/"
	pods := ns.WaitPods("app=goweb-readiness", 2)
	first, second := pods[0], pods[1]
	lane.waitStatus(t, address, http.StatusServiceUnavailable)

	ns.Exec(first.Name, "touch", "/var/ready")
	lane.waitStatus(t, address, http.StatusOK)
	if seen := lane.pods(t, address, 6); seen[first.Name] != 6 {
		t.Errorf("with one ready Pod the answers came from %v", seen)
	}
	ns.Exec(second.Name, "touch", "/var/ready")
	lane.waitPods(t, address, first.Name, second.Name)

	loads := bothKinds("ready", "ready.goweb.com", lane, 200)
	time.Sleep(time.Second)
	for round := range 3 {
		leaving, staying := []string{first.Name, second.Name}[round%2], []string{second.Name, first.Name}[round%2]
		ip := map[string]string{first.Name: first.Status.PodIP, second.Name: second.Status.PodIP}
		ns.Exec(leaving, "rm", "/var/ready")
		lane.waitEndpoints(t, ns.Name, "goweb-readiness-svc", ip[staying]+":8000")
		// What was in flight ends; after that not one request may come.
		time.Sleep(200 * time.Millisecond)
		before := requests(t, ip[leaving])
		time.Sleep(800 * time.Millisecond)
		if after := requests(t, ip[leaving]); after != before+1 { // the first question was counted in the second answer
			t.Errorf("round %d: %d requests came to the Pod that is not ready", round, after-before-1)
		}
		answers := func() int { return loads[0].FromPod(leaving) + loads[1].FromPod(leaving) }
		away, began := answers(), time.Now()
		ns.Exec(leaving, "touch", "/var/ready")
		ns.Until("answers of the Pod that is ready again", func(context.Context) error {
			if now := answers(); now < away+20 {
				return fmt.Errorf("%d", now-away)
			}
			return nil
		})
		t.Logf("round %d: 20 answers %s after touch, of which the probe's period is up to 1 s", round, time.Since(began).Round(time.Millisecond))
	}
	stopAll(t, loads)
}

// requests asks a Pod directly how many requests it had.
func requests(t *testing.T, ip string) int {
	t.Helper()
	var name string
	var n int
	text := strings.ReplaceAll(cluster.Curl(t, "http://"+ip+":8000/count"), `"`, " ")
	if _, err := fmt.Sscanf(text, "{ pod : %s , requests :%d", &name, &n); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return n
}

// bothKinds puts rate GETs a second on a host, half of them on connections that are kept, half without.
func bothKinds(name, host string, l *lane, rate int) []*load.Load {
	o := load.Options{Address: load.Fixed(l.address(80)), Host: host, Rate: rate / 2, Download: 2000}
	o.Name, o.KeepAlive = name+"-keep", true
	keep := load.Start(o)
	o.Name, o.KeepAlive = name+"-close", false
	return []*load.Load{keep, load.Start(o)}
}

// stopAll ends loads, logs what became of them, and fails the test if a request has failed.
func stopAll(t *testing.T, loads []*load.Load) *load.Result {
	t.Helper()
	all := &load.Result{}
	for _, l := range loads {
		all.Add(l.Stop())
	}
	t.Log(all)
	if all.Failed > 0 || all.Sent == 0 {
		t.Errorf("%d of %d requests have failed, %d of them corrupt", all.Failed, all.Sent, all.Corrupt)
	}
	return all
}
