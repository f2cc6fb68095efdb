package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"podlane.dev/podlane/proxy/observe"
)

// asked are what scrapers send as Accept.
const (
	asksText     = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.2"
	asksMessages = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.4,*/*;q=0.2"
)

func TestMetricsPage(t *testing.T) {
	m, err := observe.NewMetrics(observe.MetricsOptions{})
	must(t, err)
	must(t, m.Register(collectors.NewGoCollector()))
	page := newMetricsPage(m, logr.Discard())
	for accept, want := range map[string]expfmt.FormatType{"": expfmt.TypeTextPlain, "*/*": expfmt.TypeTextPlain, asksText: expfmt.TypeTextPlain, asksMessages: expfmt.TypeProtoDelim} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		r.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		format := expfmt.ResponseFormat(w.Header())
		if w.Code != 200 || format.FormatType() != want {
			t.Errorf("Accept %q: %d, %q", accept, w.Code, w.Header())
		}
		if want != expfmt.TypeTextPlain {
			continue
		}
		for _, line := range []string{"\n# TYPE podlane_table_generation gauge\npodlane_table_generation 0\n", "\ngo_goroutines "} {
			if !strings.Contains(w.Body.String(), line) || w.Header().Get("Content-Encoding") != "" {
				t.Errorf("Accept %q: no %q in plain text", accept, line)
			}
		}
	}
}

// TestFixedSeries holds what is counted as not coming from objects: all that a fresh process has, and reasons that Problems may have.
func TestFixedSeries(t *testing.T) {
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")})
	s.get("http://a.example/")
	_, text := s.page("/metrics")
	n := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, `namespace="default"`) {
			n++
		}
	}
	t.Logf("%d series", n)
	// There is room for 100 Problems' reasons.
	if n < 100 || n > 400 {
		t.Errorf("%d series without an object, and observe.processSeries is 500", n)
	}
}

func TestResumedHandshakesAreCounted(t *testing.T) {
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")})
	tickets := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "a.example"} //nolint:gosec // not what is tested
	for range 2 {
		c, err := (&tls.Dialer{Config: tickets}).DialContext(t.Context(), "tcp", s.https)
		must(t, err)
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
		must(t, err)
		_, err = io.ReadAll(c) // the ticket comes with the answer
		must(t, err)
		must(t, c.Close())
	}
	for _, want := range []string{"podlane_tls_handshakes_total 2\n", "podlane_tls_handshakes_resumed_total 1\n"} {
		eventually(t, want, func() bool { _, metrics := s.page("/metrics"); return strings.Contains(metrics, want) })
	}
}

// TestLiveMetricsAreDocumented: every family of a process that has served something is in METRICS.md, and --metrics-compat shows the others.
func TestLiveMetricsAreDocumented(t *testing.T) {
	reference, err := os.ReadFile("../../METRICS.md")
	must(t, err)
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")}, "--metrics-compat=ingress-nginx", "--log-level=info")
	s.get("https://a.example/")
	eventually(t, "the request to be counted", func() bool {
		_, text := s.page("/metrics")
		return strings.Contains(text, "nginx_ingress_controller_requests{status=\"2xx\",canary=\"\",controller_class=\"podlane.dev/ingress-controller\"")
	})
	_, text := s.page("/metrics")
	n := 0
	for line := range strings.Lines(text) {
		name, found := strings.CutPrefix(line, "# TYPE ")
		name, _, _ = strings.Cut(name, " ")
		if !found || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "nginx_ingress_controller_nginx_process_") {
			continue
		}
		if n++; !strings.Contains(string(reference), "| `"+name+"` |") {
			t.Errorf("METRICS.md lacks %s", name)
		}
	}
	if n < 45 {
		t.Errorf("only %d families", n)
	}
	if log := s.stderr.String(); !strings.Contains(log, "series of /metrics") || !strings.Contains(log, "everything by Ingress and Service") {
		t.Errorf("the bound is not told: %s", log)
	}
}
