package observe_test

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

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
// it is consistent, which the Gatherer does not do by itself, and that the text says the same.
func scrape(t testing.TB, m *observe.Metrics, prefix string) string {
	t.Helper()
	return lines(exposition(t, m), prefix)
}

// exposition returns all of the text format.
func exposition(t testing.TB, m *observe.Metrics) string {
	t.Helper()
	families, err := prometheus.Gatherers{m.Gatherer()}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var gathered bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&gathered, f); err != nil {
			t.Fatal(err)
		}
	}
	direct, err := m.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(bytes.NewReader(direct)); err != nil {
		t.Errorf("not the text format: %v", err)
	}
	changing := []string{"podlane_last_sync_age_seconds", "go_", "# HELP go_", "# TYPE go_", "nginx_ingress_controller_nginx_process_"}
	if want, got := sorted(canonical(gathered.String(), changing...)), sorted(canonical(string(direct), changing...)); want != got {
		t.Errorf("gathered and direct text differ: %s", cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
	}
	return string(direct)
}

// canonical returns text without the lines that begin with one of changing, and with numbers as the text of ours has them.
func canonical(text string, changing ...string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(changing, func(c string) bool { return strings.HasPrefix(line, c) }) {
			continue
		}
		if i := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") && i >= 0 {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
			if err == nil {
				name, rest, _ := strings.Cut(line[:i], "{")
				labels := strings.Split(strings.TrimSuffix(rest, "\"}"), "\",")
				slices.Sort(labels)
				line = name + "{" + strings.Join(labels, "\",") + "} " + strconv.FormatFloat(v, 'g', -1, 64) + "\n"
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// lines returns the series of text whose names start with prefix.
func lines(text, prefix string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
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
	text, err := m.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		for _, prefix := range []string{
			"podlane_requests_total", "podlane_requests_in_flight", "podlane_request_", "podlane_response_", "podlane_upstream_first", "podlane_upstream_connect_d",
		} {
			if strings.HasPrefix(line, prefix) {
				n++
			}
		}
	}
	return n
}

// observeOne counts a request that no Pod answered.
func observeOne(r *observe.RouteMetrics, status int, d time.Duration, in, out int64) {
	r.Observe(&observe.Served{Status: status, Whole: d, In: in, Out: out})
}

func route(ingress, host, path string) router.RouteID {
	return router.RouteID{Namespace: "shop", Ingress: ingress, Host: host, Path: path}
}

func service(name string) router.Service { return router.Service{Namespace: "shop", Name: name} }

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
	observeOne(r, 200, time.Hour, 0, 0)
	observeOne(r, 200, time.Second, 0, 0)
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
		m.HandshakesResumed.Inc()
		m.HandshakeFailed("timeout").Inc()
		m.HandshakeFailed("overload") // known before the first
		wantScrape(t, m, "podlane_tls", `podlane_tls_handshake_errors_total{reason="overload"} 0
podlane_tls_handshake_errors_total{reason="timeout"} 1
podlane_tls_handshakes_resumed_total 1
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

		wantScrape(t, m, "podlane_leader", "")
		m.SetRole(observe.Follower)
		wantScrape(t, m, "podlane_leader", "podlane_leader 0\n")
		m.SetRole(observe.Leader)
		wantScrape(t, m, "podlane_leader", "podlane_leader 1\n")
		m.Follow(observe.Sources{
			Connections: func() (int, int) { return 7, 5 },
			Spool: func() observe.SpoolUsage {
				return observe.SpoolUsage{Files: 1, Bytes: 2, Spilled: 3, Refused: 4, Failed: 5}
			},
		})
		wantScrape(t, m, "podlane_connections_idle", "podlane_connections_idle 5\n")
		wantScrape(t, m, "podlane_spool", `podlane_spool_bytes 2
podlane_spool_files 1
podlane_spooled_requests_total{outcome="failed"} 5
podlane_spooled_requests_total{outcome="refused"} 4
podlane_spooled_requests_total{outcome="spilled"} 3
`)
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
	served := observe.Served{Status: 200, Whole: time.Second, FirstByte: 1, Pod: 1, Connect: 1, In: 1, Out: 1}
	m := newMetrics(t, observe.MetricsOptions{Certificates: func() []observe.CertificateInfo {
		return []observe.CertificateInfo{{Namespace: "a", Secret: "b\xff", State: "ok", NotAfter: time.Now()}}
	}})
	m.Route(route("web", "a.test", "/"), service("cart")).Observe(&served)
	for _, c := range []prometheus.Counter{m.ConnectionClosed("idle"), m.Rejected("x"), m.HandshakeFailed("x"), m.ConnectFailed("x"), m.Panicked("x")} {
		c.Inc()
	}
	m.Mirrored("x").Inc()
	m.SetProblems(map[string]int{"X": 1})
	m.SetRole(observe.Leader)
	m.Follow(observe.Sources{Connections: func() (int, int) { return 3, 2 }, Spool: func() observe.SpoolUsage { return observe.SpoolUsage{Files: 1} }})
	return m
}

func TestNamesFollowTheConventions(t *testing.T) {
	families, err := everything(t).Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) < 41 {
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
