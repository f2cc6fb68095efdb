package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// Where the annotation asks for it, what became of the path of each request has a line, beside that of the request or without it; and nowhere else.
func TestRewriteLog(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.URL.Path) })
	lines := jsonLines(t, proxy.Options{Policies: config.Policies()}, func(r *rig) {
		for _, annotations := range []map[string]string{
			{"enable-rewrite-log": "true", "upstream-vhost": "in.example"},
			{"enable-rewrite-log": "true", "enable-access-log": "false", "app-root": "/app"},
			{"enable-rewrite-log": "false"},
			nil,
		} {
			r.routeSaying(annotations, pod)
			fetchLogged(t, r, "GET", "http://a.test/?secret")
			waitFor(t, "the line", func() bool { return r.engine.Requests() == 0 })
		}
	})
	want := []map[string]any{
		{"event": "rewrite", "path": "/", "upstream_host": "in.example", "route": "/", "ingress": "ing", "service": "svc", "status": 200.0},
		{"path": "/?secret", "status": 200.0},
		{"event": "rewrite", "path": "/", "redirect": "http://a.test/app", "reason": "redirect", "status": 302.0, "service": nil},
		{"path": "/?secret", "status": 200.0, "event": nil},
		{"path": "/?secret", "status": 200.0, "event": nil},
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for i, w := range want {
		for name, value := range w {
			if lines[i][name] != value {
				t.Errorf("line %d: %s is %v, want %v: %v", i, name, lines[i][name], value, lines[i])
			}
		}
	}
}

// The line tells the path that Pods get in the place of the client's, over a tunnel too, whose request is gone when the line is written.
func TestRewriteLogTellsTheNewPath(t *testing.T) {
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil || q.URL.Path != "/new/x" {
			t.Errorf("the Pod got %v, %v", q, err)
			return
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
		_, _ = io.CopyN(c, br, 4096) // the client ends it
	})
	lines := jsonLines(t, proxy.Options{Policies: config.Policies()}, func(r *rig) {
		pattern, err := router.NewPattern("/old/(.*)")
		if err != nil {
			t.Fatal(err)
		}
		port := router.ServicePort{Namespace: "default", Name: "svc"}
		table := router.NewTable([]*router.Route{{
			ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/old/(.*)", Type: router.Regex},
			Backends: []router.Backend{{Service: port, Weight: 1}}, Pattern: pattern,
			Policies: says(t, map[string]string{"enable-rewrite-log": "true", "rewrite-target": "/new/$1"}),
		}}, nil)
		r.engine.Prepare(table)
		r.addresses(pod)
		r.engine.Publish(table)
		c := dialKeeper(t, r.addr)
		fmt.Fprint(c, "GET /old/x HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		if res, err := http.ReadResponse(c.in, nil); err != nil || res.StatusCode != 101 {
			t.Fatal(res, err)
		}
		fmt.Fprint(c, strings.Repeat("z", 4096))
		if n, err := io.CopyN(io.Discard, c.in, 4096); err != nil {
			t.Fatalf("%d bytes came back: %v", n, err)
		}
		c.Close()
	})
	if len(lines) != 2 || lines[0]["path"] != "/old/x" || lines[0]["rewritten"] != "/new/x" || lines[0]["path_type"] != "Regex" || lines[0]["status"] != 101.0 {
		t.Errorf("%v", lines)
	}
}
