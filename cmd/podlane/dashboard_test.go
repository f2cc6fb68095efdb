package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// This file runs Podlane with traffic of all kinds, scrapes it, and asks Prometheus's own engine, in the program test/promql, whether the queries of the
// dashboard and the expressions of the alerts that the chart ships have an answer, and those of ingress-nginx's dashboards.

// evaluated is what test/promql says of a query.
type evaluated struct {
	Query, Error    string
	Series          int
	Values, Metrics []string
}

// scrape is a page of metrics, and when it was taken.
type scrape struct {
	At     int64             `json:"at"`
	Target map[string]string `json:"target"`
	Text   string            `json:"text"`
}

// evaluate returns what each query gives at the time of the last scrape.
func evaluate(t *testing.T, scrapes []scrape, queries []string) []evaluated {
	t.Helper()
	program := filepath.Join(t.TempDir(), "promql")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../../test/promql", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	question, err := json.Marshal(map[string]any{"scrapes": scrapes, "queries": queries, "at": scrapes[len(scrapes)-1].At})
	must(t, err)
	var complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(question), &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("promql: %v\n%s", err, complaints.String())
	}
	var answers []evaluated
	must(t, json.Unmarshal(out, &answers))
	if len(answers) != len(queries) {
		t.Fatalf("%d answers to %d queries", len(answers), len(queries))
	}
	return answers
}

// kinds is `podlane serve` with a route for every kind of traffic.
type kinds struct {
	*serving
	t *testing.T
	// files is what is served, without what changes.
	files string
}

func serveKinds(t *testing.T, args ...string) *kinds {
	t.Helper()
	failing := podOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }))
	sink := podOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	closing := podOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	secret, _ := secretOf(t, "tls", "a.example")
	all := []string{
		secret, serviceOf("good", pod(t, "good")), serviceOf("failing", failing), serviceOf("sink", sink), serviceOf("none"), serviceOf("half", closedPort(t), pod(t, "half")),
		serviceOf("closing", closing), serviceOf("dead", closedPort(t)), ingressOf("closing", "closing.example", "/", "closing"), ingressOf("dead", "dead.example", "/", "dead"),
		withTLS("web", "a.example", "good", "tls"), ingressOf("failing", "failing.example", "/", "failing"), ingressOf("none", "none.example", "/", "none"),
		ingressOf("half", "half.example", "/", "half"), ingressOf("missing", "missing.example", "/", "missing"),
		annotated(ingressOf("sink", "sink.example", "/", "sink"), `{podlane.dev/proxy-request-buffering: "on", podlane.dev/client-body-buffer-size: "1k", podlane.dev/proxy-body-size: "1m"}`),
		annotated(ingressOf("canary", "failing.example", "/", "good"), `{podlane.dev/canary: "true", podlane.dev/canary-weight: "50"}`),
	}
	k := &kinds{t: t, files: strings.Join(all, "---\n")}
	k.serving = serve(t, map[string]string{"all.yaml": k.files}, args...)
	return k
}

// annotated is a manifest with annotations.
func annotated(manifest, annotations string) string {
	return strings.Replace(manifest, "  namespace: default\n", "  namespace: default\n  annotations: "+annotations+"\n", 1)
}

// closedPort returns a port of this machine on which nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().(*net.TCPAddr).Port
}

// round makes requests of every kind, and a change.
func (k *kinds) round(n int) {
	k.t.Helper()
	for range 20 {
		for _, url := range []string{
			"https://a.example/", "http://a.example/", "http://failing.example/", "http://none.example/", "http://half.example/", "http://missing.example/",
			"http://nobody.example/", "http://closing.example/", "http://dead.example/",
		} {
			k.get(url)
		}
	}
	k.upload(64 << 10)
	k.plainToTLS()
	_, before := k.page("/metrics")
	k.write(k.t, "all.yaml", k.files+"---\n"+ingressOf("new", fmt.Sprintf("new-%d.example", n), "/", "good"))
	eventually(k.t, "the change to be live", func() bool {
		_, now := k.page("/metrics")
		return sample(now, "podlane_table_generation") > sample(before, "podlane_table_generation")
	})
}

// upload sends a body that goes to disk first.
func (k *kinds) upload(size int) {
	k.t.Helper()
	c, err := new(net.Dialer).DialContext(k.t.Context(), "tcp", k.http)
	must(k.t, err)
	defer func() { _ = c.Close() }()
	_, err = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: sink.example\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	must(k.t, err)
	answer, err := io.ReadAll(c)
	must(k.t, err)
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) || len(answer) < size {
		k.t.Fatalf("upload: %.200s", answer)
	}
}

// plainToTLS fails a handshake.
func (k *kinds) plainToTLS() {
	k.t.Helper()
	c, err := new(net.Dialer).DialContext(k.t.Context(), "tcp", k.https)
	must(k.t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	must(k.t, err)
	_, _ = io.ReadAll(c)
}

// sample returns the text of the only series of a name, "" where there is none.
func sample(page, name string) string {
	_, rest, _ := strings.Cut(page, "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// scrapes makes rounds of traffic and returns the page after each. They are dated as if a Prometheus in a cluster had taken them every 15 seconds.
func (k *kinds) scrapes(rounds int) []scrape {
	k.t.Helper()
	start := time.Now().Add(-time.Hour).UnixMilli()
	var list []scrape
	for n := range rounds {
		k.round(n)
		code, text := k.page("/metrics")
		if code != http.StatusOK {
			k.t.Fatalf("/metrics: %d", code)
		}
		list = append(list, scrape{
			At: start + int64(n)*15_000, Text: text,
			Target: map[string]string{"job": "podlane", "instance": "10.0.0.1:9090", "pod": "podlane-0", "namespace": "podlane", "service": "podlane-metrics"},
		})
	}
	return list
}

// board is what a test needs to know of a dashboard of Grafana.
type board struct {
	Title      string
	Templating struct {
		List []struct{ Name string }
	}
	Panels []struct {
		ID          int
		Title       string
		Type        string
		Description string
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct{ Expr, RefID string }
	}
}

// substitute does what Grafana does with variables when all is selected, and the range is short.
func substitute(expr string) string {
	expr = strings.ReplaceAll(expr, "$__rate_interval", "1m")
	return regexp.MustCompile(`\$[a-z_]+`).ReplaceAllString(expr, ".*")
}

// readBoard returns our dashboard.
func readBoard(t *testing.T) board {
	t.Helper()
	content, err := os.ReadFile("../../chart/dashboards/podlane.json")
	must(t, err)
	var b board
	must(t, json.Unmarshal(content, &b))
	return b
}

// TestDashboardAndAlerts: each query of the dashboard returns data of a live Podlane, and each alert's expression can be evaluated.
func TestDashboardAndAlerts(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Prometheus's engine the first time")
	}
	b := readBoard(t)
	var queries, titles []string
	for _, p := range b.Panels {
		for _, target := range p.Targets {
			queries, titles = append(queries, substitute(target.Expr)), append(titles, p.Title)
		}
	}
	ours := len(queries)
	alerts := readAlerts(t)
	for _, a := range alerts {
		queries, titles = append(queries, a.Expr), append(titles, a.Alert)
	}
	k := serveKinds(t)
	answers := evaluate(t, k.scrapes(4), queries)
	data := 0
	for i, a := range answers {
		switch {
		case a.Error != "":
			t.Errorf("%s: %s\n\t%s", titles[i], a.Query, a.Error)
		case i < ours && a.Series == 0:
			t.Errorf("%s: no data: %s", titles[i], a.Query)
		case i < ours:
			data++
		}
		checkNames(t, titles[i], a.Metrics)
	}
	t.Logf("%d of %d queries of the dashboard return data; %d alerts can be evaluated", data, ours, len(alerts))
	if ours < 50 || len(alerts) < 15 {
		t.Errorf("only %d queries and %d alerts", ours, len(alerts))
	}
	// What the traffic above calls for.
	firing := map[string]bool{"PodlaneErrors": true, "PodlaneNoEndpoint": true, "PodlaneConnectErrors": true, "PodlaneCertificateExpires": true, "PodlaneProblems": true}
	for i, a := range answers[ours:] {
		if name := alerts[i].Alert; (a.Series > 0) != firing[name] {
			t.Errorf("%s: %d series %v, want it to fire: %t", name, a.Series, a.Values, firing[name])
		}
	}
}

// checkNames holds what a query reads to METRICS.md.
func checkNames(t *testing.T, title string, metrics []string) {
	t.Helper()
	reference, err := os.ReadFile("../../METRICS.md")
	must(t, err)
	if len(metrics) == 0 {
		t.Errorf("%s reads nothing", title)
	}
	for _, name := range metrics {
		if strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "go_") {
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		if !strings.Contains(string(reference), "| `"+name+"` |") {
			t.Errorf("%s reads %s, which is not in METRICS.md", title, name)
		}
	}
}

// alert is a rule of Prometheus.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func readAlerts(t *testing.T) []alert {
	t.Helper()
	content, err := os.ReadFile("../../chart/rules/podlane.yaml")
	must(t, err)
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	must(t, yaml.UnmarshalStrict(content, &file))
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// TestAlertsOfWhatIsHeld: what `podlane serve` never shows, and a replica in a cluster does, fires.
func TestAlertsOfWhatIsHeld(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Prometheus's engine the first time")
	}
	var scrapes []scrape
	now := time.Now().UnixMilli()
	for n := range 4 {
		text := fmt.Sprintf("# TYPE podlane_brake_held gauge\npodlane_brake_held{what=\"hosts\"} 60\npodlane_brake_held{what=\"endpoints\"} 0\n"+
			"# TYPE podlane_brake_steps_total counter\npodlane_brake_steps_total{what=\"hosts\"} %d\npodlane_brake_steps_total{what=\"endpoints\"} 0\n"+
			"# TYPE podlane_objects_held gauge\npodlane_objects_held 2\n", n/2)
		scrapes = append(scrapes, scrape{At: now + int64(n)*15_000, Text: text, Target: map[string]string{"job": "podlane", "pod": "podlane-0", "namespace": "podlane"}})
	}
	want := []string{"PodlaneBrakeHolds", "PodlaneMassRemoval", "PodlaneObjectsHeld"}
	var queries []string
	for _, name := range want {
		for _, a := range readAlerts(t) {
			if a.Alert == name {
				queries = append(queries, a.Expr)
			}
		}
	}
	if len(queries) != len(want) {
		t.Fatalf("the rules are %q", queries)
	}
	for i, a := range evaluate(t, scrapes, queries) {
		if a.Error != "" || a.Series != 1 {
			t.Errorf("%s: %d series %v %s, want it to fire for one", want[i], a.Series, a.Values, a.Error)
		}
	}
}

func TestAlertsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range readAlerts(t) {
		if seen[a.Alert] || !strings.HasPrefix(a.Alert, "Podlane") {
			t.Errorf("%s: twice, or not named after Podlane", a.Alert)
		}
		seen[a.Alert] = true
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s: summary, description or severity is missing", a.Alert)
		}
	}
}

func TestDashboardIsComplete(t *testing.T) {
	b := readBoard(t)
	type place struct{ x, y int }
	ids, taken := map[int]bool{}, map[place]string{}
	for _, p := range b.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %d %q: its id is taken, or title, description or queries are missing", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := place{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at.x >= 24 {
					t.Errorf("panel %q lies over %q, or beside the grid", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
	}
	known := map[string]bool{"__rate_interval": true}
	for _, v := range b.Templating.List {
		known[v.Name] = true
	}
	for _, p := range b.Panels {
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				if !known[name[1]] {
					t.Errorf("%s: no variable $%s", p.Title, name[1])
				}
			}
		}
	}
}

// nginxQueries are what ingress-nginx's two dashboards ask for: Grafana's number 9614, and the one for request handling.
func nginxQueries() []string {
	const (
		prefix     = "nginx_ingress_controller_"
		controller = `controller_pod=~".*",controller_class=~".*"`
		ofObjects  = controller + `,namespace=~".*"`
		ofSelf     = controller + `,controller_namespace=~".*"`
		ofIngress  = ofSelf + `,ingress=~".*"`
		exported   = `ingress!="",` + ofIngress + `,exported_namespace=~".*"`
	)
	queries := []string{
		`round(sum(irate(` + prefix + `requests{` + ofObjects + `}[2m])), 0.001)`,
		`sum(avg_over_time(` + prefix + `nginx_process_connections{` + ofSelf + `,state="active"}[2m]))`,
		`sum(rate(` + prefix + `requests{` + ofObjects + `,status!~"[4-5].*"}[2m])) / sum(rate(` + prefix + `requests{` + ofObjects + `}[2m]))`,
		`avg(irate(` + prefix + `success{` + ofSelf + `}[1m])) * 60`,
		`sum(changes(` + prefix + `config_last_reload_successful_timestamp_seconds{instance!="unknown",controller_class=~".*",namespace=~".*"}[30s])) by (controller_class)`,
		`round(sum(irate(` + prefix + `requests{` + ofIngress + `}[2m])) by (ingress), 0.001)`,
		`sum(rate(` + prefix + `requests{` + ofObjects + `,ingress=~".*",status!~"[4-5].*"}[2m])) by (ingress) / sum(rate(` + prefix + `requests{` + ofObjects + `,ingress=~".*"}[2m])) by (ingress)`,
		`sum(irate(` + prefix + `request_size_sum{` + ofSelf + `}[2m]))`,
		`- sum(irate(` + prefix + `response_size_sum{` + ofSelf + `}[2m]))`,
		`avg(` + prefix + `nginx_process_resident_memory_bytes{` + ofSelf + `})`,
		`avg(rate(` + prefix + `nginx_process_cpu_seconds_total{` + ofSelf + `}[2m]))`,
		`sum(irate(` + prefix + `request_size_sum{ingress!="",` + ofIngress + `}[2m])) by (ingress)`,
		`sum(irate(` + prefix + `response_size_sum{ingress!="",` + ofIngress + `}[2m])) by (ingress)`,
		`sum(increase(` + prefix + `request_duration_seconds_bucket{` + exported + `}[2m])) by (le)`,
		`avg(` + prefix + `ssl_expire_time_seconds{kubernetes_pod_name=~".*",namespace=~".*",ingress=~".*"}) by (host) - time()`,
		// The values of its variables.
		`count by (controller_namespace, controller_class, controller_pod) (` + prefix + `config_hash)`,

		`sum by (path) (rate(` + prefix + `request_duration_seconds_count{ingress=~".*"}[1m]))`,
		`histogram_quantile(.5, sum by (le, path) (rate(` + prefix + `response_duration_seconds_bucket{ingress=~".*"}[1m])))`,
		`sum by (path) (rate(` + prefix + `request_duration_seconds_count{ingress=~".*",status=~"[4-5].*"}[1m])) / sum by (path) (rate(` + prefix + `request_duration_seconds_count{ingress=~".*"}[1m]))`,
		`sum by (path) (rate(` + prefix + `response_duration_seconds_sum{ingress=~".*"}[1m]))`,
		`sum by (path, status) (rate(` + prefix + `request_duration_seconds_count{ingress=~".*",status=~"[4-5].*"}[1m]))`,
		`sum by (path) (rate(` + prefix + `response_size_sum{ingress=~".*"}[1m])) / sum by (path) (rate(` + prefix + `response_size_count{ingress=~".*"}[1m]))`,
		`sum by (le) (rate(` + prefix + `response_size_bucket{ingress=~".*"}[1m]))`,
		`sum(rate(` + prefix + `ingress_upstream_latency_seconds_sum{ingress=~".*"}[1m])) / sum(rate(` + prefix + `ingress_upstream_latency_seconds_count{ingress=~".*"}[1m]))`,
		// Of no dashboard, but of alerts that people have.
		`sum by (ingress) (rate(` + prefix + `bytes_sent_sum[1m]))`, `sum(rate(` + prefix + `header_duration_seconds_count[1m]))`, `sum(rate(` + prefix + `connect_duration_seconds_count[1m]))`,
	}
	for _, quantile := range []string{"0.50", "0.80", "0.90", "0.95", "0.99"} {
		queries = append(queries,
			`histogram_quantile(`+quantile+`, sum(rate(`+prefix+`request_duration_seconds_bucket{ingress!="",`+ofIngress+`}[2m])) by (le, ingress))`,
			`histogram_quantile(`+quantile+`, sum(rate(`+prefix+`request_duration_seconds_bucket{`+exported+`}[2m])) by (le))`,
			`histogram_quantile(`+quantile+`, sum by (le) (rate(`+prefix+`request_duration_seconds_bucket{ingress=~".*"}[1m])))`,
			`histogram_quantile(`+quantile+`, sum by (le) (rate(`+prefix+`response_duration_seconds_bucket{ingress=~".*"}[1m])))`)
	}
	return queries
}

// TestIngressNginxDashboards: with --metrics-compat each query of ingress-nginx's dashboards returns data; but the one that counts replicas whose last table
// could not be built, which has none where all is well.
func TestIngressNginxDashboards(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Prometheus's engine the first time")
	}
	const failed = `count(nginx_ingress_controller_config_last_reload_successful{controller_pod=~".*",controller_namespace=~".*"} == 0)`
	queries := append(nginxQueries(), failed)
	answers := evaluate(t, serveKinds(t, "--metrics-compat=ingress-nginx").scrapes(4), queries)
	data := 0
	for _, a := range answers {
		switch {
		case a.Error != "":
			t.Errorf("%s\n\t%s", a.Query, a.Error)
		case (a.Series > 0) != (a.Query != failed):
			t.Errorf("%d series: %s", a.Series, a.Query)
		default:
			data++
		}
	}
	t.Logf("%d of %d queries answer as they should", data, len(answers))
}
