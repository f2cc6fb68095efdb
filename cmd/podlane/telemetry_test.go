package main

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
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
