package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// jsonLines returns the lines of the access log of the requests that do sends.
func jsonLines(t *testing.T, o proxy.Options, do func(r *rig)) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for _, text := range loggedWith(t, o, do) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(text), &fields); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		lines = append(lines, fields)
	}
	return lines
}

// The line names the Pod of each try, why it failed, and how long each took; the times of the answer are those of the last.
func TestLogTellsEachTry(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	lines := jsonLines(t, proxy.Options{Upstream: upstream.Options{MaxFails: -1}}, func(r *rig) {
		refusing := closedPort(t)
		addrs := []router.Address{
			{AddrPort: netip.MustParseAddrPort(pod), UID: "2", Pod: "here-2", Ready: true, Serving: true},
			{AddrPort: netip.MustParseAddrPort(refusing), UID: "1", Pod: "gone-1", Ready: true, Serving: true},
		}
		r.publish("a.test", addrs)
		for i := range 30 {
			if i == 20 {
				r.publish("a.test", addrs[:1])
			}
			if res, body := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 || body != "ok" {
				t.Fatalf("%d %q", res.StatusCode, body)
			}
		}
	})
	several, reused := 0, 0
	for _, line := range lines {
		if line["pod"] != "here-2" || line["rule_host"] != "a.test" || line["path_type"] != "Prefix" {
			t.Errorf("%v", line)
		}
		attempts, retried := line["attempts"].([]any)
		if !retried {
			if line["upstream_duration"] == nil || line["upstream_first_byte"] == nil {
				t.Errorf("a line without the times of its try: %v", line)
			}
			if line["connect"] == nil {
				reused++
			}
			continue
		}
		several++
		first, last := attempts[0].(map[string]any), attempts[1].(map[string]any)
		if first["pod"] != "gone-1" || first["why"] != "connect-failed" || first["status"] != nil || first["upstream_first_byte"] != nil {
			t.Errorf("the try that failed: %v", first)
		}
		if len(attempts) != 2 || last["pod"] != "here-2" || last["why"] != nil || last["status"] != 200.0 || last["upstream_first_byte"] == nil {
			t.Errorf("the try that did not fail: %v", last)
		}
	}
	if len(lines) != 30 || several == 0 || reused < 9 {
		t.Errorf("%d lines, %d with two tries, %d over connections that were there: want 30, some, and 9 at least", len(lines), several, reused)
	}
}

// The line says whether the canary was chosen, and what decided that.
func TestLogTellsOfTheCanary(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	lines := jsonLines(t, proxy.Options{}, func(r *rig) {
		main := router.ServicePort{Namespace: "default", Name: "main"}
		canary := router.ServicePort{Namespace: "default", Name: "canary"}
		table := router.NewTable([]*router.Route{{
			ID:          router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
			Backends:    []router.Backend{{Service: main, Weight: 1}, {Service: canary}},
			Alternative: &router.Alternative{Canary: router.Canary{On: true, Header: "X-Canary", Cookie: "canary", Total: 100}},
		}}, nil)
		r.engine.Prepare(table)
		address := []router.Address{{AddrPort: netip.MustParseAddrPort(pod), UID: "1", Ready: true, Serving: true}}
		r.engine.SetAddresses(main.Service(), map[string][]router.Address{"": address})
		r.engine.Publish(table)
		fetchLogged(t, r, "GET", "http://a.test/", "X-Canary", "always")
		r.engine.SetAddresses(canary.Service(), map[string][]router.Address{"": address})
		for _, field := range [][]string{{"X-Canary", "always"}, {"X-Canary", "never"}, {"Cookie", "canary=always"}, nil} {
			fetchLogged(t, r, "GET", "http://a.test/", field...)
		}
	})
	want := []struct {
		canary      bool
		by, service string
	}{{false, "no-endpoint", "main"}, {true, "header", "canary"}, {false, "header", "main"}, {true, "cookie", "canary"}, {false, "weight", "main"}}
	if len(lines) != len(want) {
		t.Fatalf("%d lines", len(lines))
	}
	for i, w := range want {
		if l := lines[i]; l["canary"] != w.canary || l["canary_by"] != w.by || l["service"] != w.service {
			t.Errorf("request %d: %v, want %v", i, l, w)
		}
	}
}

// A Pod that breaks off its answer is named with the reason.
func TestLogTellsOfTruncatedAnswer(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 50000))
		panic(http.ErrAbortHandler)
	})
	lines := jsonLines(t, proxy.Options{}, func(r *rig) {
		r.route("a.test", pod)
		if res, err := r.client.Get("http://a.test/"); err == nil {
			if _, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Error("the answer came whole")
			}
			res.Body.Close()
		}
	})
	if len(lines) != 1 || lines[0]["reason"] != "upstream-truncated" || lines[0]["upstream_duration"] == nil {
		t.Errorf("%v", lines)
	}
}
