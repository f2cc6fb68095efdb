package main

import (
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"

	"podlane.dev/podlane/test/collector"
)

func TestPanicsAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		logged := panicLogger(funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}))
		for range 5 {
			logged("a bug", []byte("the stack"))
			time.Sleep(panicEvery / 4)
		}
		if len(lines) != 2 || !strings.Contains(lines[0], "a bug") || !strings.Contains(lines[0], "the stack") {
			t.Errorf("five panics in 75 seconds gave the lines %q, want two with the stack", lines)
		}
	})
}

func TestHandshakesAreCounted(t *testing.T) {
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")})
	s.get("https://a.example/")
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.https)
	must(t, err)
	defer func() { _ = nc.Close() }()
	_, err = io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	must(t, err)
	for _, want := range []string{
		"podlane_tls_handshakes_total 1\n", `podlane_tls_handshake_errors_total{reason="plain-http"} 1`, "podlane_upstream_connects_total 1\n",
	} {
		eventually(t, want, func() bool { _, metrics := s.page("/metrics"); return strings.Contains(metrics, want) })
	}
}

// The flags lead to a collector, /metrics counts what came there, and what is lost at the end is not.
func TestSpansReachTheCollector(t *testing.T) {
	to := new(collector.Collector)
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")},
		"--otlp-endpoint=http://"+to.HTTP(t), "--otlp-delay=1ms", "--otlp-service-name=edge", "--otlp-resource=k8s.cluster.name=east")
	s.get("https://a.example/")
	to.Await(t, 3)
	r := to.Resource()
	if r["service.name"] != "edge" || r["k8s.cluster.name"] != "east" || r["service.version"] != thisBuild().version || r["host.name"] == nil {
		t.Errorf("resource: %v", r)
	}
	const want = `podlane_trace_spans_total{result="sent"} 3`
	eventually(t, want, func() bool { _, metrics := s.page("/metrics"); return strings.Contains(metrics, want) })
}

// What operators set for all that speaks OpenTelemetry holds here too, and what is of no use there is told of.
func TestCollectorFromTheEnvironment(t *testing.T) {
	to := new(collector.Collector)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+to.HTTP(t))
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20sesame")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	t.Setenv("OTEL_SERVICE_NAME", "lost")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=east,host.name=node-1")
	t.Setenv("OTEL_TRACES_SAMPLER", "xray")
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")},
		"--otlp-service-name=edge")
	s.get("https://a.example/")
	to.Await(t, 3)
	if r := to.Resource(); r["service.name"] != "edge" || r["k8s.cluster.name"] != "east" || r["host.name"] != "node-1" || r["again host.name"] != nil {
		t.Errorf("resource: %v", r)
	}
	if to.Header().Get("Authorization") != "Bearer sesame" || to.Compression() != "gzip" {
		t.Errorf("%v, compressed by %q", to.Header(), to.Compression())
	}
	if log := s.stderr.String(); !strings.Contains(log, "OTEL_TRACES_SAMPLER has no effect") || strings.Contains(log, "sesame") {
		t.Errorf("the log:\n%s", log)
	}
}

// A collector that is away is told of once, and requests are served.
func TestCollectorAwayIsToldOf(t *testing.T) {
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")},
		"--otlp-endpoint=grpc://127.0.0.1:1", "--otlp-delay=1ms", "--otlp-queue-spans=3")
	for range 20 {
		s.get("https://a.example/")
	}
	dropped := regexp.MustCompile(`podlane_trace_spans_total{result="dropped"} [1-9]`)
	eventually(t, "spans that are dropped", func() bool { _, metrics := s.page("/metrics"); return dropped.MatchString(metrics) })
	const told = "the collector of traces does not take spans"
	eventually(t, told, func() bool { return strings.Contains(s.stderr.String(), told) })
}
