package nginxcompat

import (
	"strings"
	"testing"

	"podlane.dev/podlane/router/policy"
)

func TestProxyRedirect(t *testing.T) {
	for _, rule := range []struct{ from, to string }{
		{"http://app.internal:8080/two/", "/"},
		{"http://app.internal:8080/two/", "https://$host/x/"},
		{"http://app.internal:8080/two", "http://other.example"},
		{"http://$host/", "https://$host:8443/"},
		{"/two/", "/three/"},
		{"/", "https://other.example/"},
		{"~^http://([^/]+)/two/(.*)$", "/$1/$2"},
		{"~*^HTTP://APP", "https://app"},
		{"~^HTTP://APP", "https://app"},
		{"~two/(?<rest>.*)", "/named/$rest/$request_method"},
		{"~(a)|(b)", "/$1-$2"},
		{"default", "off"},
		{"off", "/"},
	} {
		text := "proxy_redirect '" + rule.from + "' '" + rule.to + "';"
		if rule.from == "default" || rule.from == "off" {
			text = "proxy_redirect " + rule.from + ";"
		}
		p := newPair(t, setup{
			values: policy.Values{"proxy-redirect-from": rule.from, "proxy-redirect-to": rule.to}, location: text,
			pod: "Location: ECHO\r\nRefresh: 5; URL=ECHO\r\nContent-Type: text/plain\r\n\r\nhello",
		})
		for _, location := range []string{
			"http://app.internal:8080/two/some/uri/?q=1", "http://app.internal:8080/two", "http://app.internal/two/", "http://a.test/x", "/two/three", "/", "//two/",
			"b", "", "HTTP://app.internal:8080/two/",
		} {
			p.same(t, get("/", "X-Echo: "+location))
		}
	}
}

func TestProxyCookie(t *testing.T) {
	cookies := []string{
		"a=1; Domain=app.internal; Path=/two/some; HttpOnly", "b=2;domain=.APP.internal;PATH=/two", "c=3; Domain=x.app.internal; Path=/two/", "d; Domain=app.internal",
		"e=5 ;  Path = /two/x ; ; Secure", "f=; Path=", "g=domain=app.internal; SameSite=None; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "domain=app.internal; path=/two/",
		"h=\"q;Domain=app.internal\"", "i=1; Domain", "j=1;", "k=1; Path=/two/;", "l=1;path=/two/x; ;", "=x; path=/two/",
	}
	for _, values := range []policy.Values{
		{"proxy-cookie-domain": "app.internal shop.example"},
		{"proxy-cookie-domain": ".app.internal .shop.example"},
		{"proxy-cookie-domain": "app.internal $host"},
		{"proxy-cookie-domain": `~\.?([a-z]+)\.internal$ $1.example`},
		{"proxy-cookie-path": "/two/ /"},
		{"proxy-cookie-path": "/two /$request_method"},
		{"proxy-cookie-path": "~^/TWO/(.*)$ /x/$1"},
		{"proxy-cookie-path": "~*^/TWO/?(.*)$ /x/$1"},
		{"proxy-cookie-path": "/two/ /three/", "proxy-cookie-domain": "app.internal shop.example"},
		{"proxy-cookie-path": "off", "proxy-cookie-domain": "off"},
	} {
		var directives strings.Builder
		for key, value := range values {
			from, to, two := strings.Cut(value, " ")
			directives.WriteString(strings.ReplaceAll(key, "-", "_") + " '" + from + "'")
			if two {
				directives.WriteString(" '" + to + "'")
			}
			directives.WriteString(";\n")
		}
		p := newPair(t, setup{
			values: values, location: directives.String(), pod: "Set-Cookie: " + strings.Join(cookies, "\r\nSet-Cookie: ") + "\r\nContent-Type: text/plain\r\n\r\nhello",
		})
		p.same(t, get("/"))
	}
}

// What becomes a path is made a URL of the host, unless paths are wanted.
func TestProxyRedirectToAPath(t *testing.T) {
	p := newPair(t, setup{
		values:   policy.Values{"proxy-redirect-from": "http://app.internal/", "proxy-redirect-to": "/", "relative-redirects": "true"},
		location: "absolute_redirect off; proxy_redirect http://app.internal/ /;",
		pod:      "Location: http://app.internal/x\r\n\r\nhello",
	})
	p.same(t, get("/"))
}
