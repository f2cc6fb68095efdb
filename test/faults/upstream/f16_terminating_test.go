package upstream_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/test/e2e/load"
)

// The conditions of an endpoint in a slice, as Kubernetes sets them.
func terminatingAddress(p *pod) router.Address {
	a := p.address()
	a.Ready, a.Serving, a.Terminating = false, true, true
	return a
}

func endingAddress(p *pod) router.Address {
	a := p.address()
	a.Ready, a.Serving, a.Terminating = false, false, true
	return a
}

func unreadyAddress(p *pod) router.Address {
	a := p.address()
	a.Ready, a.Serving = false, false
	return a
}

// Pods that terminate and still serve get requests only while none is ready.
func TestF16ServingTerminating(t *testing.T) {
	r := newRig(t, proxy.Options{})
	pods, _ := newPods(t, 3)
	a, b, c := pods[0], pods[1], pods[2]
	r.publish(web())
	steps := []struct {
		name  string
		slice []router.Address
		want  []*pod
		state upstream.State
	}{
		{"one ready, one terminating", []router.Address{a.address(), terminatingAddress(b)}, []*pod{a}, upstream.StateReady},
		{"the ready one fails", []router.Address{unreadyAddress(a), terminatingAddress(b)}, []*pod{b}, upstream.StateServing},
		{"all terminating", []router.Address{terminatingAddress(a), terminatingAddress(b)}, []*pod{a, b}, upstream.StateServing},
		{"one serves no more", []router.Address{endingAddress(a), terminatingAddress(b)}, []*pod{b}, upstream.StateServing},
		{"none serves", []router.Address{endingAddress(a), endingAddress(b)}, nil, ""},
		{"a new one is not ready", []router.Address{endingAddress(a), terminatingAddress(b), unreadyAddress(c)}, []*pod{b}, upstream.StateServing},
		{"the new one is ready", []router.Address{endingAddress(a), terminatingAddress(b), c.address()}, []*pod{c}, upstream.StateReady},
		{"the others are gone", []router.Address{c.address()}, []*pod{c}, upstream.StateReady},
		{"none is left", nil, nil, ""},
	}
	const requests = 20
	total := 0
	for k, step := range steps {
		r.assign(web(), step.slice...)
		before := map[*pod]int{}
		for _, p := range pods {
			before[p] = p.requests()
		}
		for i := range requests {
			want := http.StatusOK
			if len(step.want) == 0 {
				want = http.StatusServiceUnavailable
			}
			if got := r.ask(http.MethodPost, web().host, fmt.Sprintf("%d-%d", k, i)); got.status != want || !got.whole() {
				t.Fatalf("%s: %s, want %d", step.name, got, want)
			}
			total++
		}
		wanted := map[*pod]bool{}
		for _, p := range step.want {
			wanted[p] = true
			if state := r.endpoints(web())[p.at].State; state != step.state {
				t.Errorf("%s: %s is %s, want %s", step.name, p.name, state, step.state)
			}
		}
		for _, p := range pods {
			if n := p.requests() - before[p]; n > 0 != wanted[p] {
				t.Errorf("%s: %s got %d of %d requests", step.name, p.name, n, requests)
			}
		}
	}
	r.wantRejected("no-endpoint", 2*requests)
	t.Logf("F16: %d requests over %d states of a slice: terminating Pods served only while none was ready; 503 only when none served", total, len(steps))
}

// Pods are replaced one after the other under load. At the moment of its SIGTERM a Pod accepts nothing more, the news reaches the proxy
// later: no request fails.
func TestF16StopsAcceptingAtOnce(t *testing.T) {
	for _, row := range []struct {
		name     string
		method   string
		upstream upstream.Options
		// closes says that the Pod closes its idle connections itself instead of waiting until the proxy does. That only suits GET: a
		// POST that meets such an end is ambiguous (F5).
		closes bool
	}{
		{"GET, Pods close idle connections", http.MethodGet, upstream.Options{}, true},
		{"GET on fresh connections", http.MethodGet, fresh(), false},
		{"POST on fresh connections", http.MethodPost, fresh(), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, proxy.Options{Upstream: row.upstream})
			f := newFirewall(t)
			var live []*pod
			for i := range 3 {
				live = append(live, newPod(t, fmt.Sprintf("first-%d", i), 1+i))
			}
			slice := func(leaving ...router.Address) []router.Address {
				for _, p := range live {
					leaving = append(leaving, p.address())
				}
				return leaving
			}
			r.serve(slice()...)
			upload := 0
			if row.method == http.MethodPost {
				upload = 500
			}
			keeping := r.begin(load.Options{Name: "keeping", Method: row.method, Upload: upload, Download: 500, KeepAlive: true, Clients: 4, Rate: 600})
			coming := r.begin(load.Options{Name: "coming", Method: row.method, Upload: upload, Download: 500, Clients: 4, Rate: 300})
			const rolls = 12
			for i := range rolls {
				reach(t, keeping, 40*(i+1))
				old := live[0]
				live = append(live[1:], newPod(t, fmt.Sprintf("roll-%d", i), 10+i))
				r.assign(web(), slice(old.address())...)

				f.reset(podMatch(old.at).only())
				old.refuse(t)
				if row.closes {
					old.shutdown(t)
				}
				// Meanwhile requests meet the Pod: its endpoint is ready still.
				reach(t, keeping, keeping.Sent()+10)
				r.assign(web(), slice(endingAddress(old))...)
				reach(t, keeping, keeping.Sent()+5)
				r.assign(web(), slice()...)
			}
			results := []*load.Result{keeping.Stop(), coming.Stop()}
			sent := noneFailed(t, results...)
			refused := r.events.failures[upstream.Refused].Load()
			if refused == 0 {
				t.Error("no connect was refused: nothing was injected")
			}
			t.Logf("F16: %s: %d requests, %d Pods replaced, %d connects refused, %d retries: 0 failed",
				row.name, sent, rolls, refused, r.metric("podlane_request_retries_total"))
		})
	}
}

// shutdown closes idle connections and lets busy ones finish, as Go's servers do.
func (p *pod) shutdown(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// Requests in flight at an endpoint that leaves end as if it had stayed, within the drain timeout; beyond it they are cut.
func TestF16DrainTimeout(t *testing.T) {
	r := newRig(t, proxy.Options{Upstream: upstream.Options{DrainTimeout: time.Second}})
	pods, addresses := newPods(t, 2)
	release := make(chan struct{})
	defer close(release)
	held := make(chan struct{})
	pods[0].hold = func(q *http.Request) {
		if q.URL.Query().Get("id") == "never" {
			close(held)
			select {
			case <-release:
			case <-q.Context().Done():
			}
		}
	}
	r.serve(addresses[0])
	result := make(chan answer, 1)
	go func() { result <- r.ask(http.MethodPost, web().host, "never") }()
	<-held
	r.assign(web(), addresses[1])
	if e := r.endpoints(web())[pods[0].at]; e.State != upstream.StateDraining || e.Open != 1 {
		t.Errorf("the endpoint that left: %+v", e)
	}
	if got := <-result; got.status != http.StatusBadGateway {
		t.Errorf("%s, want 502 at the end of the drain timeout", got)
	}
	await(t, "the endpoint is forgotten", func() bool { _, there := r.endpoints(web())[pods[0].at]; return !there })
	if got := r.ask(http.MethodPost, web().host, "next"); got.status != http.StatusOK || got.header.Get("X-Pod") != pods[1].name {
		t.Errorf("the next request: %s", got)
	}
	t.Log("F16: a request that outlived the drain timeout of its endpoint was cut with 502, and the endpoint forgotten")
}
