package observe_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"

	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
)

func newMetrics(t testing.TB, o observe.MetricsOptions) *observe.Metrics {
	t.Helper()
	m, err := observe.NewMetrics(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// scrape returns the exposition of the families whose names start with prefix, without comments, and checks that all of
// it is consistent, which the Gatherer does not do by itself.
func scrape(t testing.TB, m *observe.Metrics, prefix string) string {
	t.Helper()
	families, err := prometheus.Gatherers{m.Gatherer()}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), prefix) {
			if _, err := expfmt.MetricFamilyToText(&all, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	var b strings.Builder
	for line := range strings.Lines(all.String()) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func wantScrape(t *testing.T, m *observe.Metrics, prefix, want string) {
	t.Helper()
	if got := scrape(t, m, prefix); got != want {
		t.Errorf("%s*:\n%swant:\n%s", prefix, got, want)
	}
}

// series counts the series that routes have, as Prometheus does.
func series(t testing.TB, m *observe.Metrics) int {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "podlane_request") && !strings.HasPrefix(f.GetName(), "podlane_response") {
			continue
		}
		for _, metric := range f.Metric {
			if h := metric.Histogram; h != nil {
				n += len(h.Bucket) + 3 // +Inf, sum, count
			} else {
				n++
			}
		}
	}
	return n
}

func route(ingress, host, path string) router.RouteID {
	return router.RouteID{Namespace: "shop", Ingress: ingress, Host: host, Path: path}
}

func service(name string) router.Service { return router.Service{Namespace: "shop", Name: name} }

func TestRouteMetrics(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{Buckets: []float64{0.001, 1}})
	r := m.Route(route("web", "a.test", "/"), service("cart"))
	for status, n := range map[int]int{101: 1, 200: 2, 204: 1, 302: 1, 404: 1, 498: 1, 499: 4, 500: 1, 599: 1, 600: 1, 0: 1, 99: 1, -200: 1} {
		for range n {
			r.Observe(status, time.Millisecond, 1, 10)
		}
	}
	r.Observe(200, time.Millisecond+1, 0, 0)
	r.Observe(200, time.Second, 0, 0)
	r.Observe(200, time.Second+1, 0, 0)
	r.Observe(200, -time.Hour, -5, -5) // a clock that was stepped back
	r.Begin()
	r.Begin()
	r.End()
	r.Retry()
	wantScrape(t, m, "podlane_request", `podlane_request_body_bytes_total{ingress="web",namespace="shop",service="cart"} 17
podlane_request_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="0.001"} 18
podlane_request_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="1"} 20
podlane_request_duration_seconds_bucket{ingress="web",namespace="shop",service="cart",le="+Inf"} 21
podlane_request_duration_seconds_sum{ingress="web",namespace="shop",service="cart"} 2.018000002
podlane_request_duration_seconds_count{ingress="web",namespace="shop",service="cart"} 21
podlane_request_retries_total{ingress="web",namespace="shop",service="cart"} 1
podlane_requests_in_flight{ingress="web",namespace="shop",service="cart"} 1
podlane_requests_total{class="1xx",host="a.test",ingress="web",namespace="shop",path="/",service="cart"} 1
podlane_requests_total{class="2xx",host="a.test",ingress="web",namespace="shop",path="/",service="cart"} 7
podlane_requests_total{class="3xx",host="a.test",ingress="web",namespace="shop",path="/",service="cart"} 1
podlane_requests_total{class="499",host="a.test",ingress="web",namespace="shop",path="/",service="cart"} 4
podlane_requests_total{class="4xx",host="a.test",ingress="web",namespace="shop",path="/",service="cart"} 2
podlane_requests_total{class="5xx",host="a.test",ingress="web",namespace="shop",path="/",service="cart"} 6
`)
	wantScrape(t, m, "podlane_response", "podlane_response_body_bytes_total{ingress=\"web\",namespace=\"shop\",service=\"cart\"} 170\n")
}

func TestSeriesEndWithTheRoute(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{})
	a := m.Route(route("web", "a.test", "/"), service("cart"))
	b := m.Route(route("web", "b.test", "/"), service("cart"))
	if n := series(t, m); n != 0 {
		t.Errorf("%d series before the first request", n)
	}
	a.Observe(200, 0, 1, 1)
	b.Observe(500, 0, 1, 1)
	const requestA = `podlane_requests_total{class="2xx",host="a.test",ingress="web",namespace="shop",path="/",service="cart"} `
	const requestB = `podlane_requests_total{class="5xx",host="b.test",ingress="web",namespace="shop",path="/",service="cart"} `
	const bytes = `podlane_request_body_bytes_total{ingress="web",namespace="shop",service="cart"} `
	wantScrape(t, m, "podlane_requests_total", requestA+"1\n"+requestB+"1\n")

	// A new Route with the same labels goes on counting, and the old one's release changes nothing.
	again := m.Route(route("web", "a.test", "/"), service("cart"))
	a.Release()
	a.Observe(200, 0, 1, 1) // a request that was in flight
	again.Observe(200, 0, 1, 1)
	wantScrape(t, m, "podlane_requests_total", requestA+"3\n"+requestB+"1\n")

	again.Release()
	wantScrape(t, m, "podlane_requests_total", requestB+"1\n")
	wantScrape(t, m, "podlane_request_body", bytes+"4\n") // what routes share stays, and does not go down

	again.Observe(200, 0, 1, 1) // lost, and harmless
	again.Release()             // once too often
	b.Release()
	if n := series(t, m); n != 0 {
		t.Errorf("%d series are left:\n%s", n, scrape(t, m, "podlane_re"))
	}

	fresh := m.Route(route("web", "a.test", "/"), service("cart"))
	fresh.Observe(200, 0, 1, 1)
	wantScrape(t, m, "podlane_requests_total", requestA+"1\n")
	again.Release() // of a predecessor
	wantScrape(t, m, "podlane_requests_total", requestA+"1\n")
}

func TestLabels(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{})
	exact := router.RouteID{Namespace: "shop", Ingress: "web", Host: "*.a.test", Path: "/x\"\\\n\xff", Type: router.Exact}
	prefix := exact
	prefix.Type = router.Prefix
	for _, r := range []*observe.RouteMetrics{
		m.Route(exact, service("cart")), m.Route(prefix, service("cart")), // share their series
		m.Route(route("web", "", ""), router.Service{}),
		m.Route(route("web", "", "/"), router.Service{Namespace: "other", Name: "cart"}),
	} {
		r.Observe(200, 0, 0, 0)
	}
	wantScrape(t, m, "podlane_requests_total", `podlane_requests_total{class="2xx",host="",ingress="web",namespace="shop",path="",service=""} 1
podlane_requests_total{class="2xx",host="",ingress="web",namespace="shop",path="/",service="other/cart"} 1
podlane_requests_total{class="2xx",host="*.a.test",ingress="web",namespace="shop",path="/x\"\\\n`+"\ufffd"+`",service="cart"} 2
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
			r.Observe(200, 0, 1, 0)
			all = append(all, r)
		}
		got := scrape(t, m, "podlane_request_body")
		if sorted(got) != sorted(want) {
			t.Errorf("detail %d:\n%swant:\n%s", detail, got, want)
		}
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

// TestSeriesBound is the promise of Detail: classes for each route, and a fixed number for each group.
func TestSeriesBound(t *testing.T) {
	const routes, services = 5000, 200
	perGroup := len(observe.DefaultBuckets()) + 3 + 4 // with +Inf, sum and count; in flight, retries, bytes in and out
	for detail, groups := range map[observe.Detail]int{observe.PerService: services, observe.PerNamespace: 1} {
		m := newMetrics(t, observe.MetricsOptions{Detail: detail})
		for i := range routes {
			s := fmt.Sprint(i % services)
			r := m.Route(route("i"+s, fmt.Sprintf("h%d.test", i), "/"), service("s"+s))
			// A client may send what it wants; a Pod may answer what it wants.
			for status := 100; status < 700; status += 33 {
				r.Observe(status, time.Duration(status)*time.Millisecond, 1, 1)
			}
			r.Observe(499, 0, 0, 0)
		}
		if got, bound := series(t, m), routes*6+groups*perGroup; got != bound {
			t.Errorf("detail %d: %d series where all classes were seen, want %d", detail, got, bound)
		}
	}
	// What a cluster of 5,000 routes has: answers of two or three classes, in groups of 25 routes.
	m := scrapeOf(t, routes, services)
	if got := series(t, m); got > 25_000 {
		t.Errorf("%d series", got)
	}
}

// scrapeOf returns Metrics of so many routes that answer 2xx, 4xx and, one in ten, 5xx.
func scrapeOf(t testing.TB, routes, services int) *observe.Metrics {
	t.Helper()
	m := newMetrics(t, observe.MetricsOptions{})
	for i := range routes {
		s := fmt.Sprint(i % services)
		r := m.Route(route("ingress-"+s, fmt.Sprintf("host-%d.example.com", i), "/api/v1"), service("service-"+s))
		r.Observe(200, time.Duration(i)*time.Millisecond, 1, 1)
		r.Observe(404, time.Duration(i)*time.Millisecond, 1, 1)
		if i%10 == 0 {
			r.Observe(502, time.Duration(i)*time.Millisecond, 1, 1)
		}
	}
	return m
}

func TestUnusableBuckets(t *testing.T) {
	for _, buckets := range [][]float64{
		{}, {0}, {-1}, {1, 1}, {2, 1}, {math.NaN()}, {math.Inf(1)}, {1e300}, {1e-12}, {1, 1 + 1e-12}, make([]float64, 25),
	} {
		if _, err := observe.NewMetrics(observe.MetricsOptions{Buckets: buckets}); err == nil {
			t.Errorf("%v: accepted", buckets)
		}
	}
	most := make([]float64, 24)
	for i := range most {
		most[i] = float64(i + 1)
	}
	m := newMetrics(t, observe.MetricsOptions{Buckets: most})
	most[0] = 0 // the caller's slice stays the caller's
	r := m.Route(route("web", "a.test", "/"), service("cart"))
	r.Observe(200, time.Hour, 0, 0)
	r.Observe(200, time.Second, 0, 0)
	if got := scrape(t, m, "podlane_request_duration"); !strings.Contains(got, `le="1"} 1`) || !strings.Contains(got, `le="24"} 1`) || !strings.Contains(got, `le="+Inf"} 2`) {
		t.Error(got)
	}
}

func TestProcessMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, err := observe.OpenAccessLog(observe.AccessLogOptions{Destination: filepath.Join(t.TempDir(), "access.log")})
		if err != nil {
			t.Fatal(err)
		}
		log.Append(&observe.Entry{})
		if err := log.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		log.Append(&observe.Entry{})
		expires := time.Unix(2_000_000_000, 500_000_000)
		m := newMetrics(t, observe.MetricsOptions{
			AccessLog: log,
			Version:   "v1",
			Certificates: func() []observe.CertificateInfo {
				return []observe.CertificateInfo{
					{State: "ok", NotAfter: expires.Add(time.Hour)},
					{Namespace: "shop", Secret: "tls", State: "ok", NotAfter: expires},
					{Namespace: "shop", Secret: "tls", State: "ok", NotAfter: expires},
					{Namespace: "shop", Secret: "gone", State: "default"},
					{Namespace: "shop", Secret: "old", State: "stale", NotAfter: expires.Add(-time.Hour)},
				}
			},
		})
		time.Sleep(90 * time.Second)
		wantScrape(t, m, "podlane_last_sync", "podlane_last_sync_age_seconds 90\n")
		m.SetSynced(time.Now().Add(-time.Second))
		wantScrape(t, m, "podlane_last_sync", "podlane_last_sync_age_seconds 1\n")

		m.ConnectionsAccepted.Inc()
		m.ConnectionsOpen.Inc()
		idle := m.ConnectionClosed("idle")
		idle.Inc()
		m.ConnectionClosed("client").Add(2)
		wantScrape(t, m, "podlane_connections", `podlane_connections_accepted_total 1
podlane_connections_closed_total{reason="client"} 2
podlane_connections_closed_total{reason="idle"} 1
podlane_connections_open 1
`)
		m.HandshakesCompleted.Inc()
		m.HandshakeFailed("timeout").Inc()
		m.HandshakeFailed("overload") // known before the first
		wantScrape(t, m, "podlane_tls", `podlane_tls_handshake_errors_total{reason="overload"} 0
podlane_tls_handshake_errors_total{reason="timeout"} 1
podlane_tls_handshakes_total 1
`)
		m.UpstreamConnects.Inc()
		m.UpstreamReuses.Add(3)
		m.UpstreamEjections.Inc()
		m.ConnectFailed("refused").Inc()
		wantScrape(t, m, "podlane_upstream", `podlane_upstream_connect_errors_total{reason="refused"} 1
podlane_upstream_connects_total 1
podlane_upstream_ejections_total 1
podlane_upstream_reuses_total 3
`)
		m.Rejected("no-route").Inc()
		wantScrape(t, m, "podlane_requests_rejected", "podlane_requests_rejected_total{reason=\"no-route\"} 1\n")
		m.Panicked("build").Inc()
		wantScrape(t, m, "podlane_panics", "podlane_panics_total{origin=\"build\"} 1\n")

		m.Published(observe.Publication{Generation: 7, Routes: 3, Build: 2 * time.Millisecond})
		m.Published(observe.Publication{Generation: 8, Routes: 4, Build: 3 * time.Millisecond, EventToLive: 40 * time.Millisecond})
		m.EndpointsLive(300 * time.Microsecond)
		table := scrape(t, m, "podlane_table")
		for _, line := range []string{"podlane_table_generation 8\n", "podlane_table_routes 4\n", "podlane_table_publishes_total 2\n",
			"podlane_table_build_duration_seconds_count 2\n", "podlane_table_build_duration_seconds_sum 0.005\n"} {
			if !strings.Contains(table, line) {
				t.Errorf("no %sin\n%s", line, table)
			}
		}
		if live := scrape(t, m, "podlane_event_to_live"); !strings.Contains(live, `le="0.0005"} 1`) || !strings.Contains(live, `le="0.05"} 2`) || !strings.Contains(live, "_count 2\n") {
			t.Error(live)
		}

		m.SetProblems(map[string]int{"ServiceNotFound": 2, "InvalidPath": 1})
		wantScrape(t, m, "podlane_problems", "podlane_problems{reason=\"InvalidPath\"} 1\npodlane_problems{reason=\"ServiceNotFound\"} 2\n")
		m.SetProblems(map[string]int{"InvalidPath": 1})
		wantScrape(t, m, "podlane_problems", "podlane_problems{reason=\"InvalidPath\"} 1\n")

		wantScrape(t, m, "podlane_access_log", `podlane_access_log_dropped_lines_total{reason="queue"} 1
podlane_access_log_dropped_lines_total{reason="write"} 0
podlane_access_log_written_lines_total 1
`)
		wantScrape(t, m, "podlane_certificate", `podlane_certificate_expiry_timestamp_seconds{namespace="",secret=""} 2.0000036005e+09
podlane_certificate_expiry_timestamp_seconds{namespace="shop",secret="old"} 1.9999964005e+09
podlane_certificate_expiry_timestamp_seconds{namespace="shop",secret="tls"} 2.0000000005e+09
podlane_certificates{state="default"} 1
podlane_certificates{state="ok"} 3
podlane_certificates{state="stale"} 1
`)
		if info := scrape(t, m, "podlane_build_info"); !strings.Contains(info, `version="v1"} 1`) {
			t.Error(info)
		}
	})
}

// everything returns Metrics in which each family has a series.
func everything(t testing.TB) *observe.Metrics {
	t.Helper()
	m := newMetrics(t, observe.MetricsOptions{Certificates: func() []observe.CertificateInfo {
		return []observe.CertificateInfo{{Namespace: "a", Secret: "b\xff", State: "ok", NotAfter: time.Now()}}
	}})
	m.Route(route("web", "a.test", "/"), service("cart")).Observe(200, time.Second, 1, 1)
	for _, c := range []prometheus.Counter{m.ConnectionClosed("idle"), m.Rejected("x"), m.HandshakeFailed("x"), m.ConnectFailed("x"), m.Panicked("x")} {
		c.Inc()
	}
	m.SetProblems(map[string]int{"X": 1})
	return m
}

func TestNamesFollowTheConventions(t *testing.T) {
	families, err := everything(t).Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) < 29 {
		t.Errorf("only %d families", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for i, f := range families {
		if !strings.HasPrefix(f.GetName(), "podlane_") {
			t.Errorf("%s is not podlane_*", f.GetName())
		}
		if i > 0 && families[i-1].GetName() >= f.GetName() {
			t.Errorf("%s comes after %s", f.GetName(), families[i-1].GetName())
		}
	}
}

func TestRegister(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{})
	if err := m.Register(collectors.NewGoCollector()); err != nil {
		t.Fatal(err)
	}
	if scrape(t, m, "go_goroutines") == "" {
		t.Error("not there")
	}
	if err := m.Register(collectors.NewGoCollector()); err == nil {
		t.Error("accepted twice")
	}
}

// TestRoutesChangeDuringRequests is for the race detector, and for counts that must not be lost.
func TestRoutesChangeDuringRequests(t *testing.T) {
	const workers, rounds = 4, 300
	m := newMetrics(t, observe.MetricsOptions{})
	held := m.Route(route("web", "held.test", "/"), service("cart"))
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := range rounds {
				r := m.Route(route("web", fmt.Sprintf("h%d.test", (w+i)%3), "/"), service("cart"))
				same := m.Route(route("web", "held.test", "/"), service("cart"))
				for _, r := range []*observe.RouteMetrics{r, same} {
					r.Begin()
					r.Observe(200, time.Millisecond, 1, 1)
					r.End()
					r.Release()
				}
			}
		})
	}
	wait.Go(func() {
		for range 50 {
			if _, err := m.Gatherer().Gather(); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
	wantScrape(t, m, "podlane_requests", fmt.Sprintf(`podlane_requests_in_flight{ingress="web",namespace="shop",service="cart"} 0
podlane_requests_total{class="2xx",host="held.test",ingress="web",namespace="shop",path="/",service="cart"} %d
`, workers*rounds))
	wantScrape(t, m, "podlane_response", fmt.Sprintf("podlane_response_body_bytes_total{ingress=\"web\",namespace=\"shop\",service=\"cart\"} %d\n", 2*workers*rounds))
	held.Release()
	if n := series(t, m); n != 0 {
		t.Errorf("%d series are left", n)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	m := newMetrics(t, observe.MetricsOptions{})
	r := m.Route(route("web", "a.test", "/"), service("cart"))
	if n := testing.AllocsPerRun(100, func() {
		r.Begin()
		r.Observe(200, 30*time.Millisecond, 100, 1000)
		r.Retry()
		r.End()
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := newMetrics(b, observe.MetricsOptions{})
	b.Run("same", func(b *testing.B) {
		r := m.Route(route("web", "a.test", "/"), service("cart"))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r.Observe(200, 30*time.Millisecond, 100, 1000)
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
				r.Observe(200, 30*time.Millisecond, 100, 1000)
			}
		})
	})
}

// BenchmarkRoute is what Publish pays for a changed Route.
func BenchmarkRoute(b *testing.B) {
	m := scrapeOf(b, 5000, 200)
	id, s := route("ingress-7", "host-7.example.com", "/api/v1"), service("service-7")
	b.ReportAllocs()
	for b.Loop() {
		m.Route(id, s).Release()
	}
}

// BenchmarkScrape is /metrics of 5,000 routes in groups of 25, as text. "checked" goes through prometheus.Gatherers, which
// looks at the consistency of every series again.
func BenchmarkScrape(b *testing.B) {
	m := scrapeOf(b, 5000, 200)
	for name, g := range map[string]prometheus.Gatherer{"gatherer": m.Gatherer(), "checked": prometheus.Gatherers{m.Gatherer()}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				families, err := g.Gather()
				if err != nil {
					b.Fatal(err)
				}
				for _, f := range families {
					if _, err := expfmt.MetricFamilyToText(io.Discard, f); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(series(b, m)), "series")
		})
	}
}
