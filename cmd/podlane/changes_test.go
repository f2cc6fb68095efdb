package main

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

func routeTo(host, path, service string) *router.Route {
	return &router.Route{
		ID:       router.RouteID{Namespace: "default", Ingress: "web", Host: host, Path: path},
		Backends: []router.Backend{{Service: router.ServicePort{Namespace: "default", Name: service}, Weight: 1}},
	}
}

// readyAt returns ready addresses of the port without a name.
func readyAt(addresses ...string) map[string][]router.Address {
	var list []router.Address
	for _, a := range addresses {
		list = append(list, router.Address{AddrPort: netip.MustParseAddrPort(a), Ready: true, Serving: true})
	}
	return map[string][]router.Address{"": list}
}

func sceneOf(addresses map[string]map[string][]router.Address, certificates []*router.Certificate, routes ...*router.Route) scene {
	byService := map[router.Service]map[string][]router.Address{}
	for name, ports := range addresses {
		byService[router.Service{Namespace: "default", Name: name}] = ports
	}
	return newScene(router.NewTable(routes, certificates), byService)
}

func TestChanges(t *testing.T) {
	type ports = map[string]map[string][]router.Address
	exact := routeTo("a.example", "/x", "web")
	exact.ID.Type = router.Exact
	missing := routeTo("a.example", "/y", "gone")
	missing.Backends[0].Unavailable = router.ServiceNotFound
	denied := routeTo("a.example", "/z", "web")
	denied.Denied = "auth-secret is missing"
	encrypted := routeTo("a.example", "/", "web")
	encrypted.HasCertificate = true
	encrypted.Policies = []policy.Value{{Family: "hsts", Parsed: "max-age=60"}}
	weighted := routeTo("a.example", "/", "web")
	weighted.Backends = append(weighted.Backends, router.Backend{Service: router.ServicePort{Namespace: "default", Name: "next", Port: "http"}, Weight: 9})
	external := routeTo("a.example", "/", "far")
	external.Backends[0].ExternalName = "far.example"
	catchAll := routeTo("", "", "fallback")
	catchAll.IsDefault = true
	otherIngress := routeTo("a.example", "/", "web")
	otherIngress.ID.Ingress = "other"

	web := ports{"web": readyAt("10.0.0.1:80", "10.0.0.2:80")}
	empty := sceneOf(nil, nil)
	one := sceneOf(web, nil, routeTo("a.example", "/", "web"))
	for _, tc := range []struct {
		name        string
		before, now scene
		want        []string
	}{
		{"nothing", one, sceneOf(web, nil, routeTo("a.example", "/", "web")), nil},
		{"a route is new", empty, one, []string{"+ http://a.example/ → default/web (2 endpoints)"}},
		{"a route is gone", one, empty, []string{"- http://a.example/"}},
		{"another Service", one, sceneOf(ports{"api": readyAt("10.0.0.3:80")}, nil, routeTo("a.example", "/", "api")),
			[]string{"~ http://a.example/ → default/api (1 endpoint), was default/web (2 endpoints)"}},
		{"policies and certificate", one, sceneOf(web, nil, encrypted),
			[]string{"~ https://a.example/ → default/web (2 endpoints); hsts max-age=60, was default/web (2 endpoints)"}},
		{"only another Ingress", one, sceneOf(web, nil, otherIngress), []string{"~ http://a.example/ → default/web (2 endpoints)"}},
		{"endpoints", one, sceneOf(ports{"web": readyAt("10.0.0.3:80", "10.0.0.2:80", "10.0.0.4:80")}, nil, routeTo("a.example", "/", "web")),
			[]string{"~ default/web: 3 endpoints, was 2 +10.0.0.3:80 +10.0.0.4:80 -10.0.0.1:80"}},
		{"no endpoint left", one, sceneOf(nil, nil, routeTo("a.example", "/", "web")),
			[]string{"~ default/web: 0 endpoints, was 2 -10.0.0.1:80 -10.0.0.2:80"}},
		{"every kind of route", empty, sceneOf(web, nil, exact, missing, denied, catchAll), []string{
			"+ http://a.example/x (exact) → default/web (2 endpoints)",
			"+ http://a.example/y → default/gone (503: ServiceNotFound)",
			"+ http://a.example/z → 503 (denied: auth-secret is missing)",
			"+ http://* (default backend) → default/fallback (0 endpoints)",
		}},
		{"several backends", empty, sceneOf(ports{"web": readyAt("10.0.0.1:80"), "next": {"http": readyAt("10.0.0.9:80")[""]}}, nil, weighted),
			[]string{"+ http://a.example/ → default/web (1 endpoint) weight 1, default/next:http (1 endpoint) weight 9"}},
		{"an external name", empty, sceneOf(nil, nil, external), []string{"+ http://a.example/ → default/far (far.example)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.now.changesSince(tc.before)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCertificateChanges(t *testing.T) {
	certificate := func(secret string, der ...byte) *router.Certificate {
		c := &router.Certificate{Namespace: "default", Secret: secret, Hosts: []string{"a.example", "b.example"}}
		if len(der) > 0 {
			c.KeyPair = &tls.Certificate{Certificate: [][]byte{der}}
		}
		return c
	}
	at := func(list ...*router.Certificate) scene { return sceneOf(nil, list) }
	const text = "certificate default/tls for a.example, b.example"
	for _, tc := range []struct {
		name        string
		before, now scene
		want        []string
	}{
		{"new", at(), at(certificate("tls", 1)), []string{"+ " + text}},
		{"gone", at(certificate("tls", 1)), at(), []string{"- " + text}},
		{"same bytes", at(certificate("tls", 1)), at(certificate("tls", 1)), nil},
		{"replaced", at(certificate("tls", 1)), at(certificate("tls", 2)), []string{"~ " + text + ": replaced"}},
		{"broken", at(certificate("tls", 1)), at(certificate("tls")), []string{"~ " + text + ": unusable, the last good one stays"}},
		{"still broken", at(certificate("tls")), at(certificate("tls")), nil},
		{"mended", at(certificate("tls")), at(certificate("tls", 1)), []string{"~ " + text + ": replaced"}},
	} {
		if diff := cmp.Diff(tc.want, tc.now.changesSince(tc.before)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestInUse(t *testing.T) {
	address := func(text string, ready, serving bool) router.Address {
		return router.Address{AddrPort: netip.MustParseAddrPort(text), Ready: ready, Serving: serving}
	}
	for _, tc := range []struct {
		all  []router.Address
		want []string
	}{
		{nil, nil},
		{[]router.Address{address("10.0.0.2:80", true, true), address("10.0.0.1:80", true, true), address("10.0.0.3:80", false, true)},
			[]string{"10.0.0.1:80", "10.0.0.2:80"}},
		{[]router.Address{address("10.0.0.3:80", false, true), address("10.0.0.4:80", false, false)}, []string{"10.0.0.3:80"}},
		{[]router.Address{address("10.0.0.1:80", true, true), address("10.0.0.1:80", true, true)}, []string{"10.0.0.1:80"}},
	} {
		var got []string
		for _, a := range inUse(tc.all) {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("in use of %v (-want +got):\n%s", tc.all, diff)
		}
	}
}
