package nginxcompat

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/router/policy"
)

// TestMirror compares the copies that a mirror gets with those of nginx's mirror, configured as ingress-nginx's template does.
func TestMirror(t *testing.T) {
	copies := make(chan string, 4)
	mirror := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { copies <- copied(q) }))
	t.Cleanup(mirror.Close)
	for name, s := range map[string]setup{
		"with its body": {
			values:   policy.Values{"mirror-target": mirror.URL + "$request_uri", "mirror-host": "copies.test"},
			location: "mirror /_mirror; mirror_request_body on;",
			server:   "location = /_mirror { internal; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host copies.test; set $target MIRROR$request_uri; proxy_pass $target; }",
		},
		"without": {
			values:   policy.Values{"mirror-target": mirror.URL + "$request_uri", "mirror-request-body": "off"},
			location: "mirror /_mirror; mirror_request_body off;",
			server: "location = /_mirror { internal; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host 127.0.0.1; proxy_pass_request_body off; " +
				"proxy_set_header Content-Length ''; set $target MIRROR$request_uri; proxy_pass $target; }",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.server = strings.ReplaceAll(s.server, "MIRROR", mirror.URL)
			p := newPair(t, s)
			for _, request := range []string{
				get("/a%20b/?c=%2F", "X-A: 1", "X-A: 2", "Authorization: Basic x", "Cookie: a=b"),
				message("POST", "/", "Content-Length: 5", "Content-Type: text/x") + "hello", message("DELETE", "/"), message("HEAD", "/x"),
				get("/", "TE: trailers", "Upgrade-Insecure-Requests: 1", "Expect: "),
			} {
				p.same(t, request)
				if theirs, ours := <-copies, <-copies; theirs != ours {
					t.Errorf("%q: of nginx the mirror gets\n%s\nof Podlane\n%s", request, theirs, ours)
				}
			}
		})
	}
}

// copied is a request as a mirror got it, without the fields that only Podlane always sets, and with its length in place of Content-Length.
func copied(q *http.Request) string {
	lines := []string{q.Method + " " + q.RequestURI + " of " + q.Host, fmt.Sprint("length ", q.ContentLength)}
	for _, key := range slices.Sorted(maps.Keys(q.Header)) {
		if key != "Content-Length" && !strings.HasPrefix(key, "X-Forwarded-") && key != "X-Real-Ip" && key != "X-Request-Id" && key != "X-Scheme" {
			lines = append(lines, fmt.Sprintf("%s: %q", key, q.Header[key]))
		}
	}
	return strings.Join(lines, "\n")
}
