package scenarios

import (
	"os"
	"sync"
	"testing"
)

var opened struct {
	sync.Mutex
	lane *lane
}

// balancerIP is the address of test/node's users that plays a load balancer which speaks the PROXY protocol.
const balancerIP = "10.240.0.9"

// open is an installation with options that are off by default: ExternalName is allowed, the classes of ingress-nginx are served, the
// Service keeps the client's address, and a load balancer may speak the PROXY protocol. It is made by the first test that needs it, and
// goes with the run.
func open(t *testing.T) *lane {
	t.Helper()
	opened.Lock()
	defer opened.Unlock()
	if opened.lane == nil {
		var err error
		opened.lane, err = install(t.Context(), "podlane-open-"+world.run,
			"controller.drainDelaySeconds=0", "controller.service.externalTrafficPolicy=Local",
			"controller.extraArgs.allow-external-name=true", "controller.extraArgs.claim-ingress-nginx=true", "controller.extraArgs.update-status=false",
			"controller.proxyProtocol.enabled=true", "controller.proxyProtocol.trusted={"+balancerIP+"/32}")
		if err != nil {
			t.Fatal(err)
		}
	}
	return opened.lane
}

// clients are addresses to ask from, by curl's --interface: several where the network is ours, else the one that there is.
func clients() []string {
	if os.Getenv("PODLANE_NODE") == "" {
		return []string{""}
	}
	return []string{"10.240.0.2", "10.240.0.3", "10.240.0.4", "10.240.0.5", "10.240.0.6", "10.240.0.7", "10.240.0.8"}
}

// from are curl's arguments for asking from an address of clients.
func from(client string) []string {
	if client == "" {
		return nil
	}
	return []string{"--interface", client}
}
