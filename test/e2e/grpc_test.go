package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster"
)

// Rolling updates under unary gRPC calls, with HTTP/2 in clear on both legs: none may fail. The Pods say GOAWAY when they end, and refuse
// connections from then on.
func TestRollingUpdatesGRPC(t *testing.T) {
	c := cluster.Shared(t)
	i := install(t, c)
	lane := i.start(t, "--use-h2c")
	ns := namespace(t, c)
	const host = "grpc.rolling.test"
	ns.Apply(workload{
		Name: "echo", Replicas: 2, Image: cluster.GRPCImage, Args: []string{"--shutdown-delay=1500ms"},
		Probe:   "{tcpSocket: {port: 8000}, periodSeconds: 1, failureThreshold: 1}",
		Service: "ports: [{port: 80, targetPort: 8000, appProtocol: kubernetes.io/h2c}]",
	}.yaml() + ingressOf(i.class, "echo", host, "echo-svc"))
	ns.WaitRollout("echo")
	// Without a path of the service the Pod answers that it does not know the method: by HTTP, 200.
	lane.waitStatus(t, "http://"+host+"/none.Such/Method", 200, "--http2-prior-knowledge", "--request", "POST", "--header", "content-type: application/grpc", "--header", "te: trailers")

	load := c.Start(t, cluster.Command("grpcload", "--address="+lane.address(80), "--host="+host))
	began := time.Now()
	for round := range rollingUpdates {
		ns.Kubectl("set", "env", "deployment/echo", fmt.Sprintf("ROUND=%d", round))
		ns.WaitRollout("echo")
	}
	took := time.Since(began)
	time.Sleep(2 * time.Second) // the last Pods end
	load.Stop(30 * time.Second)
	var got struct {
		Calls, Failed, Corrupt int
		Errors, Pods           map[string]int
	}
	if err := json.Unmarshal([]byte(strings.TrimSpace(load.Output())), &got); err != nil {
		t.Fatalf("%v: %s", err, load.Output())
	}
	t.Logf("%d rolling updates in %s: %d calls, %d failed, %d corrupt, answered by %d Pods", rollingUpdates, took.Round(time.Second), got.Calls, got.Failed, got.Corrupt, len(got.Pods))
	if got.Failed > 0 || got.Corrupt > 0 {
		t.Errorf("errors: %v", got.Errors)
	}
	if want := 2 * (rollingUpdates + 1); len(got.Pods) != want || got.Calls < 100*rollingUpdates {
		t.Errorf("%d calls were answered by %d Pods, want %d", got.Calls, len(got.Pods), want)
	}
}
