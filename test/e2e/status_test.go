package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster"
)

// waitAddress waits until kubectl get ingress shows addresses.
func waitAddress(ns *cluster.Namespace, name, want string) {
	ns.Until("ADDRESS "+want+" of "+name, func(context.Context) error {
		out := strings.TrimSpace(ns.Kubectl("get", "ingress", name, "--no-headers"))
		// NAME CLASS HOSTS ADDRESS PORTS AGE, and ADDRESS may be empty.
		if fields := strings.Fields(out); len(fields) != 6 || fields[3] != want {
			return fmt.Errorf("kubectl get ingress: %s", out)
		}
		return nil
	})
}

// S12: the address of the Service in front, as a cloud gives it, shows in kubectl get ingress and follows.
func TestS12PublishService(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{Name: "web"}.yaml() + ingress("address", "address.goweb.com", "web-svc"))
	setAddresses := func(addresses ...string) {
		t.Helper()
		var list []map[string]string
		for _, a := range addresses {
			key := "hostname"
			if _, err := netip.ParseAddr(a); err == nil {
				key = "ip"
			}
			list = append(list, map[string]string{key: a})
		}
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": list}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Kubectl(t.Context(), "", "-n", systemNamespace, "patch", "service", "podlane", "--subresource=status", "--type=merge", "-p", string(patch)); err != nil {
			t.Fatal(err)
		}
	}
	setAddresses("203.0.113.10")
	waitAddress(ns, "address", "203.0.113.10")
	setAddresses("203.0.113.11", "lb.example.com")
	waitAddress(ns, "address", "203.0.113.11,lb.example.com")
	// An Ingress that comes later gets it too, and one that is not ours never.
	ns.Apply(ingress("later", "later.goweb.com", "web-svc") + ingressOf("other", "other", "other.goweb.com", "web-svc"))
	waitAddress(ns, "later", "203.0.113.11,lb.example.com")
	if got := ns.Kubectl("get", "ingress", "other", "-o", "jsonpath={.status.loadBalancer}"); got != "{}" {
		t.Errorf("an Ingress of another class has the status %s", got)
	}
	managers := ns.Kubectl("get", "ingress", "later", "--show-managed-fields", "-o", "jsonpath={range .metadata.managedFields[*]}{.manager}/{.subresource} {end}")
	if !strings.Contains(managers, "/status") {
		t.Errorf("managed fields are %s", managers)
	}
	ns.WaitRollout("web")
	lane.waitStatus(t, "http://later.goweb.com/", http.StatusOK)
}

// statusWrites is how many times the status of an Ingress was written since the API server started. It counts what
// changes nothing too, which does not show in the object.
func statusWrites(t *testing.T, c *cluster.Cluster) int {
	t.Helper()
	text, err := c.Client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(series, "apiserver_request_total{") || !strings.Contains(series, `resource="ingresses"`) ||
			!strings.Contains(series, `subresource="status"`) || strings.Contains(series, `verb="GET"`) {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// S12: --publish-status-address, and nothing is written that is there already: not when other things change, not by a replica
// that starts. The cluster is the test's own, so that every write is known.
func TestS12StatusIsWrittenOnce(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	i := install(t, c)
	ns := namespace(t, c)
	const want = "192.0.2.7,lb.example.com"
	lane := i.start(t, "--publish-status-address="+want)
	expect := func(writes int, when string) {
		t.Helper()
		time.Sleep(500 * time.Millisecond) // for one too many
		if have := statusWrites(t, c); have != writes {
			t.Errorf("%s: status was written %d times, want %d", when, have, writes)
		}
	}
	ns.Apply(ingressOf(i.class, "first", "first.goweb.com", "web-svc"))
	waitAddress(ns, "first", want)
	expect(1, "one Ingress")
	ns.Apply(externalService + externalEndpoints("192.0.2.99") + ingressOf(i.class, "second", "second.goweb.com", "external-svc"))
	waitAddress(ns, "second", want)
	ns.Apply(ingressOf(i.class, "first", "changed.goweb.com", "external-svc"))
	lane.waitEndpoints(t, ns.Name, "external-svc", "192.0.2.99:8000")
	expect(2, "a second Ingress, and changes of other fields")

	lane.Stop(20 * time.Second)
	if got := lane.State(); got != "exit status 0" {
		t.Errorf("podlane ended with %s", got)
	}
	if got := ns.Kubectl("get", "ingress", "first", "-o", "jsonpath={.status.loadBalancer.ingress[*]}"); !strings.Contains(got, "192.0.2.7") {
		t.Errorf("the addresses went with the process: %q", got)
	}
	i.start(t, "--publish-status-address="+want)
	ns.Apply(ingressOf(i.class, "third", "third.goweb.com", "web-svc"))
	waitAddress(ns, "third", want) // so the new replica leads
	expect(3, "a new replica")
	// What somebody else writes into the status is put right, once.
	ns.Kubectl("patch", "ingress", "first", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.1"}]}}}`)
	waitAddress(ns, "first", want)
	expect(5, "a stranger's write and ours")
}

// S12: the Pod sees the address of the client, and what the client says about itself is not believed.
func TestS12ClientAddress(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{Name: "web"}.yaml() + pod("client", "app: client") + ingress("client", "client.goweb.com", "web-svc"))
	ns.WaitRollout("web")
	client := ns.WaitPods("app=client", 1)[0]
	lane.waitStatus(t, "http://client.goweb.com/", http.StatusOK)
	out := ns.Exec(client.Name, "curl", "--silent", "--show-error", "--include", "--max-time", "10", "--resolve", "client.goweb.com:80:"+c.NodeIP().String(),
		"-H", "X-Forwarded-For: 6.6.6.6", "-H", "X-Real-IP: 6.6.6.6", "-H", "X-Forwarded-Proto: https", "-H", "Forwarded: for=6.6.6.6",
		"-H", "X_Forwarded_For: 6.6.6.6", "-H", "Connection: keep-alive, X-Hop", "-H", "X-Hop: 1",
		"http://client.goweb.com/echo")
	a, err := parseAnswer(out)
	if err != nil {
		t.Fatal(err)
	}
	e := a.echo(t)
	for name, want := range map[string][]string{
		"X-Forwarded-For": {client.Status.PodIP}, "X-Real-IP": {client.Status.PodIP}, "X-Forwarded-Proto": {"http"},
		"X-Forwarded-Host": {"client.goweb.com"}, "X-Forwarded-Port": {"80"}, "Host": {"client.goweb.com"},
		"Forwarded": nil, "X_Forwarded_For": nil, "X-Hop": nil, "Connection": nil,
	} {
		if got := e.values(name); !slices.Equal(got, want) {
			t.Errorf("%s came as %q, want %q", name, got, want)
		}
	}
	if id := e.values("X-Request-ID"); len(id) != 1 || id[0] == "" {
		t.Errorf("X-Request-ID came as %q", id)
	}
	if a.Header.Get("Date") == "" {
		t.Error("the answer has no Date")
	}
}
