package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"podlane.dev/podlane/test/cluster"
)

const externalService = `
apiVersion: v1
kind: Service
metadata: {name: external-svc}
spec: {ports: [{port: 80, targetPort: 8000}]}
---
`

// externalEndpoints are made by hand, as in the text.
func externalEndpoints(addresses ...string) string {
	return "apiVersion: v1\nkind: Endpoints\nmetadata: {name: external-svc}\nsubsets:\n  - addresses: [{ip: " +
		strings.Join(addresses, "}, {ip: ") + "}]\n    ports: [{port: 8000}]\n---\n"
}

// S4: a Service without selector, whose Endpoints kube-controller-manager mirrors into EndpointSlices.
func TestS4ExternalEndpoints(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(pod("one", "app: external", "--name=one") + pod("two", "app: external", "--name=two") + pod("three", "app: external", "--name=three"))
	ip := map[string]string{}
	for _, p := range ns.WaitPods("app=external", 3) {
		ip[p.Name] = p.Status.PodIP
	}
	ns.Apply(externalService + ingress("external", "external.goweb.com", "external-svc"))
	followEndpoints(t, lane, ns, ip)
	ns.Apply(externalEndpoints(ip["one"]))
	ns.WaitEndpoints("external-svc", 1) // so there are mirrored EndpointSlices
}

// S4 where nobody mirrors: an API server without kube-controller-manager. The addresses are no Pods either.
func TestS4ExternalEndpointsUnmirrored(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	i := install(t, c)
	lane := i.start(t)
	ns := namespace(t, c)
	ip := map[string]string{}
	for n, name := range []string{"one", "two", "three"} {
		ip[name] = fmt.Sprintf("10.239.0.%d", n+1)
		addAddress(t, ip[name])
		c.Start(t, cluster.Command("backend", "--name="+name, "--listen="+ip[name]+":8000", "--shutdown=abrupt"))
	}
	ns.Apply(externalService + ingressOf(i.class, "external", "external.goweb.com", "external-svc"))
	followEndpoints(t, lane, ns, ip)
	if got := ns.Kubectl("get", "endpointslices", "-o", "name"); got != "" {
		t.Errorf("there are EndpointSlices: %s", got)
	}
}

// followEndpoints changes the Endpoints by hand and expects the traffic to follow.
func followEndpoints(t *testing.T, lane *lane, ns *cluster.Namespace, ip map[string]string) {
	t.Helper()
	const address = "http://external.goweb.com/"
	lane.waitStatus(t, address, http.StatusServiceUnavailable)
	for _, step := range [][]string{{"one", "two"}, {"one", "two", "three"}, {"two", "three"}, {"one"}} {
		var addresses, want []string
		for _, name := range step {
			addresses, want = append(addresses, ip[name]), append(want, ip[name]+":8000")
		}
		ns.Apply(externalEndpoints(addresses...))
		began := time.Now()
		lane.waitEndpoints(t, ns.Name, "external-svc", want...)
		t.Logf("%v followed %s after kubectl had ended", step, time.Since(began).Round(time.Millisecond))
		seen := lane.pods(t, address, 4*len(step))
		for _, name := range step {
			if seen[name] == 0 {
				t.Errorf("of %v none reached %s: %v", step, name, seen)
			}
		}
		if len(seen) != len(step) {
			t.Errorf("want traffic to %v, have %v", step, seen)
		}
	}
	ns.Kubectl("delete", "endpoints", "external-svc")
	lane.waitStatus(t, address, http.StatusServiceUnavailable)
}

// addAddress gives this machine, the tests' own network namespace, one more address.
func addAddress(t *testing.T, address string) {
	t.Helper()
	addAddresses(t, address+"/32")
}

// addAddresses makes every address of a range one of the machine's own.
func addAddresses(t *testing.T, cidr string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, a); err != nil {
		t.Fatalf("add %s: %v", cidr, err)
	}
	t.Cleanup(func() {
		if err := netlink.AddrDel(lo, a); err != nil {
			t.Errorf("remove %s: %v", cidr, err)
		}
	})
}
