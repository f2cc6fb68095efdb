package observe_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
)

// nginxMetrics returns Metrics with ingress-nginx's families.
func nginxMetrics(t *testing.T, o observe.MetricsOptions) *observe.Metrics {
	t.Helper()
	o.Nginx = observe.NginxOptions{On: true, Class: "k8s.io/ingress-nginx", Namespace: "podlane", Pod: "podlane-0"}
	m := newMetrics(t, o)
	m.Follow(observe.Sources{Connections: func() (int, int) { return 3, 2 }, Spool: func() observe.SpoolUsage { return observe.SpoolUsage{} }})
	return m
}

const (
	self  = `controller_class="k8s.io/ingress-nginx",controller_namespace="podlane",controller_pod="podlane-0"`
	their = self + `,host="",ingress="web",namespace="shop",path="/cart",service="cart"`
)

func TestNginxNames(t *testing.T) {
	m := nginxMetrics(t, observe.MetricsOptions{
		Buckets: []float64{1}, Version: "v1",
		Certificates: func() []observe.CertificateInfo {
			return []observe.CertificateInfo{
				{Namespace: "shop", Secret: "tls", Hosts: []string{"a.test", "*.b.test"}, State: "ok", NotAfter: time.Unix(1000, 5)},
				{State: "ok", NotAfter: time.Unix(2000, 0)},
			}
		},
	})
	id := route("web", "a.test", "/cart")
	r, canary := m.Route(id, service("cart")), m.Canary(id, service("cart"), "shop-cart-80")
	m.Route(route("idle", "a.test", "/"), service("cart"))
	r.Observe(&observe.Served{Status: 200, Whole: 3 * time.Second, FirstByte: 2 * time.Second, Pod: time.Second, Answer: 2 * time.Second, Connect: time.Second, In: 11, Out: 12})
	observeOne(r, 404, time.Millisecond, 0, 9)
	observeOne(canary, 499, time.Millisecond, 0, 0)
	for prefix, want := range map[string]string{
		"requests": `nginx_ingress_controller_requests{status="2xx",canary="",` + their + `} 1
nginx_ingress_controller_requests{status="4xx",canary="",` + their + `} 1
nginx_ingress_controller_requests{status="499",canary="shop-cart-80",` + their + `} 1
`,
		"request_duration_seconds_bucket": `nginx_ingress_controller_request_duration_seconds_bucket{status="2xx",canary="",` + their + `,le="1"} 0
nginx_ingress_controller_request_duration_seconds_bucket{status="2xx",canary="",` + their + `,le="+Inf"} 1
nginx_ingress_controller_request_duration_seconds_bucket{status="4xx",canary="",` + their + `,le="1"} 1
nginx_ingress_controller_request_duration_seconds_bucket{status="4xx",canary="",` + their + `,le="+Inf"} 1
nginx_ingress_controller_request_duration_seconds_bucket{status="499",canary="shop-cart-80",` + their + `,le="1"} 1
nginx_ingress_controller_request_duration_seconds_bucket{status="499",canary="shop-cart-80",` + their + `,le="+Inf"} 1
`,
		"response_duration_seconds_sum":          `nginx_ingress_controller_response_duration_seconds_sum{canary="",` + their + "} 2\n",
		"header_duration_seconds_sum":            `nginx_ingress_controller_header_duration_seconds_sum{canary="",` + their + "} 1\n",
		"connect_duration_seconds_count":         `nginx_ingress_controller_connect_duration_seconds_count{canary="",` + their + "} 1\n",
		"ingress_upstream_latency_seconds_count": `nginx_ingress_controller_ingress_upstream_latency_seconds_count{canary="",` + their + "} 1\n",
		"request_size_sum": `nginx_ingress_controller_request_size_sum{canary="",` + their + `} 11
nginx_ingress_controller_request_size_sum{canary="shop-cart-80",` + their + "} 0\n",
		"response_size_bucket{canary=\"\"": strings.ReplaceAll(`{le="10"} 1
{le="100"} 2
{le="1000"} 2
{le="10000"} 2
{le="100000"} 2
{le="1e+06"} 2
{le="1e+07"} 2
{le="+Inf"} 2
`, "{", `nginx_ingress_controller_response_size_bucket{canary="",`+their+","),
		"bytes_sent_sum{canary=\"\"": `nginx_ingress_controller_bytes_sent_sum{canary="",` + their + "} 21\n",
		"success":                    "nginx_ingress_controller_success{" + self + "} 0\n",
		"config_hash":                "nginx_ingress_controller_config_hash{" + self + "} 0\n",
		"nginx_process_connections": `nginx_ingress_controller_nginx_process_connections{` + self + `,state="active"} 3
nginx_ingress_controller_nginx_process_connections{` + self + `,state="waiting"} 2
`,
		"ssl_expire": `nginx_ingress_controller_ssl_expire_time_seconds{` + self + `,host="*.b.test",namespace="shop",secret_name="tls"} 1000
nginx_ingress_controller_ssl_expire_time_seconds{` + self + `,host="a.test",namespace="shop",secret_name="tls"} 1000
`,
		"build_info": "nginx_ingress_controller_build_info{" + self + ",release=\"v1\"} 1\n",
	} {
		wantScrape(t, m, "nginx_ingress_controller_"+prefix, want)
	}
	for _, name := range []string{"resident_memory_bytes", "cpu_seconds_total"} {
		if scrape(t, m, "nginx_ingress_controller_nginx_process_"+name+"{"+self+"}") == "" {
			t.Errorf("no %s", name)
		}
	}
	if all := scrape(t, m, ""); strings.Contains(all, `ingress="idle"`) {
		t.Error("a route without requests has series")
	}
	r.Release()
	canary.Release()
	if left := scrape(t, m, "nginx_ingress_controller_re"); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

func TestNginxTellsOfReloads(t *testing.T) {
	m := nginxMetrics(t, observe.MetricsOptions{})
	const reloaded = "nginx_ingress_controller_config_last_reload_successful{" + self + "} "
	m.Published(observe.Publication{Generation: 5})
	wantScrape(t, m, "nginx_ingress_controller_config_last_reload_successful{", reloaded+"1\n")
	wantScrape(t, m, "nginx_ingress_controller_success", "nginx_ingress_controller_success{"+self+"} 1\n")
	if !strings.Contains(scrape(t, m, "nginx_ingress_controller_config_last"), "config_last_reload_successful_timestamp_seconds{"+self+"} 1") {
		t.Error("no time of the last table")
	}
	m.BuildFailed()
	wantScrape(t, m, "nginx_ingress_controller_config_last_reload_successful{", reloaded+"0\n")
	wantScrape(t, m, "podlane_panics", "podlane_panics_total{origin=\"build\"} 1\n")
	m.Published(observe.Publication{Generation: 6})
	wantScrape(t, m, "nginx_ingress_controller_config_last_reload_successful{", reloaded+"1\n")
}

// TestNginxSeriesAreBounded by objects too, with every class of answers on all routes, and they leave those of ours alone.
func TestNginxSeriesAreBounded(t *testing.T) {
	const routes = 300
	m := nginxMetrics(t, observe.MetricsOptions{})
	for i := range routes {
		answers(m.Route(router.RouteID{Namespace: "shop", Ingress: "web", Host: fmt.Sprint(i % 3), Path: fmt.Sprint("/", i)}, service("cart")))
	}
	text, err := m.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	their := strings.Count("\n"+string(text), "\nnginx_ingress_controller_re") + strings.Count(string(text), "\nnginx_ingress_controller_header") +
		strings.Count(string(text), "\nnginx_ingress_controller_connect") + strings.Count(string(text), "\nnginx_ingress_controller_bytes") +
		strings.Count(string(text), "\nnginx_ingress_controller_ingress")
	b, without := m.Bound(), newMetrics(t, observe.MetricsOptions{}).Bound()
	t.Logf("%d series of ingress-nginx's, bound %+v", their, b)
	if ours := series(t, m); b.Steps != 0 || ours+their+without.Series != b.Series {
		t.Errorf("%d series of ingress-nginx's and %d of ours: the bound is %+v", their, ours, b)
	}
}

// TestNginxNamesAreTheirs: the names that break the conventions of Prometheus are those that dashboards ask for.
func TestNginxNamesAreTheirs(t *testing.T) {
	m := nginxMetrics(t, observe.MetricsOptions{})
	answers(m.Route(route("web", "a.test", "/"), service("cart")))
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"requests": true, "success": true}
	for _, p := range problems {
		name := strings.TrimPrefix(p.Metric, "nginx_ingress_controller_")
		if !want[name] {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("promlint has nothing against %v any more", want)
	}
}
