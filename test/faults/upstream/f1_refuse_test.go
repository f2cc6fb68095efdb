package upstream_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/test/e2e/load"
)

// fresh are options under which every request dials.
func fresh() upstream.Options { return upstream.Options{MaxIdlePerEndpoint: -1} }

// newPods starts pods at the first n addresses.
func newPods(t testing.TB, n int) (pods []*pod, addresses []router.Address) {
	t.Helper()
	for i := range n {
		p := newPod(t, fmt.Sprintf("pod-%d", i+1), i+1)
		pods, addresses = append(pods, p), append(addresses, p.address())
	}
	return pods, addresses
}

// A Pod refuses while load runs: no client notices, and the endpoint is out after one failure.
func TestF1Refuses(t *testing.T) {
	r := newRig(t, proxy.Options{Upstream: fresh()})
	pods, addresses := newPods(t, 3)
	f := newFirewall(t)
	r.serve(addresses...)
	loads := []*load.Load{
		r.begin(load.Options{Name: "get", Download: 2000, KeepAlive: true}),
		r.begin(load.Options{Name: "post", Method: http.MethodPost, Upload: 3000, Download: 100}),
	}
	for _, l := range loads {
		reach(t, l, 300)
	}
	f.reset(podMatch(pods[0].at).only())
	var results []*load.Result
	for _, l := range loads {
		reach(t, l, 1000)
		results = append(results, l.Stop())
	}
	sent := noneFailed(t, results...)
	refused := r.events.failures[upstream.Refused].Load()
	if n := f.packets()[0]; n == 0 || int64(n) != refused {
		t.Errorf("the kernel refused %d SYNs, the proxy met %d: nothing was injected", n, refused)
	}
	if state := r.endpoints(web())[pods[0].at]; state.State != upstream.StateEjected || state.EjectedFor <= 0 || state.EjectedFor > upstream.DefaultFailTimeout {
		t.Errorf("the endpoint that refuses: %+v, want it ejected for at most %s", state, upstream.DefaultFailTimeout)
	}
	// A connect that succeeded before the fault may be heard of after one that was refused, and put the endpoint back once more.
	ejections := r.events.ejections.Load()
	if n := ejections - r.events.restores.Load(); n != 1 || int64(r.metric("podlane_upstream_ejections_total")) != ejections {
		t.Errorf("%d ejections more than restorations, want 1; metrics count %d", n, r.metric("podlane_upstream_ejections_total"))
	}
	if n := r.metric("podlane_upstream_connect_errors_total", "reason", "refused"); int64(n) != refused {
		t.Errorf("metrics count %d refused connects, want %d", n, refused)
	}
	t.Logf("F1: %d GET and POST, 0 failed, %d connects refused, then ejected for %s", sent, refused, upstream.DefaultFailTimeout)
}

// Connections of the pool are reset too, as when a Pod's machine has restarted: GET goes on.
func TestF1ResetsPooledConnections(t *testing.T) {
	r := newRig(t, proxy.Options{})
	pods, addresses := newPods(t, 3)
	f := newFirewall(t)
	r.serve(addresses...)
	o := load.Options{Download: 500, KeepAlive: true, Clients: 6}
	warm := r.drive(300, o)
	idle := r.endpoints(web())[pods[0].at].Idle
	if idle == 0 {
		t.Fatal("no connection to the Pod is in the pool")
	}
	f.reset(podMatch(pods[0].at))
	o.Name = "after"
	sent := noneFailed(t, warm, r.drive(600, o))
	if n := r.ejected(web()); n != 1 {
		t.Errorf("%d endpoints ejected, want 1", n)
	}
	t.Logf("F1: %d GET over pooled connections, %d of them reset: 0 failed, %d retries", sent, idle, r.metric("podlane_request_retries_total"))
}

// How long the way round an endpoint that refuses takes.
func TestF1NextEndpoint(t *testing.T) {
	o := fresh()
	o.MaxFails = -1
	r := newRig(t, proxy.Options{Upstream: o})
	pods, addresses := newPods(t, 3)
	newFirewallFor(t, pods[0])
	r.serve(addresses...)
	var direct, around []time.Duration
	c := r.dial()
	defer c.conn.Close()
	for i := range 400 {
		before := r.events.failures[upstream.Refused].Load()
		a := c.ask(http.MethodPost, web().host, fmt.Sprint(i))
		if a.status != http.StatusOK {
			t.Fatalf("request %d: %s", i, a)
		}
		if r.events.failures[upstream.Refused].Load() > before {
			around = append(around, a.took)
		} else {
			direct = append(direct, a.took)
		}
	}
	if len(around) < 50 || len(direct) < 50 {
		t.Errorf("%d requests met the endpoint that refuses, %d did not: want both", len(around), len(direct))
	}
	if got := pods[1].requests() + pods[2].requests(); got != 400 {
		t.Errorf("the other Pods got %d requests, want 400", got)
	}
	t.Logf("F1: next endpoint after %s (%d requests at %s, %d around the other at %s, medians)",
		median(around)-median(direct), len(direct), median(direct), len(around), median(around))
}

// newFirewallFor refuses new connections to pods.
func newFirewallFor(t testing.TB, pods ...*pod) *firewall {
	t.Helper()
	f := newFirewall(t)
	for _, p := range pods {
		f.reset(podMatch(p.at).only())
	}
	return f
}

func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2].Round(time.Microsecond)
}

// Every endpoint refuses: 502, and no more than half are out, so that the first one that comes back is found at once.
func TestF1AllRefuse(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newRig(t, proxy.Options{Upstream: fresh()})
			pods, addresses := newPods(t, n)
			f := newFirewallFor(t, pods...)
			r.serve(addresses...)
			var took []time.Duration
			const requests = 50
			for i := range requests {
				a := r.ask(http.MethodGet, web().host, fmt.Sprint(i))
				if a.status != http.StatusBadGateway || !a.whole() {
					t.Fatalf("request %d: %s, want 502", i, a)
				}
				took = append(took, a.took)
			}
			r.wantRejected("connect-failed", requests)
			if got, want := r.events.failures[upstream.Refused].Load(), int64(requests*min(3, n)); got != want {
				t.Errorf("%d connects for %d requests, want %d", got, requests, want)
			}
			if got := r.ejected(web()); got != n/2 {
				t.Errorf("%d of %d endpoints ejected, want %d", got, n, n/2)
			}
			f.clear()
			for i := range requests {
				if a := r.ask(http.MethodGet, web().host, fmt.Sprint(i)); a.status != http.StatusOK {
					t.Fatalf("request %d after the end of the fault: %s", i, a)
				}
			}
			t.Logf("F1: %d of %d refuse: 502 after %s (median; slowest %s), %d ejected; 0 failed after it", n, n, median(took), slices.Max(took), n/2)
		})
	}
}

// As many as three endpoints are tried, and at most half of them ejected.
func TestF1HalfRefuse(t *testing.T) {
	for _, row := range []struct{ endpoints, refuse int }{{2, 1}, {3, 2}, {4, 2}, {6, 2}, {8, 2}} {
		t.Run(fmt.Sprintf("%d of %d", row.refuse, row.endpoints), func(t *testing.T) {
			r := newRig(t, proxy.Options{Upstream: fresh()})
			pods, addresses := newPods(t, row.endpoints)
			newFirewallFor(t, pods[:row.refuse]...)
			r.serve(addresses...)
			sent := noneFailed(t, r.drive(300, load.Options{Method: http.MethodPost, Upload: 10, KeepAlive: true}))
			want := min(row.refuse, row.endpoints/2)
			if got := r.ejected(web()); got != want {
				t.Errorf("%d endpoints ejected, want %d", got, want)
			}
			t.Logf("F1: %d of %d refuse: %d POST, 0 failed, %d ejected", row.refuse, row.endpoints, sent, want)
		})
	}
}

// After fail_timeout one request probes the endpoint, no more; when it accepts again it is back.
func TestF1ComesBack(t *testing.T) {
	o := fresh()
	o.FailTimeout = 300 * time.Millisecond
	r := newRig(t, proxy.Options{Upstream: o})
	pods, addresses := newPods(t, 2)
	f := newFirewallFor(t, pods[0])
	r.serve(addresses...)
	l := r.begin(load.Options{Method: http.MethodPost, Upload: 10, KeepAlive: true})
	await(t, "four probes", func() bool { return r.events.failures[upstream.Refused].Load() >= 5 })
	if n := pods[0].requests(); n != 0 {
		t.Errorf("an endpoint that refuses got %d requests", n)
	}
	sent, refused := l.Sent(), r.events.failures[upstream.Refused].Load()
	if n := r.events.restores.Load(); n != 0 {
		t.Errorf("restored %d times while it refuses", n)
	}
	f.clear()
	await(t, "the endpoint gets requests", func() bool { return pods[0].requests() > 50 })
	result := l.Stop()
	noneFailed(t, result)
	if n, ejected := r.events.restores.Load(), r.ejected(web()); n != 1 || ejected != 0 {
		t.Errorf("restored %d times, %d ejected at the end; want 1 and 0", n, ejected)
	}
	t.Logf("F1: %d requests while it refuses, %d of them probes, and %d after: 0 failed", sent, refused-1, result.Sent-sent)
}
