package upstream_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/test/e2e/load"
)

// connectTimeout is short so that the tests are; what they assert are counts.
const connectTimeout = 300 * time.Millisecond

// One Pod's SYNs are swallowed: who meets it goes to the next endpoint after the connect timeout, and then it is out.
func TestF2BlackHole(t *testing.T) {
	o := fresh()
	o.ConnectTimeout = connectTimeout
	r := newRig(t, proxy.Options{Upstream: o})
	pods, addresses := newPods(t, 3)
	f := newFirewall(t)
	f.drop(podMatch(pods[0].at).only())
	r.serve(addresses...)
	const clients = 6
	loads := []*load.Load{
		r.begin(load.Options{Name: "get", Download: 2000, KeepAlive: true, Clients: clients}),
		r.begin(load.Options{Name: "post", Method: http.MethodPost, Upload: 3000, Clients: clients}),
	}
	await(t, "the endpoint is ejected", func() bool { return r.ejected(web()) == 1 })
	var results []*load.Result
	for _, l := range loads {
		reach(t, l, 700)
		results = append(results, l.Stop())
	}
	sent := noneFailed(t, results...)
	timeouts := r.events.failures[upstream.Timeout].Load()
	if timeouts < 1 || timeouts > 2*clients {
		t.Errorf("%d connects timed out: want one at least, and no more than there are clients, for then the endpoint is out", timeouts)
	}
	if n := f.packets()[0]; int64(n) < timeouts {
		t.Errorf("the kernel swallowed %d packets, %d connects timed out", n, timeouts)
	}
	if n := pods[0].requests(); n != 0 {
		t.Errorf("the Pod behind the black hole got %d requests", n)
	}
	if n := r.metric("podlane_upstream_connect_errors_total", "reason", "timeout"); int64(n) != timeouts {
		t.Errorf("metrics count %d timeouts, want %d", n, timeouts)
	}
	slowest := max(results[0].Quantile(1), results[1].Quantile(1))
	t.Logf("F2: %d GET and POST, 0 failed, %d of them waited for the connect timeout of %s, slowest %s", sent, timeouts, connectTimeout, slowest.Round(time.Millisecond))
}

// Every SYN is swallowed: 504 after two connect timeouts at most, however many endpoints there are.
func TestF2AllBlack(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			o := fresh()
			o.ConnectTimeout = connectTimeout
			r := newRig(t, proxy.Options{Upstream: o})
			pods, addresses := newPods(t, n)
			f := newFirewall(t)
			for _, p := range pods {
				f.drop(podMatch(p.at).only())
			}
			r.serve(addresses...)
			var took []time.Duration
			const requests = 2
			for i := range requests {
				a := r.ask(http.MethodPost, web().host, fmt.Sprint(i))
				if a.status != http.StatusGatewayTimeout || !a.whole() {
					t.Errorf("request %d: %s, want 504", i, a)
				}
				took = append(took, a.took)
			}
			r.wantRejected("connect-timeout", requests)
			// Each connect that waits to its end costs a connect timeout: more than two would be more time than promised.
			if got, most := r.events.failures[upstream.Timeout].Load(), int64(requests*min(2, n)); got < requests || got > most {
				t.Errorf("%d connects timed out for %d requests, want %d at most", got, requests, most)
			}
			if got := r.ejected(web()); got > n/2 {
				t.Errorf("%d of %d endpoints ejected", got, n)
			}
			f.clear()
			if a := r.ask(http.MethodPost, web().host, "after"); a.status != http.StatusOK {
				t.Errorf("after the end of the fault: %s", a)
			}
			t.Logf("F2: %d of %d swallow: 504 after %s at most, connect timeout %s", n, n, slices.Max(took).Round(time.Millisecond), connectTimeout)
		})
	}
}
