package nginxcompat

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"podlane.dev/podlane/router/policy"
)

// TestCustomErrors compares what the error service is asked, and what becomes of its answer, with nginx's error_page as ingress-nginx writes it.
func TestCustomErrors(t *testing.T) {
	asked := make(chan string, 4)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked <- copied(q)
		w.Header().Set("X-Error", q.Header.Get("X-Code"))
		w.Header().Set("Content-Type", "text/x-error")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, "sorry")
	}))
	t.Cleanup(service.Close)
	const named = `location @custom_CODE {
			internal;
			proxy_intercept_errors off;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header X-Code CODE;
			proxy_set_header X-Format $http_accept;
			proxy_set_header X-Original-URI $request_uri;
			proxy_set_header X-Namespace default;
			proxy_set_header X-Ingress-Name web;
			proxy_set_header X-Service-Name pod;
			proxy_set_header X-Service-Port "";
			proxy_set_header Host $http_host;
			rewrite (.*) / break;
			proxy_pass SERVICE;
		}`
	s := setup{
		values:   policy.Values{"custom-http-errors": "404,503", "default-backend": "errors"},
		errors:   strings.TrimPrefix(service.URL, "http://"),
		location: "proxy_intercept_errors on; error_page 404 = @custom_404; error_page 503 = @custom_503;",
		pod:      "Content-Type: text/plain\r\nX-Pod: here\r\nSet-Cookie: a=b\r\n\r\nhello",
	}
	for _, code := range []string{"404", "503"} {
		s.server += strings.NewReplacer("CODE", code, "SERVICE", service.URL).Replace(named)
	}
	for _, status := range []string{"200 OK", "404 Not Found", "503 Service Unavailable", "500 Oops", "304 Not Modified"} {
		t.Run(status, func(t *testing.T) {
			s := s
			s.status = status
			p := newPair(t, s)
			for _, request := range []string{
				get("/a%20b/?c=%2F", "Accept: text/html;q=0.5, */*", "X-A: 1"), get("/"), message("HEAD", "/x"), get("/x", "X-Code: 200", "X-Original-URI: /y"),
				get("/?", "Accept-Encoding: gzip"), get("/x?y&z=1"),
			} {
				p.same(t, request)
				if status[:3] != "404" && status[:3] != "503" {
					continue
				}
				theirs, ours := <-asked, <-asked
				if method, rest, _ := strings.Cut(theirs, " "); method == "HEAD" {
					theirs = "GET " + rest // ours asks so, and gives the client no body
				}
				if theirs != ours {
					t.Errorf("%q: nginx asks\n%s\nPodlane asks\n%s", request, theirs, ours)
				}
			}
		})
	}
}
