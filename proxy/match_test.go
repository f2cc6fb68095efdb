package proxy_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// An encoded slash is refused only where reading it as a slash leads to a route with other security policies.
func TestEncodedSlashCannotEvadeAPolicy(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.EscapedPath()) })
	r := newRig(t, proxy.Options{Policies: []filters.Policy{filters.SSLRedirect()}})
	b := router.Backend{Service: router.ServicePort{Namespace: "d", Name: "a"}, Weight: 1}
	path := func(p string, values ...policy.Value) *router.Route {
		return &router.Route{
			ID:       router.RouteID{Namespace: "d", Ingress: "i", Host: "a.test", Path: p},
			Backends: []router.Backend{b}, Policies: values,
		}
	}
	off, err := filters.SSLRedirect().ParseValues(policy.Values{"ssl-redirect": "false"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := policy.Value{Family: "ssl-redirect", Parsed: off}
	table := router.NewTable([]*router.Route{path("/"), path("/same"), path("/admin", other), path("/admin/open")}, nil)
	r.engine.Prepare(table)
	r.engine.SetAddresses(b.Service.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), Ready: true}}})
	r.engine.Publish(table)
	for _, tc := range []struct {
		path string
		want int
	}{
		{"/x%2Fy", 200},
		{"/group%2Fproject/issues", 200},
		{"/same%2Fx", 200},
		{"/%2Fsame", 200},
		{"/admin%2Fusers", 400},
		{"/admin%5cusers", 400},
		{"/x%2F..%2Fadmin%2fusers", 400},
		{"/x%2F..%2F..%2F..%2Fadmin", 400},
		{"/..%2Fadmin", 400},
		{"/..%2Fsame", 200},
		{"/admin%2Fx%5C..%5C..%5Csame", 400},
		{"/admin%5Cx%2F..%2F..%2Fsame", 400},
		{"/x%2F..%2F", 200},
		{"/x%2F.%2F%2F", 200},
		{"/admin/users%2Fme", 200},
		{"/admin%2Fopen", 200},
		{"/admin/open%2F..%2Fusers", 200},
		{"/admin/open/x%2F..%2F..%2Fusers", 400},
		{"/admin%252Fusers", 200},
	} {
		res, body := r.do(http.MethodGet, "http://a.test"+tc.path, nil)
		if res.StatusCode != tc.want || tc.want == 200 && body != tc.path {
			t.Errorf("%s: %d %q, want %d", tc.path, res.StatusCode, body, tc.want)
		}
	}
}

// Where a host is read as ingress-nginx reads it an encoded slash separates, and the Pod gets it as it came: a path is refused where a Pod that takes it for
// text would read one that is protected otherwise.
func TestEncodedSlashOfCompatCannotEvadeAPolicy(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.EscapedPath()) })
	r := newRig(t, proxy.Options{Policies: []filters.Policy{filters.SSLRedirect()}})
	b := router.Backend{Service: router.ServicePort{Namespace: "d", Name: "a"}, Weight: 1}
	path := func(p string, values ...policy.Value) *router.Route {
		pattern, err := router.NewNginxPattern(p)
		if err != nil {
			t.Fatal(err)
		}
		return &router.Route{
			ID:       router.RouteID{Namespace: "d", Ingress: "i", Host: "a.test", Path: p, Type: router.Regex},
			Backends: []router.Backend{b}, Policies: values, Pattern: pattern, Compat: true,
		}
	}
	off, err := filters.SSLRedirect().ParseValues(policy.Values{"ssl-redirect": "false"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := policy.Value{Family: "ssl-redirect", Parsed: off}
	table := router.NewTable([]*router.Route{path("/"), path("/same/"), path("/admin/", other)}, nil)
	r.engine.Prepare(table)
	r.engine.SetAddresses(b.Service.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), Ready: true}}})
	r.engine.Publish(table)
	for path, want := range map[string]int{
		"/x%2Fy": 200, "/same%2Fx": 200, "/admin/x%2Fy": 200, "/x%252Fy": 200,
		"/admin%2Fx": 400, "/admin%5Cx": 400, "/admin/x%2F..%2F..%2Fopen": 400, "/open/..%2Fadmin/x": 400, "/admin/..%5C..%2Fx": 400,
	} {
		res, body := r.do(http.MethodGet, "http://a.test"+path, nil)
		if res.StatusCode != want || want == 200 && body != path {
			t.Errorf("%s: %d %q, want %d", path, res.StatusCode, body, want)
		}
	}
}
