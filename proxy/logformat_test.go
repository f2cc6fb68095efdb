package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router/policy"
)

// logged returns the lines of an access log that do sends requests to.
func logged(t *testing.T, do func(r *rig)) []string {
	t.Helper()
	return loggedWith(t, proxy.Options{Policies: answerFamilies(), H2C: true}, do)
}

// loggedWith is logged with other options.
func loggedWith(t *testing.T, o proxy.Options, do func(r *rig)) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	access, err := observe.OpenAccessLog(observe.AccessLogOptions{Destination: path})
	if err != nil {
		t.Fatal(err)
	}
	o.AccessLog = access
	r := newRig(t, o)
	do(r)
	waitFor(t, "all to be over", func() bool { return r.engine.Requests() == 0 }) // and so logged
	if err := access.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// fetchLogged sends a request whose line stands before those of all later ones: a client has its answer before the line is written.
func fetchLogged(t *testing.T, r *rig, method, url string, fields ...string) {
	t.Helper()
	fetch(t, r.client, method, url, fields...).Body.Close()
	waitFor(t, "it to be over", func() bool { return r.engine.Requests() == 0 })
}

// Lines are in the format that the ConfigMap says, with their values escaped as it says, from the next request on; and in JSON again without it.
func TestLogFormatFollowsTheConfigMap(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("X-Answer", `a "quote"`)
		w.WriteHeader(201)
		fmt.Fprint(w, "four")
	})
	const format = `$request_method $request_uri $status $body_bytes_sent "$http_user_agent" "$upstream_http_x_answer" [$proxy_upstream_name]`
	lines := logged(t, func(r *rig) {
		for _, values := range []policy.Values{
			{"log-format-upstream": format},
			{"log-format-upstream": format, "log-format-escape-json": "true"},
			{"log-format-upstream": format, "log-format-escape-none": "true", "log-format-escape-json": "true"},
			nil,
		} {
			r.govern(values, pod)
			fetchLogged(t, r, "GET", "http://a.test/x?y", "User-Agent", `it's "me" \`)
			waitFor(t, "the line", func() bool { return r.engine.Requests() == 0 })
		}
		r.govern(policy.Values{"log-format-upstream": "$status $request_uri"}, pod)
		fetchLogged(t, r, "GET", "http://nobody.test/z")
		waitFor(t, "the line", func() bool { return r.engine.Requests() == 0 })
		// A request that is refused before any table was asked is in the format too.
		c := dialKeeper(t, r.addr)
		fmt.Fprint(c, "GET /bad HTTP/1.1\r\n\r\n")
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatal(err)
		}
	})
	want := []string{
		`GET /x?y 201 4 "it's \x22me\x22 \x5C" "a \x22quote\x22" [default-svc]`,
		`GET /x?y 201 4 "it's \"me\" \\" "a \"quote\"" [default-svc]`,
		`GET /x?y 201 4 "it's "me" \" "a "quote"" [default-svc]`,
		`{"time":`,
		`404 /z`,
		`400 /bad`,
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), strings.Join(lines, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %d is\n%s\nwant\n%s", i, lines[i], want[i])
		}
	}
}

// What a line says of an answer is that answer's, although others have used the connection to the Pod meanwhile; and what it says of a
// tunnel is not what went through it.
func TestLogFormatKeepsMessagesApart(t *testing.T) {
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		defer c.Close()
		for {
			q, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if q.Header.Get("Upgrade") != "" {
				fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\nX-Answer: %s\r\n\r\n", q.URL.Path)
				_, _ = io.CopyN(c, br, 4096) // the client ends it
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Answer: %s\r\nContent-Length: 0\r\n\r\n", q.URL.Path)
		}
	})
	const clients, requests = 8, 50
	lines := logged(t, func(r *rig) {
		r.govern(policy.Values{"log-format-upstream": "$uri $request_uri $http_x_asked $upstream_http_x_answer $host"}, pod)
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				for n := range requests {
					path := fmt.Sprintf("/%d/%d", i, n)
					q, err := http.NewRequest(http.MethodGet, "http://a.test"+path, http.NoBody)
					if err != nil {
						t.Error(err)
						return
					}
					q.Header.Set("X-Asked", path)
					res, err := r.client.Do(q)
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
				}
			})
		}
		all.Wait()
		c := dialKeeper(t, r.addr)
		fmt.Fprint(c, "GET /tunnel HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\nX-Asked: /tunnel\r\n\r\n")
		if res, err := http.ReadResponse(c.in, nil); err != nil || res.StatusCode != 101 {
			t.Fatal(res, err)
		}
		fmt.Fprint(c, strings.Repeat("z", 4096))
		if n, err := io.CopyN(io.Discard, c.in, 4096); err != nil {
			t.Fatalf("%d bytes came back: %v", n, err)
		}
		c.Close()
	})
	if len(lines) != clients*requests+1 {
		t.Fatalf("%d lines, want %d", len(lines), clients*requests+1)
	}
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) != 5 || words[1] != words[0] || words[2] != words[0] || words[3] != words[0] || words[4] != "a.test" {
			t.Errorf("a line mixes messages: %s", line)
		}
	}
}

// Without a ConfigMap that says it the format is that of the options, also before the first table.
func TestLogFormatOfOptions(t *testing.T) {
	line, err := expr.ParseLog("$status $request_uri [$http_x_hostile]")
	if err != nil {
		t.Fatal(err)
	}
	lines := loggedWith(t, proxy.Options{LogFormat: &filters.LogFormat{Line: line, Escape: expr.EscapeLog}}, func(r *rig) {
		fetchLogged(t, r, "GET", "http://a.test/early", "X-Hostile", "\xff\" x\\")
		waitFor(t, "the line", func() bool { return r.engine.Requests() == 0 })
		r.route("a.test", backend(t, func(http.ResponseWriter, *http.Request) {}))
		fetchLogged(t, r, "GET", "http://a.test/late")
	})
	if want := []string{`404 /early [\xFF\x22 x\x5C]`, "200 /late [-]"}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
}
