package nginxcompat

import (
	"fmt"
	"net/netip"
	"testing"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// TestPages compares the bodies of the proxy's own answers, where the host is read as ingress-nginx reads it, with nginx's for each status that a
// limit may be told to answer with. Paths end in the status.
func TestPages(t *testing.T) {
	s := setup{server: "server_tokens off;"}
	var routes []*router.Route
	port := router.ServicePort{Namespace: "default", Name: "pod"}
	for status := 400; status <= 511; status++ {
		if status == 408 || status == 444 || status == 499 || 494 <= status && status <= 498 {
			continue // nginx answers nothing there, or 400
		}
		s.server += fmt.Sprintf(" location = /s/%[1]d { return %[1]d; }", status)
		values, _ := parse(t, setup{values: policy.Values{"limit-rpm": "1", "limit-burst-multiplier": "0", "limit-req-status-code": fmt.Sprint(status)}})
		routes = append(routes, &router.Route{
			ID:       router.RouteID{Namespace: "default", Ingress: fmt.Sprint("s", status), Host: "a.test", Path: fmt.Sprint("/s/", status), Type: router.Exact},
			Backends: []router.Backend{{Service: port, Weight: 1}}, Policies: values, Compat: true,
		})
	}
	p := &pair{pod: newPod(t, s)}
	p.nginx = startNginx(t, s, p.pod.addr)
	e := proxy.New(proxy.Options{Policies: config.Policies()})
	table := new(router.Table).With(router.Change{Hosts: []*router.Host{router.NewHost("a.test", routes)}})
	e.Prepare(table)
	e.SetAddresses(port.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(p.pod.addr), UID: "u", Ready: true, Serving: true}}})
	e.Publish(table)
	p.podlane = serve(t, e)
	compared := 0
	for _, r := range routes {
		request := get(r.ID.Path)
		ask(t, "tcp", p.podlane, request).Body.Close() // what the limit lets through
		p.pod.take(t)
		if theirs := replyOf(t, ask(t, "unix", p.nginx, request), nil); theirs.body == "" {
			continue // nginx has no page for it, and Podlane a line of text
		}
		compared++
		p.same(t, request)
	}
	if compared < 20 {
		t.Errorf("nginx has %d pages", compared)
	}
}
