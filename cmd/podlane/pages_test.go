package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/certs"
)

func somePages() *pages {
	r := routeTo("a.example", "/x", "web")
	expiry := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	certificate := &router.Certificate{
		Namespace: "default", Secret: "tls", Hosts: []string{"a.example"}, Owner: "default/web",
		KeyPair: &tls.Certificate{Leaf: &x509.Certificate{NotAfter: expiry}, PrivateKey: "never shown"},
	}
	table := router.NewTable([]*router.Route{r}, []*router.Certificate{certificate})
	return &pages{
		metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "podlane_x 1\n") }),
		ready:   func() error { return nil },
		table:   func() *router.Table { return table },
		endpoints: func() []upstream.PoolStatus {
			return []upstream.PoolStatus{
				{ServicePort: router.ServicePort{Namespace: "default", Name: "web", Port: "http"}, Endpoints: []upstream.EndpointStatus{
					{AddrPort: netip.MustParseAddrPort("10.0.0.1:80"), Pod: "web-1", Node: "n1", State: upstream.StateReady, InFlight: 2, Open: 3, Idle: 1},
					{AddrPort: netip.MustParseAddrPort("[2001:db8::1]:80"), State: upstream.StateEjected, EjectedFor: 1500 * time.Millisecond, Fails: 1},
				}},
				{ServicePort: router.ServicePort{Namespace: "default", Name: "far"}, ExternalName: "far.example", Err: errors.New("no such host")},
			}
		},
		certificates: func() []certs.Info {
			return []certs.Info{
				{Default: true, State: certs.OK, NotAfter: expiry},
				{Namespace: "default", Secret: "tls", Hosts: []string{"a.example", "b.example"}, Owner: "default/web", State: certs.Stale, Since: expiry, Until: expiry, Serial: "2a"},
			}
		},
		problems: func() []ingress.Problem {
			return []ingress.Problem{{
				Object: ingress.Object{Kind: "Ingress", Namespace: "default", Name: "web"}, Field: "spec.rules[0]",
				Reason: "PathConflict", Effect: ingress.RouteDropped, Message: "use another path", Source: "a.yaml:3",
			}}
		},
	}
}

// fetch asks a handler as a browser on this machine would.
func fetch(handler http.Handler, method, host, target string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.Host = host
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9090}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local)))
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPagesText(t *testing.T) {
	private := somePages().private()
	for target, want := range map[string][]string{
		"/":                {"/debug/routes", "/readyz"},
		"/metrics":         {"podlane_x 1"},
		"/healthz":         {"ok"},
		"/readyz":          {"ok"},
		"/debug/routes":    {"host a.example", "Prefix /x -> default/web;", "certificate default/tls"},
		"/debug/certs":     {"(default)            (self-signed)  ok ", "a.example,b.example  default/tls    stale until 2030-01-02T03:04:05Z", "default/web"},
		"/debug/endpoints": {"default/web:http\n  10.0.0.1:80", "ready", "2 in flight", "3 open, 1 idle", "pod web-1, node n1", "ejected for 1.5s, 1 failure", "default/far (far.example): no such host\n  no endpoints"},
		"/debug/problems":  {"a.yaml:3: Ingress default/web spec.rules[0]: PathConflict (RouteDropped): use another path"},
	} {
		r := fetch(private, http.MethodGet, "localhost:9090", target)
		body := bodyOf(t, r)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", target, r.Status)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: %q not in\n%s", target, w, body)
			}
		}
	}
}

func TestPagesJSON(t *testing.T) {
	private := somePages().private()
	for target, want := range map[string]string{
		"/debug/routes?format=json": `{"routes":[{"host":"a.example","path":"/x","type":"Prefix","namespace":"default","ingress":"web",
			"backends":[{"namespace":"default","service":"web","port":"","weight":1}],"certificate":false}],
			"certificates":[{"namespace":"default","secret":"tls","owner":"default/web","hosts":["a.example"],"usable":true,"notAfter":"2030-01-02T03:04:05Z"}]}`,
		"/debug/endpoints?format=json": `[{"namespace":"default","service":"web","port":"http","endpoints":[
			{"address":"10.0.0.1:80","state":"ready","pod":"web-1","node":"n1","inFlight":2,"openConnections":3,"idleConnections":1,"failures":0},
			{"address":"[2001:db8::1]:80","state":"ejected","inFlight":0,"openConnections":0,"idleConnections":0,"failures":1,"ejectedForSeconds":1.5}]},
			{"namespace":"default","service":"far","port":"","externalName":"far.example","error":"no such host","endpoints":[]}]`,
		"/debug/problems?format=json": `[{"kind":"Ingress","namespace":"default","name":"web","field":"spec.rules[0]","reason":"PathConflict",
			"effect":"RouteDropped","message":"use another path","source":"a.yaml:3"}]`,
	} {
		r := fetch(private, http.MethodGet, "127.0.0.1:9090", target)
		if got := r.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %q", target, got)
		}
		body := bodyOf(t, r)
		if !sameJSON(t, body, want) {
			t.Errorf("%s is\n%s\nwant\n%s", target, body, want)
		}
		if strings.Contains(body, "never shown") {
			t.Errorf("%s shows a private key", target)
		}
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var texts [2]string
	for i, text := range []string{a, b} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		canonical, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(canonical)
	}
	return texts[0] == texts[1]
}

func TestPagesOfNothingAreLists(t *testing.T) {
	p := somePages()
	p.table = func() *router.Table { return new(router.Table) }
	p.endpoints = func() []upstream.PoolStatus { return nil }
	p.problems = func() []ingress.Problem { return nil }
	for target, want := range map[string]string{
		"/debug/routes?format=json": `{"routes":[],"certificates":[]}`, "/debug/endpoints?format=json": `[]`, "/debug/problems?format=json": `[]`,
	} {
		if body := bodyOf(t, fetch(p.private(), http.MethodGet, "localhost", target)); !sameJSON(t, body, want) {
			t.Errorf("%s = %s, want %s", target, body, want)
		}
	}
	if body := bodyOf(t, fetch(p.private(), http.MethodGet, "localhost", "/debug/problems")); body != "no problems\n" {
		t.Errorf("/debug/problems = %q", body)
	}
}

func TestPagesStatus(t *testing.T) {
	p := somePages()
	p.ready = func() error { return errors.New("the first table is being built") }
	profiled := somePages()
	profiled.profiling = true
	for _, tc := range []struct {
		name                 string
		handler              http.Handler
		method, host, target string
		want                 int
	}{
		{"not ready", p.private(), "GET", "localhost", "/readyz", 503},
		{"not ready, public", p.public(), "GET", "localhost", "/readyz", 503},
		{"alive all the same", p.public(), "GET", "localhost", "/healthz", 200},
		{"HEAD", p.public(), "HEAD", "localhost", "/healthz", 200},
		{"POST", p.public(), "POST", "localhost", "/healthz", 405},
		{"no routes for the public", p.public(), "GET", "localhost", "/debug/routes", 404},
		{"no index for the public", p.public(), "GET", "localhost", "/", 404},
		{"metrics for the public", p.public(), "GET", "podlane.podlane.svc", "/metrics", 200},
		{"unknown page", p.private(), "GET", "localhost", "/debug/x", 404},
		{"unknown format", p.private(), "GET", "localhost", "/debug/routes?format=xml", 400},
		{"no profiles", p.private(), "GET", "localhost", "/debug/pprof/", 404},
		{"no profiles for the public", profiled.public(), "GET", "localhost", "/debug/pprof/", 404},
		{"profiles", profiled.private(), "GET", "localhost", "/debug/pprof/", 200},
		{"rebound name", p.private(), "GET", "evil.example:9090", "/debug/routes", 403},
		{"name that ends alike", p.private(), "GET", "evil-localhost", "/debug/routes", 403},
		{"IPv6", p.private(), "GET", "[::1]:9090", "/debug/routes", 200},
		{"a name of localhost", p.private(), "GET", "podlane.localhost", "/debug/routes", 200},
	} {
		if r := fetch(tc.handler, tc.method, tc.host, tc.target); r.StatusCode != tc.want {
			t.Errorf("%s: %s %s: %d, want %d", tc.name, tc.method, tc.target, r.StatusCode, tc.want)
		}
	}
	if body := bodyOf(t, fetch(p.public(), "GET", "localhost", "/readyz")); body != "the first table is being built\n" {
		t.Errorf("/readyz = %q, want what is waited for", body)
	}
}
