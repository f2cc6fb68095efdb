package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// namedPods starts Pods that answer with their number.
func namedPods(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for i := range n {
		addrs = append(addrs, backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) }))
	}
	return addrs
}

// Requests for which the expression gives the same have one Pod, which they keep when others go; all Pods are somebody's.
func TestHashBy(t *testing.T) {
	pods := namedPods(t, 4)
	r := policyRig(t, proxy.Options{})
	annotations := map[string]string{"upstream-hash-by": "$arg_user-$host"}
	r.routeSaying(annotations, pods...)
	ask := func(user int) string {
		_, body := r.do(http.MethodGet, fmt.Sprintf("http://a.test/any?x=%d&user=%d", time.Now().UnixNano(), user), nil)
		return body
	}
	const users = 60
	var homes [users]string
	used := map[string]bool{}
	for u := range users {
		homes[u] = ask(u)
		used[homes[u]] = true
		for range 3 {
			if again := ask(u); again != homes[u] {
				t.Errorf("user %d was with %s and is with %s", u, homes[u], again)
			}
		}
	}
	if len(used) != len(pods) {
		t.Errorf("%d users have %d of %d Pods", users, len(used), len(pods))
	}
	r.routeSaying(annotations, pods[:3]...)
	for u := range users {
		if now := ask(u); homes[u] != "3" && now != homes[u] {
			t.Errorf("user %d was with %s and is with %s, which was no need", u, homes[u], now)
		}
	}
}

// A subset is what it says: so many Pods for each value, and others for others.
func TestHashBySubset(t *testing.T) {
	pods := namedPods(t, 6)
	r := policyRig(t, proxy.Options{})
	r.routeSaying(map[string]string{"upstream-hash-by": "$arg_user", "upstream-hash-by-subset": "true", "upstream-hash-by-subset-size": "2"}, pods...)
	all := map[string]bool{}
	for u := range 20 {
		mine := map[string]bool{}
		for range 20 {
			_, body := r.do(http.MethodGet, fmt.Sprint("http://a.test/?user=", u), nil)
			mine[body], all[body] = true, true
		}
		if len(mine) != 2 {
			t.Errorf("user %d has %d Pods, want 2", u, len(mine))
		}
	}
	if len(all) != len(pods) {
		t.Errorf("20 users have %d of %d Pods", len(all), len(pods))
	}
}

// Round robin is exact, also between the routes of a Service; without a word all Pods are used too.
func TestRoundRobin(t *testing.T) {
	pods := namedPods(t, 3)
	r := policyRig(t, proxy.Options{})
	r.routeSaying(map[string]string{"load-balance": "round_robin"}, pods...)
	got := map[string]int{}
	for range 30 {
		_, body := r.do(http.MethodGet, "http://a.test/", nil)
		got[body]++
	}
	if fmt.Sprint(got) != "map[0:10 1:10 2:10]" {
		t.Errorf("got %v", got)
	}
}

// With ewma a Pod that is slow gets few requests, as soon as it is known to be.
func TestEWMA(t *testing.T) {
	var slow, fast atomic.Int32
	pods := []string{
		backend(t, func(http.ResponseWriter, *http.Request) { slow.Add(1); time.Sleep(50 * time.Millisecond) }),
		backend(t, func(http.ResponseWriter, *http.Request) { fast.Add(1) }),
	}
	r := policyRig(t, proxy.Options{})
	r.routeSaying(map[string]string{"load-balance": "ewma"}, pods...)
	for range 100 {
		r.do(http.MethodGet, "http://a.test/", nil)
	}
	if slow.Load() > 30 || fast.Load() < 70 {
		t.Errorf("the slow Pod got %d requests, the fast one %d", slow.Load(), fast.Load())
	}
}

// A Service's own sessionAffinity goes before load-balance, and a hash before it.
func TestServiceAffinityAndAnnotations(t *testing.T) {
	pods := namedPods(t, 4)
	for _, row := range []struct {
		say  map[string]string
		want int
	}{{nil, 1}, {map[string]string{"load-balance": "round_robin"}, 1}, {map[string]string{"upstream-hash-by": "$request_uri"}, 4}} {
		r := policyRig(t, proxy.Options{})
		table := router.NewTable([]*router.Route{{
			ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
			Backends: []router.Backend{{Service: router.ServicePort{Namespace: "default", Name: "svc"}, Weight: 1, Affinity: time.Hour}},
			Policies: says(t, row.say),
		}}, nil)
		r.engine.Prepare(table)
		r.addresses(pods...)
		r.engine.Publish(table)
		got := map[string]bool{}
		for i := range 60 {
			_, body := r.do(http.MethodGet, fmt.Sprint("http://a.test/", i), nil)
			got[body] = true
		}
		if len(got) != row.want {
			t.Errorf("%v: %d Pods, want %d", row.say, len(got), row.want)
		}
	}
}

// Requests to a Service's own address do not go to its Pods, whatever becomes of those, and are tried again there: another Pod may be behind it.
func TestServiceUpstream(t *testing.T) {
	var calls atomic.Int32
	service := script(t, func(_ int, c net.Conn, _ *http.Request) bool {
		if calls.Add(1)%2 == 1 {
			return false // this Pod is about to go
		}
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nservice")
		return err == nil
	})
	r := policyRig(t, proxy.Options{})
	addr := netip.MustParseAddrPort(service.addr)
	table := router.NewTable([]*router.Route{{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
		Backends: []router.Backend{{Service: router.ServicePort{Namespace: "default", Name: "svc", Port: addr.String()}, Weight: 1, ClusterIP: addr}},
		Policies: says(t, map[string]string{"proxy-next-upstream": "error"}),
	}}, nil)
	if fresh := r.engine.Prepare(table); len(fresh) != 1 {
		t.Errorf("%d Services are fresh, want 1", len(fresh))
	}
	r.addresses(namedPods(t, 1)...)
	r.engine.Publish(table)
	for range 4 {
		r.addresses(namedPods(t, 2)...)
		if res, body := r.do(http.MethodGet, "http://a.test/", nil); body != "service" {
			t.Errorf("%d %q", res.StatusCode, body)
		}
	}
	for _, p := range r.engine.Endpoints() {
		if len(p.Endpoints) != 1 || p.Endpoints[0].AddrPort != addr || !strings.Contains(p.ServicePort.String(), addr.String()) {
			t.Errorf("the pool is %+v", p)
		}
	}
}
