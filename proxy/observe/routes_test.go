package observe_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
)

func TestRouteMetrics(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{Buckets: []float64{0.001, 1}})
	r := m.Route(route("web", "a.test", "/"), service("cart"))
	for status, n := range map[int]int{101: 1, 200: 2, 204: 1, 302: 1, 404: 1, 498: 1, 499: 4, 500: 1, 599: 1, 600: 1, 0: 1, 99: 1, -200: 1} {
		for range n {
			observeOne(r, status, time.Millisecond, 1, 10)
		}
	}
	observeOne(r, 200, time.Millisecond+1, 0, 0)
	observeOne(r, 200, time.Second, 0, 0)
	r.Observe(&observe.Served{Status: 200, Whole: time.Second + 1, FirstByte: time.Millisecond, Pod: 500 * time.Microsecond, Connect: 2 * time.Second, Tries: 3})
	observeOne(r, 200, -time.Hour, -5, -5) // a clock that was stepped back
	r.Begin()
	r.Begin()
	r.End()
	wantScrape(t, m, "podlane_request", `podlane_requests_total{class="1xx",ingress="web",namespace="shop",service="cart"} 1
podlane_requests_total{class="2xx",ingress="web",namespace="shop",service="cart"} 7
podlane_requests_total{class="3xx",ingress="web",namespace="shop",service="cart"} 1
podlane_requests_total{class="499",ingress="web",namespace="shop",service="cart"} 4
podlane_requests_total{class="4xx",ingress="web",namespace="shop",service="cart"} 2
podlane_requests_total{class="5xx",ingress="web",namespace="shop",service="cart"} 6
podlane_request_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="0.001"} 18
podlane_request_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="1"} 20
podlane_request_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="+Inf"} 21
podlane_request_duration_seconds_sum{ingress="web",namespace="shop",service="cart"} 2.018000002
podlane_request_duration_seconds_count{ingress="web",namespace="shop",service="cart"} 21
podlane_request_first_byte_seconds_bucket{ingress="web",namespace="shop",service="cart",le="0.001"} 1
podlane_request_first_byte_seconds_bucket{ingress="web",namespace="shop",service="cart",le="1"} 1
podlane_request_first_byte_seconds_bucket{ingress="web",namespace="shop",service="cart",le="+Inf"} 1
podlane_request_first_byte_seconds_sum{ingress="web",namespace="shop",service="cart"} 0.001
podlane_request_first_byte_seconds_count{ingress="web",namespace="shop",service="cart"} 1
podlane_requests_in_flight{ingress="web",namespace="shop",service="cart"} 1
podlane_request_retries_total{ingress="web",namespace="shop",service="cart"} 2
podlane_request_body_bytes_total{ingress="web",namespace="shop",service="cart"} 17
`)
	wantScrape(t, m, "podlane_response", "podlane_response_body_bytes_total{ingress=\"web\",namespace=\"shop\",service=\"cart\"} 170\n")
	const sums = "podlane_upstream_first_byte_seconds_sum{ingress=\"web\",namespace=\"shop\",service=\"cart\"} 0.0005\n"
	wantScrape(t, m, "podlane_upstream_first_byte_seconds_sum", sums)
	wantScrape(t, m, "podlane_upstream_connect_duration_seconds_bucket", `podlane_upstream_connect_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="0.001"} 0
podlane_upstream_connect_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="1"} 0
podlane_upstream_connect_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="+Inf"} 1
`)
}

func TestSeriesEndWithTheRoute(t *testing.T) {
	for _, detail := range []observe.Detail{observe.PerService, observe.PerRoute} {
		m := newMetrics(t, observe.MetricsOptions{Detail: detail})
		a := m.Route(route("web", "a.test", "/"), service("cart"))
		b := m.Route(route("web", "a.test", "/"), service("pay"))
		if n := series(t, m); n != 0 {
			t.Errorf("%d series before the first request", n)
		}
		observeOne(a, 200, 0, 1, 1)
		observeOne(b, 500, 0, 1, 1)
		count := func(class, service string) string {
			if detail == observe.PerRoute {
				return `podlane_requests_total{class="` + class + `",host="a.test",ingress="web",namespace="shop",path="/",service="` + service + `"} `
			}
			return `podlane_requests_total{class="` + class + `",ingress="web",namespace="shop",service="` + service + `"} `
		}
		wantScrape(t, m, "podlane_requests_total", count("2xx", "cart")+"1\n"+count("5xx", "pay")+"1\n")

		// A new Route with the same labels goes on counting, and the old one's release changes nothing.
		again := m.Route(route("web", "a.test", "/"), service("cart"))
		a.Release()
		observeOne(a, 200, 0, 1, 1) // a request that was in flight
		observeOne(again, 200, 0, 1, 1)
		wantScrape(t, m, "podlane_requests_total", count("2xx", "cart")+"3\n"+count("5xx", "pay")+"1\n")

		again.Release()
		wantScrape(t, m, "podlane_requests_total", count("5xx", "pay")+"1\n")

		observeOne(again, 200, 0, 1, 1) // lost, and harmless
		again.Release()                 // once too often
		b.Release()
		if n := series(t, m); n != 0 {
			t.Errorf("%d series are left:\n%s", n, scrape(t, m, "podlane_re"))
		}

		fresh := m.Route(route("web", "a.test", "/"), service("cart"))
		observeOne(fresh, 200, 0, 1, 1)
		wantScrape(t, m, "podlane_requests_total", count("2xx", "cart")+"1\n")
		again.Release() // of a predecessor
		wantScrape(t, m, "podlane_requests_total", count("2xx", "cart")+"1\n")
	}
}

// TestSumsDoNotGoDown: a counter that decreases looks like a restart to Prometheus, and like a burst of requests.
func TestSumsDoNotGoDown(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{Detail: observe.PerNamespace})
	a := m.Route(route("web", "a.test", "/"), service("cart"))
	b := m.Route(route("api", "b.test", "/"), service("pay"))
	a.Begin()
	for _, r := range []*observe.RouteMetrics{a, b} {
		r.Observe(&observe.Served{Status: 200, Whole: time.Second, FirstByte: 1, In: 5, Tries: 2})
	}
	before := scrape(t, m, "podlane_request")
	want := strings.Replace(before, "podlane_requests_in_flight{namespace=\"shop\"} 1\n", "podlane_requests_in_flight{namespace=\"shop\"} 0\n", 1)
	a.Release()
	if after := scrape(t, m, "podlane_request"); after != want || !strings.Contains(after, `podlane_requests_total{class="2xx",namespace="shop"} 2`) {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	b.Release()
	if n := series(t, m); n != 0 {
		t.Errorf("%d series are left of a namespace without routes:\n%s", n, scrape(t, m, "podlane_re"))
	}
}

func TestLabels(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{Detail: observe.PerRoute})
	exact := router.RouteID{Namespace: "shop", Ingress: "web", Host: "*.a.test", Path: "/x\"\\\n\xff", Type: router.Exact}
	prefix := exact
	prefix.Type = router.Prefix
	for _, r := range []*observe.RouteMetrics{
		m.Route(exact, service("cart")), m.Route(prefix, service("cart")), // share their series
		m.Route(route("web", "", ""), router.Service{}),
		m.Route(route("web", "", "/"), router.Service{Namespace: "other", Name: "cart"}),
		m.Canary(route("web", "", "/"), router.Service{Namespace: "other", Name: "cart"}, "x"), // the Service is enough to tell it
	} {
		observeOne(r, 200, 0, 0, 0)
	}
	wantScrape(t, m, "podlane_requests_total", `podlane_requests_total{class="2xx",host="",ingress="web",namespace="shop",path="",service=""} 1
podlane_requests_total{class="2xx",host="*.a.test",ingress="web",namespace="shop",path="/x\"\\\n`+"\ufffd"+`",service="cart"} 2
podlane_requests_total{class="2xx",host="",ingress="web",namespace="shop",path="/",service="other/cart"} 2
`)
}

func TestDetail(t *testing.T) {
	for detail, want := range map[observe.Detail]string{
		observe.PerService: `podlane_request_body_bytes_total{ingress="i0",namespace="shop",service="s0"} 2
podlane_request_body_bytes_total{ingress="i0",namespace="shop",service="s1"} 2
podlane_request_body_bytes_total{ingress="i1",namespace="shop",service="s0"} 2
podlane_request_body_bytes_total{ingress="i1",namespace="shop",service="s1"} 2
`,
		observe.PerNamespace: "podlane_request_body_bytes_total{namespace=\"shop\"} 8\n",
		observe.PerRoute: `podlane_request_body_bytes_total{host="h0",ingress="i0",namespace="shop",path="/",service="s0"} 1
podlane_request_body_bytes_total{host="h1",ingress="i0",namespace="shop",path="/",service="s0"} 1
podlane_request_body_bytes_total{host="h0",ingress="i0",namespace="shop",path="/",service="s1"} 1
podlane_request_body_bytes_total{host="h1",ingress="i0",namespace="shop",path="/",service="s1"} 1
podlane_request_body_bytes_total{host="h0",ingress="i1",namespace="shop",path="/",service="s0"} 1
podlane_request_body_bytes_total{host="h1",ingress="i1",namespace="shop",path="/",service="s0"} 1
podlane_request_body_bytes_total{host="h0",ingress="i1",namespace="shop",path="/",service="s1"} 1
podlane_request_body_bytes_total{host="h1",ingress="i1",namespace="shop",path="/",service="s1"} 1
`,
	} {
		m := newMetrics(t, observe.MetricsOptions{Detail: detail})
		var all []*observe.RouteMetrics
		for _, name := range []string{"000", "101", "011", "110", "001", "100", "010", "111"} {
			r := m.Route(route("i"+name[:1], "h"+name[1:2], "/"), service("s"+name[2:]))
			observeOne(r, 200, 0, 1, 0)
			all = append(all, r)
		}
		wantScrape(t, m, "podlane_request_body", want)
		for _, r := range all {
			r.Release()
		}
		if n := series(t, m); n != 0 {
			t.Errorf("detail %d: %d series are left", detail, n)
		}
	}
}

// sorted returns the lines of s in order: Gatherers order series by their labels in another way than by text.
func sorted(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// answers counts requests of every class and kind: a client may send what it wants; a Pod may answer what it wants.
func answers(r *observe.RouteMetrics) {
	for status := 100; status < 700; status += 33 {
		d := time.Duration(status) * time.Millisecond
		r.Observe(&observe.Served{Status: status, Whole: d, FirstByte: d, Pod: d, Answer: d, Connect: d, Tries: 2, In: 1, Out: 1})
	}
	observeOne(r, 499, 0, 0, 0)
}

// shape is how many objects a cluster has.
type shape struct{ routes, services, namespaces int }

// cluster returns Metrics with traffic on all routes of a cluster.
func cluster(t testing.TB, s shape, o observe.MetricsOptions) *observe.Metrics {
	t.Helper()
	m := newMetrics(t, o)
	for i := range s.routes {
		n := i % s.services
		id := router.RouteID{
			Namespace: fmt.Sprintf("namespace-%d", n%s.namespaces), Ingress: fmt.Sprintf("ingress-%d", n),
			Host: fmt.Sprintf("host-%d.example.com", i), Path: "/api/v1",
		}
		answers(m.Route(id, router.Service{Namespace: id.Namespace, Name: fmt.Sprintf("service-%d", n)}))
	}
	return m
}

// TestSeriesStayBelowTheLimit is the promise of --metrics-max-series, for clusters of 5,000 routes of every shape, with traffic of every class on all
// of them.
func TestSeriesStayBelowTheLimit(t *testing.T) {
	for _, row := range []struct {
		shape
		detail observe.Detail
		steps  int
	}{
		{shape{5000, 200, 20}, observe.PerService, 0},
		{shape{5000, 200, 20}, observe.PerRoute, 1},
		{shape{5000, 200, 20}, observe.PerNamespace, 0},
		{shape{5000, 800, 50}, observe.PerService, 1},
		{shape{5000, 2000, 50}, observe.PerService, 2},
		{shape{5000, 5000, 100}, observe.PerService, 3},
		{shape{5000, 5000, 350}, observe.PerService, 4},
		{shape{5000, 5000, 1000}, observe.PerService, 5},
		{shape{5000, 5000, 5000}, observe.PerService, 6},
		{shape{5000, 5000, 5000}, observe.PerNamespace, 2},
	} {
		m := cluster(t, row.shape, observe.MetricsOptions{Detail: row.detail})
		got, bound := series(t, m), m.Bound()
		t.Logf("%+v: %d series, bound %+v", row.shape, got, bound)
		if bound.Steps != row.steps || bound.Max != observe.DefaultMaxSeries || bound.Series >= bound.Max {
			t.Errorf("%+v, detail %d: bound %+v, want %d steps", row.shape, row.detail, bound, row.steps)
		}
		// 500 are for what does not come from objects.
		if got > bound.Series-500 {
			t.Errorf("%+v, detail %d: %d series, and the bound was %d", row.shape, row.detail, got, bound.Series)
		}
	}
	m := cluster(t, shape{1000, 1000, 10}, observe.MetricsOptions{MaxSeries: -1})
	if b, got := m.Bound(), series(t, m); b.Steps != 0 || b.Max != 0 || got != b.Series-500 {
		t.Errorf("without a limit: %d series, bound %+v", got, b)
	}
}

// TestLabelsComeBack: with room to spare only, so that they do not come and go with one object.
func TestLabelsComeBack(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{MaxSeries: 1200})
	var routes []*observe.RouteMetrics
	add := func(n int) {
		for range n {
			name := fmt.Sprint(len(routes))
			r := m.Route(route("i"+name, "a.test", "/"), service(name))
			observeOne(r, 200, 0, 0, 0)
			routes = append(routes, r)
		}
	}
	remove := func() {
		routes[len(routes)-1].Release()
		routes = routes[:len(routes)-1]
	}
	add(10)
	if b := m.Bound(); b.Steps != 0 {
		t.Fatalf("10 Services: %+v", b)
	}
	add(1)
	if b := m.Bound(); b.Steps != 1 {
		t.Fatalf("11 Services: %+v", b)
	}
	scrape(t, m, "podlane")
	remove()
	if b := m.Bound(); b.Steps != 1 {
		t.Errorf("10 Services again: %+v: labels come back with the next object that goes", b)
	}
	remove()
	remove()
	if b := m.Bound(); b.Steps != 0 {
		t.Errorf("8 Services: %+v", b)
	}
	m.Published(observe.Publication{Certificates: 700})
	if b := m.Bound(); b.Steps != 6 || b.Series < 1200 {
		t.Errorf("700 certificates: %+v: they have series too, and nothing can be done about them", b)
	}
}

// TestRoutesChangeDuringRequests is for the race detector, and for counts that must not be lost.
func TestRoutesChangeDuringRequests(t *testing.T) {
	const workers, rounds = 4, 300
	m := newMetrics(t, observe.MetricsOptions{})
	held := m.Route(route("held", "held.test", "/"), service("cart"))
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := range rounds {
				r := m.Route(route(fmt.Sprintf("h%d", (w+i)%3), "a.test", "/"), service("cart"))
				same := m.Route(route("held", "held.test", "/"), service("cart"))
				for _, r := range []*observe.RouteMetrics{r, same} {
					r.Begin()
					observeOne(r, 200, time.Millisecond, 1, 1)
					r.End()
					r.Release()
				}
			}
		})
	}
	wait.Go(func() {
		for range 50 {
			if _, err := m.AppendText(nil); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
	wantScrape(t, m, "podlane_requests", fmt.Sprintf(`podlane_requests_total{class="2xx",ingress="held",namespace="shop",service="cart"} %d
podlane_requests_in_flight{ingress="held",namespace="shop",service="cart"} 0
`, workers*rounds))
	held.Release()
	if n := series(t, m); n != 0 {
		t.Errorf("%d series are left", n)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	for name, nginx := range map[string]observe.NginxOptions{"ours": {}, "ingress-nginx's too": {On: true}} {
		m := newMetrics(t, observe.MetricsOptions{Nginx: nginx})
		r := m.Route(route("web", "a.test", "/"), service("cart"))
		if n := testing.AllocsPerRun(100, func() {
			r.Begin()
			r.Observe(&observe.Served{Status: 200, Whole: 30 * time.Millisecond, FirstByte: 1, Connect: 1, Tries: 2, In: 100, Out: 1000})
			r.End()
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// TestScrapeAllocatesLittle: what a scrape of 25,000 series costs is mostly what it allocates.
func TestScrapeAllocatesLittle(t *testing.T) {
	m := cluster(t, shape{5000, 350, 20}, observe.MetricsOptions{})
	text, err := m.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := series(t, m)
	scraping := func(m *observe.Metrics) float64 {
		return testing.AllocsPerRun(3, func() {
			if text, err = m.AppendText(text[:0]); err != nil {
				t.Fatal(err)
			}
		})
	}
	size, allocs, none := len(text), scraping(m), scraping(newMetrics(t, observe.MetricsOptions{}))
	t.Logf("%d series in %d bytes: %.0f allocations, %.0f without routes", n, size, allocs, none)
	if n < 20_000 || allocs > none+100 {
		t.Errorf("%d series: %.0f allocations, %.0f without routes: want at most 100 more", n, allocs, none)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := newMetrics(b, observe.MetricsOptions{})
	served := observe.Served{Status: 200, Whole: 30 * time.Millisecond, FirstByte: 20 * time.Millisecond, Pod: 19 * time.Millisecond, Tries: 1, In: 100, Out: 1000}
	b.Run("same", func(b *testing.B) {
		r := m.Route(route("web", "a.test", "/"), service("cart"))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r.Observe(&served)
			}
		})
	})
	b.Run("own", func(b *testing.B) {
		var n atomic.Int32
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			name := fmt.Sprint(n.Add(1))
			r := m.Route(route(name, "a.test", "/"), service(name))
			for pb.Next() {
				r.Observe(&served)
			}
		})
	})
}

// BenchmarkRoute is what Publish pays for a changed Route.
func BenchmarkRoute(b *testing.B) {
	m := cluster(b, shape{5000, 350, 20}, observe.MetricsOptions{})
	id, s := route("ingress-7", "host-7.example.com", "/api/v1"), service("service-7")
	b.ReportAllocs()
	for b.Loop() {
		m.Route(id, s).Release()
	}
}

// BenchmarkScrape is /metrics of 5,000 routes with almost 25,000 series.
func BenchmarkScrape(b *testing.B) {
	m := cluster(b, shape{5000, 350, 20}, observe.MetricsOptions{})
	b.Run("text", func(b *testing.B) {
		var text []byte
		b.ReportAllocs()
		for b.Loop() {
			var err error
			if text, err = m.AppendText(text[:0]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(series(b, m)), "series")
		b.ReportMetric(float64(len(text)), "bytes")
	})
	b.Run("messages", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Gatherer().Gather(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
