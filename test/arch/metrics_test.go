package arch

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
)

// allMetrics returns every family of ours and of ingress-nginx's, each with a series.
func allMetrics(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	m, err := observe.NewMetrics(observe.MetricsOptions{
		Nginx: observe.NginxOptions{On: true},
		Certificates: func() []observe.CertificateInfo {
			return []observe.CertificateInfo{{Hosts: []string{"a.test"}, State: "ok", NotAfter: time.Now()}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Route(router.RouteID{}, router.Service{}).Observe(&observe.Served{Status: 200, FirstByte: 1, Connect: 1})
	for _, show := range []func(string){
		func(why string) { m.ConnectionClosed(why) }, func(why string) { m.Rejected(why) }, func(why string) { m.HandshakeFailed(why) },
		func(why string) { m.ConnectFailed(why) }, func(why string) { m.Panicked(why) }, func(why string) { m.Mirrored(why) },
	} {
		show("x")
	}
	m.SetProblems(map[string]int{"X": 1})
	m.SetRole(observe.Leader)
	m.Published(observe.Publication{})
	m.Follow(observe.Sources{Connections: func() (int, int) { return 0, 0 }, Spool: func() observe.SpoolUsage { return observe.SpoolUsage{} },
		Endpoints: func() observe.EndpointCounts { return observe.EndpointCounts{States: map[string]int{"ready": 1}} }})
	brake := observe.NewBrake()
	brake.Watch("hosts")
	if err := m.Register(brake); err != nil {
		t.Fatal(err)
	}
	if err := m.Register(observe.NewSpans(func() observe.SpanCounts { return observe.SpanCounts{} })); err != nil {
		t.Fatal(err)
	}
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// TestMetricReference keeps METRICS.md equal to what the code shows.
func TestMetricReference(t *testing.T) {
	t.Parallel()
	const name = "../../METRICS.md"
	want := metricReference(allMetrics(t), nginxSeries(t))
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("METRICS.md is old: run go test ./test/arch -run TestMetricReference -update")
	}
}

// TestEveryMetricIsInTheReference: what the source names is there.
func TestEveryMetricIsInTheReference(t *testing.T) {
	t.Parallel()
	reference := metricReference(allMetrics(t), nginxSeries(t))
	source, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range source.files {
		if f.dir != "proxy/observe" || f.test {
			continue
		}
		content, err := os.ReadFile("../../" + f.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`"podlane_[a-z_]+"`).FindAllString(string(content), -1) {
			found++
			if !strings.Contains(reference, "| `"+strings.Trim(name, `"`)+"` |") {
				t.Errorf("%s: METRICS.md lacks %s: give it a series in allMetrics", f.path, name)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d metrics were found", found)
	}
}

// nginxSeries is how many series one path has by the names of ingress-nginx.
func nginxSeries(t *testing.T) int {
	t.Helper()
	var bounds [2]int
	for i, o := range []observe.NginxOptions{{}, {On: true}} {
		m, err := observe.NewMetrics(observe.MetricsOptions{Nginx: o})
		if err != nil {
			t.Fatal(err)
		}
		m.Route(router.RouteID{}, router.Service{})
		bounds[i] = m.Bound().Series
	}
	return bounds[1] - bounds[0]
}

func metricReference(families []*dto.MetricFamily, nginx int) string {
	var b strings.Builder
	b.WriteString(`# Metrics

<!-- Generated from proxy/observe: go test ./test/arch -run TestMetricReference -update -->

` + "`/metrics`" + ` answers in the text format of Prometheus, or in its protobuf format where a scraper asks for that first. Labels come from
objects and from the program's own closed sets, never from a request. A series begins with the first request that it counts and ends
with the last object that it is about. Beside what is listed there are the metrics ` + "`go_*` and `process_*`" + ` of Prometheus's own client.

## How many series

` + "`--metrics-detail`" + ` says what the families of routes are labelled by, and ` + fmt.Sprintf("`--metrics-max-series` (%d)", observe.DefaultMaxSeries) + ` what the number of series stays
below, whatever the number of objects is and whatever requests come: where there are too many objects, labels are given up in steps. The bound
for the objects of now is in the log at start, and whenever the labels change, and in ` + "`podlane_metrics_series_bound`" + `. By default the steps are:

`)
	for i, text := range observe.PerService.Steps() {
		fmt.Fprintf(&b, "%d. %s\n", i, text)
	}
	b.WriteString(`
With ` + "`--metrics-detail=route`" + ` another step comes before these: ` + observe.PerRoute.Steps()[0] + `. The four classes are 2xx, which then
counts 1xx too, 3xx, 4xx, which counts 499 too, and 5xx.

## Metrics

The labels are those of the first step.

`)
	table(&b, families, "podlane_")
	b.WriteString(`
## The names of ingress-nginx

With ` + "`--metrics-compat=ingress-nginx`" + ` its dashboards (Grafana 9614 and "Request Handling Performance") and alerts go on working. ` + "`status`" + ` is a class, as
with its ` + "`--report-status-classes`; there is no `method`" + `, which is the client's to choose; ` + "`host`" + ` is empty but with ` + "`--metrics-detail=route`" + `, and is
then that of the rule. ` + "`--metrics-max-series`" + ` does not bound them: there are up to ` + fmt.Sprint(nginx) + ` for each path of an Ingress, and the bound counts them. The
metrics of the process are shown by their names too, as ` + "`nginx_ingress_controller_nginx_process_*`" + `.

`)
	table(&b, families, "nginx_ingress_controller_")
	return b.String()
}

// table writes a row for each family whose name begins with prefix.
func table(b *strings.Builder, families []*dto.MetricFamily, prefix string) {
	b.WriteString("| name | type | labels | what it says |\n|---|---|---|---|\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) || strings.HasPrefix(f.GetName(), "nginx_ingress_controller_nginx_process_") && !strings.Contains(f.GetName(), "connections") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		slices.Sort(labels)
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
}
