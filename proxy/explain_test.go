package proxy_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// explain is Engine.Explain for a question that is good.
func (r *rig) explain(q proxy.Question) proxy.Explanation {
	r.t.Helper()
	said, err := r.engine.Explain(q)
	if err != nil {
		r.t.Fatalf("%+v: %v", q, err)
	}
	return said
}

// TestExplanationsLeaveNoTrace: after a thousand explanations no metric, no line of the log, no Pod and no turn of a balancer is another than before.
func TestExplanationsLeaveNoTrace(t *testing.T) {
	m, err := observe.NewMetrics(observe.MetricsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "access.log")
	log, err := observe.OpenAccessLog(observe.AccessLogOptions{Destination: file})
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	pod := func(name string) string {
		return backend(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			_, _ = w.Write([]byte(name))
		})
	}
	r := newRig(t, proxy.Options{Metrics: m, AccessLog: log, Policies: []filters.Policy{filters.LoadBalance()}})
	service := router.ServicePort{Namespace: "default", Name: "web"}
	table := router.NewTable([]*router.Route{{
		ID: router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"}, Backends: []router.Backend{{Service: service, Weight: 1}},
		Policies: []policy.Value{parsed(t, filters.LoadBalance(), policy.Values{"load-balance": "round_robin"})},
	}}, nil)
	r.engine.Prepare(table)
	r.engine.SetAddresses(service.Service(), map[string][]router.Address{"": {
		{AddrPort: netip.MustParseAddrPort(pod("one")), UID: "1", Ready: true}, {AddrPort: netip.MustParseAddrPort(pod("two")), UID: "2", Ready: true},
	}})
	r.engine.Publish(table)
	metrics := func() string {
		rec := httptest.NewRecorder()
		promhttp.HandlerFor(m.Gatherer(), promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		var lines []string
		for line := range strings.Lines(rec.Body.String()) {
			if !strings.Contains(line, "_age_") { // it grows by itself
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	_, first := r.do(http.MethodGet, "http://a.test/", nil)
	// The first request is counted after its answer, and logged then.
	for late := time.Now().Add(time.Minute); log.Counts().Written < 1; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("the first request is not in the log")
		}
	}
	before, endpoints := metrics(), r.engine.Endpoints()
	for range 999 { // an odd number: one turn that is lost is seen
		for _, url := range []string{"http://a.test/", "http://nobody.test/", "http://a.test/%zz"} {
			r.explain(proxy.Question{URL: url})
		}
	}
	if got := metrics(); got != before {
		t.Errorf("metrics before\n%s\nafter\n%s", before, got)
	}
	if got := r.engine.Endpoints(); !reflect.DeepEqual(got, endpoints) {
		t.Errorf("endpoints %+v, before %+v", got, endpoints)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("Pods were asked %d times", n)
	}
	for range 2 {
		if _, second := r.do(http.MethodGet, "http://a.test/", nil); second == first {
			t.Errorf("%s comes twice: an explanation took a turn", first)
		} else {
			first = second
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := log.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || strings.Count(string(text), "\n") != 3 {
		t.Errorf("the log has (%v)\n%s", err, text)
	}
}

// parsed is what values parse to.
func parsed(t testing.TB, p filters.Policy, values policy.Values) policy.Value {
	t.Helper()
	v, err := p.ParseValues(values, nil)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Value{Family: p.FamilyName(), Parsed: v}
}

// canaryRig serves a.test with a canary that gets 10 of 100 requests.
func canaryRig(t *testing.T, pods ...string) *rig {
	t.Helper()
	r := newRig(t, proxy.Options{})
	names := []string{"main", "canary"}
	route := &router.Route{
		ID:          router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
		Alternative: &router.Alternative{Namespace: "default", Ingress: "next", Canary: router.Canary{On: true, Header: "X-Canary", Cookie: "canary", Weight: 10, Total: 100}},
	}
	for _, name := range names {
		route.Backends = append(route.Backends, router.Backend{Service: router.ServicePort{Namespace: "default", Name: name}, Weight: 1})
	}
	table := router.NewTable([]*router.Route{route}, nil)
	r.engine.Prepare(table)
	for i, pod := range pods {
		r.engine.SetAddresses(router.Service{Namespace: "default", Name: names[i]}, map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), UID: pod, Ready: true}}})
	}
	r.engine.Publish(table)
	return r
}

func TestExplainCanary(t *testing.T) {
	pod := backend(t, func(http.ResponseWriter, *http.Request) {})
	r := canaryRig(t, pod, pod)
	for _, c := range []struct {
		name, value string
		want        map[string]int // of 100
		by          string
	}{
		{"X-Other", "1", map[string]int{"default/main": 90, "default/canary": 10}, ""},
		{"X-Canary", "always", map[string]int{"default/canary": 1}, "canary-by-header"},
		{"X-Canary", "never", map[string]int{"default/main": 1}, "canary-by-header"},
		{"Cookie", "canary=always", map[string]int{"default/canary": 1}, "canary-by-cookie"},
	} {
		said := r.explain(proxy.Question{URL: "http://a.test/", Fields: []exchange.Field{{Name: c.name, Value: c.value}}})
		got := map[string]int{}
		for _, o := range said.Outcomes {
			got[o.Service] = o.Weight
			if o.Canary != (o.Service == "default/canary") || o.Forward == nil {
				t.Errorf("%s: %s: outcome %+v", c.name, c.value, o)
			}
		}
		if !reflect.DeepEqual(got, c.want) || said.Canary.Decided != c.by {
			t.Errorf("%s: %s: %v by %q, want %v by %q", c.name, c.value, got, said.Canary.Decided, c.want, c.by)
		}
	}
	r = canaryRig(t, pod)
	said := r.explain(proxy.Question{URL: "http://a.test/", Fields: []exchange.Field{{Name: "X-Canary", Value: "always"}}})
	if len(said.Outcomes) != 1 || said.Outcomes[0].Service != "default/main" || said.Canary.Decided != "the canary has no endpoints" {
		t.Errorf("without endpoints: %+v, by %q", said.Outcomes, said.Canary.Decided)
	}
}

func TestExplainErrorServices(t *testing.T) {
	r := newRig(t, errorOptions())
	page := backend(t, errorPage)
	r.routeErrors(policy.Values{"custom-http-errors": "503", "default-backend": "errors"}, podBackend, errBackend,
		map[router.Service]string{{Namespace: "default", Name: "errors"}: page})
	f := r.explain(proxy.Question{URL: "http://a.test/x", Fields: []exchange.Field{{Name: "Cookie", Value: "a=b"}}}).Outcomes[0].Forward
	if f == nil || !f.ErrorService || f.Service != "default/errors" || f.Sent.Target != "/x" || !reflect.DeepEqual(f.Sent.Removed, []string{"Cookie"}) {
		t.Errorf("explained as %+v", f)
	}
}

// TestExplainNeverShowsCredentials: what a client proves its identity with is in no part of an explanation.
func TestExplainNeverShowsCredentials(t *testing.T) {
	r := newRig(t, proxy.Options{})
	r.route("a.test", backend(t, func(http.ResponseWriter, *http.Request) {}))
	said := r.explain(proxy.Question{URL: "http://a.test/", Fields: []exchange.Field{
		{Name: "Authorization", Value: "Bearer hush"}, {Name: "Cookie", Value: "session=hush"}, {Name: "X-Api-Key", Value: "hush"},
	}})
	text, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hush") {
		t.Errorf("%s", text)
	}
}

func TestQuestionsThatCannotBeAsked(t *testing.T) {
	r := newRig(t, proxy.Options{})
	for _, q := range []proxy.Question{
		{}, {URL: "a.test/"}, {URL: "ftp://a.test/"}, {URL: "http:///x"}, {URL: "http://u:p@a.test/"}, {URL: "http://a.test/ x"},
		{URL: "http://a.test/\r\nX: y"}, {URL: "http://a.test/", Method: "GET / HTTP/1.1\r\nHost: b\r\n\r\nGET"},
		{URL: "http://a.test/", Fields: []exchange.Field{{Name: "X", Value: "1\r\nY: 2"}}},
	} {
		if said, err := r.engine.Explain(q); err == nil {
			t.Errorf("%+v: %+v", q, said.Outcomes)
		}
	}
	said := r.explain(proxy.Question{URL: "http://a.test/", Fields: []exchange.Field{{Name: "bad name", Value: "x"}}})
	if a := said.Outcomes[0].Answer; a == nil || a.Status != 400 || a.Reason != string(exchange.BadRequest) {
		t.Errorf("a field that is none: %+v", a)
	}
}

// TestExplainCandidates: what else could have matched is told, and why it did not get the request.
func TestExplainCandidates(t *testing.T) {
	r := newRig(t, proxy.Options{})
	at := func(host, path string, typ router.PathType) *router.Route {
		return &router.Route{ID: router.RouteID{Namespace: "default", Ingress: "ing", Host: host, Path: path, Type: typ}, Backends: []router.Backend{{Unavailable: router.ServiceNotFound}}}
	}
	r.engine.Publish(router.NewTable([]*router.Route{
		at("a.b.test", "/x", router.Prefix), at("a.b.test", "/x/y", router.Prefix), at("a.b.test", "/x/y", router.Exact), at("a.b.test", "/z", router.Exact),
		at("*.b.test", "/", router.Prefix), at("", "/x", router.Prefix), at("c.test", "/", router.Prefix),
	}, nil))
	said := r.explain(proxy.Question{URL: "https://a.b.test/x/y"})
	got := map[string]string{}
	for _, c := range said.Candidates {
		got[c.Host+" "+c.Type+" "+c.Path] = c.Why
	}
	want := map[string]string{
		"a.b.test Prefix /x": "Exact comes before Prefix", "a.b.test Prefix /x/y": "Exact comes before Prefix",
		"*.b.test Prefix /": "*.b.test: less specific than a.b.test, which owns the request",
		" Prefix /x":        "the rules without a host: less specific than a.b.test, which owns the request",
	}
	if !reflect.DeepEqual(got, want) || said.Route.Type != "Exact" || said.Host.Found != "exact host" {
		t.Errorf("route %+v, candidates %q", said.Route, got)
	}
	said = r.explain(proxy.Question{URL: "https://a.b.test/q"})
	if said.Route != nil || len(said.Candidates) != 5 || said.Candidates[0].Matches || said.Outcomes[0].Answer.Status != 404 {
		t.Errorf("without a route: %+v %+v", said.Route, said.Candidates)
	}
}
