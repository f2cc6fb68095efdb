package e2e_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// S13: sessionAffinity: ClientIP on a Service. A client's requests go to one Pod, on every replica the same, whether the address is
// that of the connection or what a trusted proxy says; when a Pod leaves, its clients move and no others.
func TestS13ClientIP(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	one, two, behind := i.start(t), i.start(t), i.start(t, "--trusted-proxies=127.0.0.0/8")
	lanes := []*lane{one, two, behind}
	ns.Apply(workload{
		Name: "sticky", Replicas: 4,
		Service: "sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}\n  ports: [{port: 80, targetPort: 8000}]",
	}.yaml() + ingressOf(i.class, "sticky", "sticky.goweb.com", "sticky-svc") +
		workload{Name: "loose", Replicas: 4}.yaml() + ingressOf(i.class, "loose", "loose.goweb.com", "loose-svc"))
	for _, name := range []string{"sticky", "loose"} {
		ns.WaitRollout(name)
		var want []string
		for _, ip := range ns.PodIPs("app=" + name) {
			want = append(want, ip+":8000")
		}
		for _, l := range lanes {
			l.waitEndpoints(t, ns.Name, name+"-svc", want...)
		}
	}
	clients := make([]netip.Addr, 40)
	for n := range clients {
		clients[n] = netip.AddrFrom4([4]byte{127, 0, 77, byte(n + 1)})
	}

	home := homes(t, one, clients)
	for name, l := range map[string]*lane{"again": one, "the other replica": two} {
		if got := homes(t, l, clients); !maps.Equal(got, home) {
			t.Errorf("%s: clients go to %v, want %v", name, got, home)
		}
	}
	for _, addr := range clients {
		// Through a trusted proxy the client is who it says; from anybody else the field means nothing.
		if pod := visit(t, behind, "sticky.goweb.com", netip.MustParseAddr("127.0.0.9"), addr); pod != home[addr] {
			t.Errorf("%s behind a trusted proxy goes to %s, want %s", addr, pod, home[addr])
		}
		if pod := visit(t, one, "sticky.goweb.com", clients[0], addr); pod != home[clients[0]] {
			t.Errorf("%s became %s by a field that it sent", clients[0], addr)
		}
	}
	// The API server's own curl, as a user would try it.
	for range 3 {
		if a := one.curl(t, "http://sticky.goweb.com/", "--interface", clients[0].String()); a.pod() != home[clients[0]] {
			t.Errorf("curl from %s: %s, want %s", clients[0], a.pod(), home[clients[0]])
		}
	}
	// Without affinity a client sees all Pods.
	seen := map[string]bool{}
	for range 12 {
		seen[visit(t, one, "loose.goweb.com", clients[0], netip.Addr{})] = true
	}
	if len(seen) != 4 {
		t.Errorf("without affinity a client saw %d Pods of 4", len(seen))
	}
	spread := map[string]int{}
	for _, pod := range home {
		spread[pod]++
	}
	if len(spread) != 4 {
		t.Errorf("40 clients were spread over %v", spread)
	}

	ns.Kubectl("scale", "deployment/sticky", "--replicas=3")
	ns.WaitPods("app=sticky", 3)
	var left []string
	stay := map[string]bool{}
	for _, p := range ns.Pods("app=sticky") {
		if p.DeletionTimestamp == nil {
			left = append(left, p.Status.PodIP+":8000")
			stay[p.Name] = true
		}
	}
	for _, l := range lanes {
		l.waitEndpoints(t, ns.Name, "sticky-svc", left...)
	}
	after := homes(t, one, clients)
	moved := 0
	for _, addr := range clients {
		switch {
		case !stay[after[addr]]:
			t.Errorf("%s goes to %s, which has left", addr, after[addr])
		case stay[home[addr]] && after[addr] != home[addr]:
			t.Errorf("%s moved from %s, which stays, to %s", addr, home[addr], after[addr])
		case after[addr] != home[addr]:
			moved++
		}
	}
	if got := homes(t, two, clients); !maps.Equal(got, after) {
		t.Errorf("after it the replicas disagree: %v and %v", after, got)
	}
	t.Logf("S13: 40 clients over 4 Pods: %v; one Pod left, and the %d clients of it moved, no other", slices.Sorted(maps.Values(spread)), moved)
	if moved == 0 || moved == len(clients) {
		t.Errorf("%d clients moved", moved)
	}
}

// homes is where each client's requests go, over several connections each.
func homes(t *testing.T, l *lane, clients []netip.Addr) map[netip.Addr]string {
	t.Helper()
	home := map[netip.Addr]string{}
	for range 3 {
		for _, addr := range clients {
			pod := visit(t, l, "sticky.goweb.com", addr, netip.Addr{})
			if before, known := home[addr]; known && before != pod {
				t.Errorf("%s went to %s and to %s", addr, before, pod)
			}
			home[addr] = pod
		}
	}
	return home
}

// visit makes a request from an address of this machine, with a field X-Forwarded-For where claim is set, and returns the Pod that
// answered.
func visit(t *testing.T, l *lane, host string, from, claim netip.Addr) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url(80, "/"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	if claim.IsValid() {
		request.Header.Set("X-Forwarded-For", claim.String())
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatalf("%s from %s: %v", host, from, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s from %s: %s %s %v", host, from, answer.Status, body, err)
	}
	pod := answer.Header.Get("X-Pod")
	if pod == "" {
		t.Fatal(fmt.Sprint("no X-Pod in ", answer.Header))
	}
	return pod
}
