package nginxcompat

import (
	"strconv"
	"strings"
	"testing"

	"podlane.dev/podlane/router/policy"
)

// The bodies of redirects are each one's own: nobody reads them.

func TestPermanentRedirect(t *testing.T) {
	const to = "https://new.example/x?y=1"
	for code := 300; code <= 308; code++ {
		p := newPair(t, setup{
			values:   policy.Values{"permanent-redirect": to, "permanent-redirect-code": strconv.Itoa(code)},
			location: "return " + strconv.Itoa(code) + " " + to + ";",
		})
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
			p.same(t, message(method, "/some/path?and=query"), "body")
		}
	}
}

func TestRedirectToAPath(t *testing.T) {
	for name, s := range map[string]setup{
		"absolute": {values: policy.Values{"permanent-redirect": "/new/path?x"}, location: "return 301 /new/path?x;"},
		"relative": {
			values:   policy.Values{"permanent-redirect": "/new/path?x", "relative-redirects": "true"},
			location: "absolute_redirect off; return 301 /new/path?x;",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, s)
			for _, host := range []string{"a.test", "A.Test", "a.test:8080", "a.test."} {
				p.same(t, strings.Replace(get("/old?q"), "a.test", host, 1), "body")
			}
		})
	}
}

func TestAppRoot(t *testing.T) {
	p := newPair(t, setup{
		values: policy.Values{"app-root": "/app/start"},
		server: "if ($uri = /) { return 302 $scheme://$http_host/app/start; }",
	})
	for _, uri := range []string{"/", "/?q=1", "//", "/./", "/x/../", "/app/start", "/index.html", "/%2e/"} {
		p.same(t, get(uri), "body")
	}
	p.same(t, strings.Replace(get("/"), "a.test", "A.Test:8080", 1), "body")
}

// ingress-nginx redirects to HTTPS in Lua, whose outcome is that of this return, but runs it behind all others.
func TestSSLRedirect(t *testing.T) {
	for _, code := range []string{"301", "302", "307", "308"} {
		p := newPair(t, setup{
			values:   policy.Values{"force-ssl-redirect": "true", "preserve-trailing-slash": "true", "http-redirect-code": code},
			location: "return " + code + " https://$host$request_uri;",
		})
		for _, uri := range []string{"/", "/x/", "/x?y=/", "/x?", "/%C3%A9?%2F", "//x"} {
			p.same(t, get(uri), "body")
		}
	}
}

func TestTrailingSlash(t *testing.T) {
	const location = "location /sub/path/ { proxy_set_header Host $http_host; proxy_pass http://POD; }"
	for name, s := range map[string]setup{
		"absolute": {slash: "/sub/path", server: location},
		"relative": {slash: "/sub/path", server: "absolute_redirect off; " + location, values: policy.Values{"relative-redirects": "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, s)
			for _, uri := range []string{"/sub/path", "/sub/path?q=1/", "/sub/path?", "/sub/path/", "/sub//path", "/x/../sub/path", "/sub/pathx", "/sub/PATH"} {
				p.same(t, get(uri), "body")
				p.same(t, strings.Replace(message("POST", uri, "Content-Length: 0"), "a.test", "A.test:8080", 1), "body")
			}
		})
	}
}
