package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// ruled is a path of a.test with annotations and settings.
type ruled struct {
	ingress, path string
	values        policy.Values
}

// publishRuled makes all paths reach the Pod.
func (r *rig) publishRuled(pod string, policies []filters.Policy, paths ...ruled) {
	r.t.Helper()
	sp := router.ServicePort{Namespace: "default", Name: "svc"}
	var routes []*router.Route
	for _, p := range paths {
		route := &router.Route{ID: router.RouteID{Namespace: "default", Ingress: p.ingress, Host: "a.test", Path: p.path}, Backends: []router.Backend{{Service: sp, Weight: 1}}}
		for _, family := range policies {
			own := policy.Values{}
			for _, key := range family.FamilyKeys() {
				if text, ok := p.values[key.Name]; ok {
					own[key.Name] = text
				}
			}
			if len(own) == 0 {
				continue
			}
			v, err := family.ParseValues(own, nil)
			if err != nil {
				r.t.Fatal(err)
			}
			route.Policies = append(route.Policies, policy.Value{Family: family.FamilyName(), Parsed: v})
		}
		routes = append(routes, route)
	}
	t := router.NewTable(routes, nil)
	r.engine.Prepare(t)
	r.engine.SetAddresses(sp.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), UID: "u", Ready: true, Serving: true}}})
	r.engine.Publish(t)
}

// statusOf returns the status of a GET.
func statusOf(t *testing.T, c *http.Client, url string, fields ...string) int {
	t.Helper()
	q, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		q.Header.Add(fields[i], fields[i+1])
	}
	res, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

// passed counts how many of n requests pass; the others must get that status.
func passed(t *testing.T, c *http.Client, url string, n, otherwise int, fields ...string) int {
	t.Helper()
	count := 0
	for range n {
		switch status := statusOf(t, c, url, fields...); status {
		case 200:
			count++
		case otherwise:
		default:
			t.Fatalf("%s: %d", url, status)
		}
	}
	return count
}

// A bucket holds one request and a burst, is that of the Ingress, whatever the path, and outlives tables. The least rates are a request in a
// minute, so the time that the test takes makes no difference.
func TestRatesAreOfTheIngressAndOutliveTables(t *testing.T) {
	policies := []filters.Policy{filters.Limit()}
	pod := okPod(t)
	overClients(t, proxy.Options{Policies: policies, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		limited := policy.Values{"limit-rpm": "1", "limit-burst-multiplier": "4"}
		table := []ruled{{"one", "/", limited}, {"one", "/more", limited}, {"two", "/two", limited}, {"free", "/free", nil}}
		r.publishRuled(pod, policies, table...)
		if n := passed(t, c, base+"/", 3, 503); n != 3 {
			t.Errorf("%d of 3 passed", n)
		}
		r.publishRuled(pod, policies, table...) // all routes are new
		if n := passed(t, c, base+"/more/x", 5, 503); n != 2 {
			t.Errorf("%d passed after a Publish, want 2", n)
		}
		if n := passed(t, c, base+"/two", 6, 503); n != 5 {
			t.Errorf("%d passed of another Ingress, want 5", n)
		}
		if n := passed(t, c, base+"/", 1, 503, "X-Forwarded-For", "192.0.2.1"); n != 1 {
			t.Error("another client is limited")
		}
		if n := passed(t, c, base+"/free", 20, 503); n != 20 {
			t.Errorf("%d of 20 passed without a limit", n)
		}
		limited = policy.Values{"limit-rpm": "1", "limit-burst-multiplier": "9", "limit-req-status-code": "429"}
		r.publishRuled(pod, policies, ruled{"one", "/", limited})
		if n := passed(t, c, base+"/", 9, 429); n != 5 {
			t.Errorf("%d passed after the burst grew by 5", n)
		}
		limited = policy.Values{"limit-rpm": "1", "limit-burst-multiplier": "0", "limit-whitelist": "127.0.0.0/8"}
		r.publishRuled(pod, policies, ruled{"one", "/", limited})
		if n := passed(t, c, base+"/", 9, 503); n != 9 {
			t.Errorf("%d of 9 passed of a client that is exempt", n)
		}
		if n := passed(t, c, base+"/", 9, 503, "X-Forwarded-For", "198.51.100.9"); n != 1 {
			t.Errorf("%d passed without a burst, want 1", n)
		}
	})
}

// A request that the minute refuses is not counted in the second: the bucket of the second would be full otherwise.
func TestRefusedRequestsCountInNeitherRate(t *testing.T) {
	policies := []filters.Policy{filters.Limit()}
	pod := okPod(t)
	r := newRig(t, proxy.Options{Policies: policies})
	both := policy.Values{"limit-rps": "1000", "limit-rpm": "1", "limit-burst-multiplier": "0", "limit-conn-zone-variable": "$arg_k"}
	r.publishRuled(pod, policies, ruled{"web", "/", both})
	if n := passed(t, r.client, "http://a.test/?k=a", 20, 503); n != 1 {
		t.Errorf("%d passed, want 1", n)
	}
	if n := passed(t, r.client, "http://a.test/?k=b", 20, 503); n != 1 {
		t.Errorf("%d passed of another key, want 1", n)
	}
	if n := passed(t, r.client, "http://a.test/?k=", 20, 503); n != 20 {
		t.Errorf("%d of 20 passed with an empty key", n)
	}
}

// slowPod answers when it is told to, and counts what came.
func slowPod(t *testing.T) (addr string, answer chan<- struct{}, came *atomic.Int64) {
	t.Helper()
	answers := make(chan struct{})
	came = new(atomic.Int64)
	return backend(t, func(w http.ResponseWriter, q *http.Request) {
		came.Add(1)
		select {
		case <-answers:
		case <-q.Context().Done():
		}
		fmt.Fprint(w, "ok")
	}), answers, came
}

// A place is held until the answer has been sent, or the client has gone.
func TestLimitOfRequestsAtOnce(t *testing.T) {
	policies := []filters.Policy{filters.Limit()}
	overClients(t, proxy.Options{Policies: policies}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		pod, answer, came := slowPod(t)
		rules := ruled{"web", "/", policy.Values{"limit-connections": "2", "limit-conn-status-code": "429"}}
		r.publishRuled(pod, policies, rules)
		done := make(chan int, 2)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		go func() {
			res, err := c.Get(base + "/")
			if err != nil {
				done <- 0
				return
			}
			res.Body.Close()
			done <- res.StatusCode
		}()
		go func() {
			q, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/", nil)
			if err != nil {
				return
			}
			if res, err := c.Do(q); err == nil {
				res.Body.Close()
			}
		}()
		waitFor(t, "two requests", func() bool { return came.Load() == 2 })
		if status := statusOf(t, c, base+"/"); status != 429 {
			t.Errorf("a third request: %d, want 429", status)
		}
		r.publishRuled(pod, policies, rules)
		if status := statusOf(t, c, base+"/"); status != 429 {
			t.Errorf("after a Publish: %d, want 429", status)
		}
		leave()
		waitFor(t, "one request", func() bool { return r.engine.Requests() == 1 })
		answered := make(chan int, 1)
		go func() { answered <- statusOf(t, c, base+"/") }()
		waitFor(t, "the place of the client that has gone", func() bool { return came.Load() == 3 })
		answer <- struct{}{}
		answer <- struct{}{}
		if a, b := <-done, <-answered; a != 200 || b != 200 {
			t.Errorf("%d, %d, want 200 twice", a, b)
		}
		waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
	})
}

// A panic, an upgrade that the Pod refuses, and a tunnel give their places back when they end, and not before.
func TestPlacesOfWhatEndsOtherwise(t *testing.T) {
	limit := filters.Limit()
	policies := []filters.Policy{limit, &filters.Of[int]{
		Of:      policy.Of[int]{Name: "bomb", IfInvalid: policy.Ignore},
		Default: func(*router.Route) (int, bool) { return 0, true },
		Request: func(*router.Route, int) exchange.RequestFilter { return bomb{} },
	}}
	rules := ruled{"web", "/", policy.Values{"limit-connections": "1"}}
	overClients(t, proxy.Options{Policies: policies}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.publishRuled(okPod(t), policies, rules)
		for i := range 5 {
			if status := statusOf(t, c, base+"/panic"); status != 500 {
				t.Errorf("panic %d: %d", i, status)
			}
			waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
		}
		if status := statusOf(t, c, base+"/"); status != 200 {
			t.Errorf("after panics: %d", status)
		}
	})
	t.Run("tunnel", func(t *testing.T) {
		r := newRig(t, proxy.Options{Policies: policies})
		r.publishRuled(echoPod(t), policies, rules)
		tunnel := openTunnel(t, r)
		tunnel.echo("hello")
		if status := statusOf(t, r.client, "http://a.test/"); status != 503 {
			t.Errorf("beside a tunnel: %d, want 503", status)
		}
		tunnel.nc.Close()
		waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
		openTunnel(t, r).echo("again")
	})
	t.Run("cut", func(t *testing.T) {
		r := newRig(t, proxy.Options{Policies: policies})
		r.publishRuled(fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err == nil {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			}
		}), policies, rules)
		for range 3 {
			res, err := r.client.Get("http://a.test/")
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != 200 || err == nil {
				t.Errorf("%d %v, want 200 that is cut", res.StatusCode, err)
			}
			waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
		}
	})
}
