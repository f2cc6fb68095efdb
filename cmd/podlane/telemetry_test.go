package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
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

// Endpoints by state, and objects that stand in an earlier form: what a change breaks is shown until it is mended.
func TestWhatIsHeldIsShown(t *testing.T) {
	all := serviceOf("web", pod(t, "one"), pod(t, "two")) + "---\n" + serviceOf("none") + "---\n" +
		ingressOf("web", "a.example", "/", "web") + "---\n" + ingressOf("none", "none.example", "/", "none") + "---\n"
	limited := func(to string) string {
		return annotated(ingressOf("limited", "b.example", "/", "web"), fmt.Sprintf("{podlane.dev/whitelist-source-range: %q}", to))
	}
	good := limited("127.0.0.0/8")
	s := serve(t, map[string]string{"all.yaml": all, "other.yaml": good})
	shows := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			eventually(t, line, func() bool { _, metrics := s.page("/metrics"); return strings.Contains(metrics, "\n"+line+"\n") })
		}
	}
	shows(`podlane_endpoints{state="ready"} 2`, `podlane_endpoints{state="ejected"} 0`, "podlane_services_without_endpoint 1", "podlane_objects_held 0")
	s.write(t, "other.yaml", limited("nonsense"))
	shows("podlane_objects_held 1")
	s.write(t, "other.yaml", good)
	shows("podlane_objects_held 0")
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

// What nginx's variables tell of connections and TLS holds for both versions of HTTP.
func TestLogTellsOfConnections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	s := serve(t, map[string]string{"all.yaml": serviceOf("web", pod(t, "one")) + "---\n" + ingressOf("web", "a.example", "/", "web")},
		"--access-log="+path, "--access-log-format=$server_protocol $connection_requests $ssl_protocol $ssl_cipher $ssl_session_reused $request_completion")
	sessions, want := tls.NewLRUClientSessionCache(1), ""
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, reused := range []string{".", "r"} {
			if version == "HTTP/2.0" {
				reused = "r"
			}
			protocols := new(http.Protocols)
			protocols.SetHTTP1(version == "HTTP/1.1")
			protocols.SetHTTP2(version == "HTTP/2.0")
			transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{
				ServerName: "a.example", InsecureSkipVerify: true, ClientSessionCache: sessions, MaxVersion: tls.VersionTLS12,
				CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
			}}
			for n := range 2 {
				q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.https+"/", http.NoBody)
				must(t, err)
				q.Host = "a.example"
				answer, err := transport.RoundTrip(q)
				must(t, err)
				_, err = io.Copy(io.Discard, answer.Body)
				must(t, errors.Join(err, answer.Body.Close()))
				want += fmt.Sprintf("%s %d TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 %s OK\n", version, n+1, reused)
				eventually(t, "the line of the request", func() bool {
					b, err := os.ReadFile(path)
					return err == nil && strings.Count(string(b), "\n") == strings.Count(want, "\n")
				})
			}
			transport.CloseIdleConnections()
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%v\n%s, want\n%s", err, got, want)
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
