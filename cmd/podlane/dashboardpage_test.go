package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/cmd/podlane/dashboard"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// dashed are some pages with a dashboard.
func dashed() *pages {
	p := somePages()
	p.page = dashboard.New(dashboard.Options{Lists: dashboardLists(p)})
	return p
}

func TestDashboardLists(t *testing.T) {
	private := dashed().private()
	const route = `{"host":"a.example","path":"/x","type":"Prefix","namespace":"default","ingress":"web","backends":[{"namespace":"default","service":"web","port":"","weight":1}],"certificate":false}`
	const ready = `{"namespace":"default","service":"web","port":"http","address":"10.0.0.1:80","state":"ready","pod":"web-1","node":"n1","inFlight":2,"openConnections":3,"idleConnections":1,"failures":0}`
	const ejected = `{"namespace":"default","service":"web","port":"http","address":"[2001:db8::1]:80","state":"ejected","inFlight":0,"openConnections":0,"idleConnections":0,"failures":1,"ejectedForSeconds":1.5}`
	const certificate = `{"namespace":"default","secret":"tls","hosts":["a.example","b.example"],"owner":"default/web","state":"stale","serial":"2a","since":"2030-01-02T03:04:05Z","until":"2030-01-02T03:04:05Z"}`
	const problem = `{"kind":"Ingress","namespace":"default","name":"web","field":"spec.rules[0]","reason":"PathConflict","effect":"RouteDropped","message":"use another path","source":"a.yaml:3"}`
	for _, test := range []struct {
		list, words string
		total       int
		want        []string
	}{
		{"routes", "", 1, []string{route}},
		{"routes", "A.EXAMPLE default/WEB prefix", 1, []string{route}},
		{"routes", "web nobody", 1, nil},
		{"endpoints", "", 2, []string{ready, ejected}},
		{"endpoints", "ejected default/web:http", 2, []string{ejected}},
		{"endpoints", "web-1 n1 10.0.0.1:80 ready", 2, []string{ready}},
		{"certificates", "b.example stale default/tls", 2, []string{certificate}},
		{"problems", "pathconflict another a.yaml:3 routedropped ingress rules[0]", 1, []string{problem}},
		{"problems", "another x", 1, nil},
	} {
		target := dashboard.Path + "api/list/" + test.list + "?q=" + strings.ReplaceAll(test.words, " ", "+")
		body := bodyOf(t, fetch(private, http.MethodGet, "localhost", target))
		want := fmt.Sprintf(`{"total":%d,"matched":%d,"offset":0,"rows":[%s]}`, test.total, len(test.want), strings.Join(test.want, ","))
		if !sameJSON(t, body, want) {
			t.Errorf("%s is\n%s\nwant\n%s", target, body, want)
		}
	}
}

// TestRouteRowsAreKept: what is searched is made when a search first asks, and once for a table; another table has other rows.
func TestRouteRowsAreKept(t *testing.T) {
	table := router.NewTable([]*router.Route{routeTo("a.example", "/", "web"), routeTo("b.example", "/", "web")}, nil)
	r := &routeRows{table: func() *router.Table { return table }}
	first := r.list()
	if first.Number != 2 || !strings.Contains(first.Text(1), "b.example") {
		t.Fatalf("%d rows, %q", first.Number, first.Text(1))
	}
	again := r.list()
	if n := testing.AllocsPerRun(100, func() { _ = r.list().Text(1) }); n != 0 {
		t.Errorf("%g allocations for the text of a table that was searched before", n)
	}
	table = router.NewTable([]*router.Route{routeTo("c.example", "/", "web")}, nil)
	if next := r.list(); next.Number != 1 || !strings.Contains(next.Text(0), "c.example") {
		t.Errorf("%d rows, %q", next.Number, next.Text(0))
	}
	if again.Number != 2 || !strings.Contains(again.Text(0), "a.example") {
		t.Error("rows that someone reads have changed")
	}
}

// TestPageOfManyEndpoints: a page without a search costs what its rows cost, and so does counting.
func TestPageOfManyEndpoints(t *testing.T) {
	pools := make([]upstream.PoolStatus, 5000)
	for i := range pools {
		pools[i] = upstream.PoolStatus{
			ServicePort: router.ServicePort{Namespace: "team", Name: fmt.Sprintf("app-%d", i), Port: "80"},
			Endpoints:   []upstream.EndpointStatus{{AddrPort: netip.MustParseAddrPort("10.0.0.1:80"), Pod: "pod", State: upstream.StateReady}},
		}
	}
	if n := testing.AllocsPerRun(20, func() {
		if endpointRows(pools).Number != 5000 {
			t.Error("not all are counted")
		}
	}); n > 50 {
		t.Errorf("%g allocations to count 5,000 endpoints", n)
	}
}

func TestDashboardPlaces(t *testing.T) {
	with, without := dashed(), somePages()
	for _, test := range []struct {
		name         string
		handler      http.Handler
		host, target string
		want         int
	}{
		{"page", with.private(), "localhost:9090", "/dashboard/", 200},
		{"without a slash", with.private(), "localhost:9090", "/dashboard", 307},
		{"file", with.private(), "127.0.0.1:9090", "/dashboard/page.js", 200},
		{"list", with.private(), "[::1]:9090", "/dashboard/api/list/routes", 200},
		{"rebound name", with.private(), "evil.example:9090", "/dashboard/", 403},
		{"rebound name, list", with.private(), "evil.example:9090", "/dashboard/api/list/routes", 403},
		{"rebound name, state", with.private(), "evil.example", "/dashboard/api/state", 403},
		{"public", with.public(), "localhost", "/dashboard/", 404},
		{"public, list", with.public(), "localhost", "/dashboard/api/list/routes", 404},
		{"off", without.private(), "localhost", "/dashboard/", 404},
		{"off, list", without.private(), "localhost", "/dashboard/api/list/routes", 404},
	} {
		if r := fetch(test.handler, http.MethodGet, test.host, test.target); r.StatusCode != test.want {
			t.Errorf("%s: %s: %d, want %d", test.name, test.target, r.StatusCode, test.want)
		}
	}
}

// TestIndex: browsers are sent to the dashboard where there is one, and curl gets the list of pages, which names it.
func TestIndex(t *testing.T) {
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, test := range []struct {
		name, accept string
		args         []string
		status       int
		location     string
		names        bool
	}{
		{"browser", browser, nil, http.StatusFound, "/dashboard/", false},
		{"curl", "*/*", nil, http.StatusOK, "", true},
		{"nothing said", "", nil, http.StatusOK, "", true},
		{"browser, without a dashboard", browser, []string{"--dashboard=false"}, http.StatusOK, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")}, test.args...)
			code, location, body := asBrowser(t, "http://"+s.admin+"/", test.accept)
			if code != test.status || location != test.location || strings.Contains(body, "/dashboard/\n") != test.names {
				t.Errorf("%d %q %s", code, location, body)
			}
			want := http.StatusOK
			if len(test.args) > 0 {
				want = http.StatusNotFound
			}
			if code, _ := s.page("/dashboard/"); code != want {
				t.Errorf("/dashboard/: %d, want %d", code, want)
			}
			for _, url := range []string{"http://127.0.0.1/dashboard/", "https://localhost/dashboard/", "http://a.example/dashboard/"} {
				if a := s.get(url); strings.Contains(a.body, "page.js") || a.status != http.StatusNotFound && !strings.Contains(a.body, "this is one") {
					t.Errorf("%s at the data port: %d %s", url, a.status, a.body)
				}
			}
		})
	}
}

func asBrowser(t *testing.T, url, accept string) (code int, location, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	r.Header.Set("Accept", accept)
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	must(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, answer.Header.Get("Location"), string(text)
}

// TestDashboardLives: the lists and the state follow what is served, and the plots begin by themselves.
func TestDashboardLives(t *testing.T) {
	files := serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")
	s := serve(t, map[string]string{"all.yaml": files})
	var state struct {
		Version    string
		Generation uint64
		NotReady   string
		Synced     time.Time
		Counts     map[string]int
		Samples    []json.RawMessage
	}
	look := func() {
		code, body := s.page("/dashboard/api/state")
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		state.NotReady, state.Counts, state.Samples = "", nil, nil
		must(t, json.Unmarshal([]byte(body), &state))
	}
	look()
	if state.Version == "" || state.Generation == 0 || state.NotReady != "" || state.Counts["routes"] != 1 || state.Counts["endpoints"] != 1 || len(state.Counts) != 4 {
		t.Errorf("%+v", state)
	}
	before := state.Generation
	s.write(t, "all.yaml", files+"---\n"+ingressOf("new", "<b>.example", "/", "web")+"---\n"+ingressOf("more", "b.example", "/", "web"))
	eventually(t, "two routes and a Problem", func() bool {
		look()
		return state.Counts["routes"] == 2 && state.Counts["problems"] == 1
	})
	if state.Generation <= before {
		t.Errorf("generation %d after %d", state.Generation, before)
	}
	if s.get("http://a.example/").status != http.StatusOK {
		t.Error("no answer from the Pod")
	}
	eventually(t, "a sample", func() bool {
		look()
		return len(state.Samples) > 0
	})
	if _, body := s.page("/dashboard/api/list/endpoints"); !strings.Contains(body, `"firstByteSeconds":0`) {
		t.Errorf("the endpoint's answer was not measured: %s", body)
	}
}
