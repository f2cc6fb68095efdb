package nginxcompat

import (
	"testing"

	"podlane.dev/podlane/router/policy"
)

// corsText is what ingress-nginx writes, with add_header where it has more_set_headers, a module that Debian's nginx lacks; what the Pod says of the
// same is hidden so that it is replaced here too.
const corsText = `
	proxy_hide_header Access-Control-Allow-Origin;
	proxy_hide_header Access-Control-Max-Age;
	set $cors ''; set $origin ''; set $methods ''; set $headers ''; set $age ''; set $credentials ''; set $expose '';
	if ($http_origin ~* ((https://a\.example)|(https://[A-Za-z0-9\-]+\.b\.example:8443))$ ) { set $cors 'true'; }
	if ($cors = 'true') {
		set $origin $http_origin; set $methods 'GET, POST'; set $headers 'X-A,X-B'; set $age 600; set $credentials 'true'; set $expose 'X-C';
	}
	if ($request_method = 'OPTIONS') { set $cors ${cors}options; }
	add_header Access-Control-Allow-Origin $origin always;
	add_header Access-Control-Allow-Credentials $credentials always;
	add_header Access-Control-Allow-Methods $methods always;
	add_header Access-Control-Allow-Headers $headers always;
	add_header Access-Control-Expose-Headers $expose always;
	add_header Access-Control-Max-Age $age always;
	if ($cors = 'trueoptions') { return 204; }
`

func TestCORS(t *testing.T) {
	p := newPair(t, setup{
		values: policy.Values{
			"enable-cors": "true", "cors-allow-origin": "https://a.example, https://*.b.example:8443", "cors-allow-methods": "GET, POST",
			"cors-allow-headers": "X-A,X-B", "cors-expose-headers": "X-C", "cors-max-age": "600",
		},
		location: corsText,
		pod:      "Content-Type: text/plain\r\nAccess-Control-Allow-Origin: the Pod's\r\nAccess-Control-Max-Age: 1\r\n\r\nhello",
	})
	for _, origin := range []string{
		"https://a.example", "HTTPS://A.EXAMPLE", "https://x.b.example:8443", "https://x-1.B.example:8443",
	} {
		for _, method := range []string{"GET", "OPTIONS", "HEAD", "POST"} {
			except := []string{}
			if method == "OPTIONS" {
				except = append(except, "content-type") // nginx cannot set it without more_set_headers
			}
			r := p.same(t, message(method, "/x", "Origin: "+origin), except...)
			if method == "OPTIONS" && r.line != "204" {
				t.Errorf("OPTIONS from %s: %s", origin, r.line)
			}
		}
	}
}

// The Pod's own fields are hidden above, so requests that are not allowed are compared in front of a Pod that has none.
func TestCORSNotAllowed(t *testing.T) {
	p := newPair(t, setup{
		values: policy.Values{
			"enable-cors": "true", "cors-allow-origin": "https://a.example, https://*.b.example:8443", "cors-allow-methods": "GET, POST",
			"cors-allow-headers": "X-A,X-B", "cors-expose-headers": "X-C", "cors-max-age": "600",
		},
		location: corsText,
	})
	for _, origin := range []string{
		"http://a.example", "https://a.example:443", "https://a.example.evil", "https://x.y.b.example:8443", "https://b.example:8443", "https://x_y.b.example:8443",
		"https://.b.example:8443", "null", "",
	} {
		for _, method := range []string{"GET", "OPTIONS"} {
			p.same(t, message(method, "/x", "Origin: "+origin))
		}
	}
	p.same(t, message("OPTIONS", "/x"))
}

// ingress-nginx sets $http_origin to "*" where every origin is allowed, so those that send none are told too.
func TestCORSForAll(t *testing.T) {
	p := newPair(t, setup{
		values: policy.Values{"enable-cors": "true", "cors-allow-credentials": "false"},
		location: `set $http_origin *; set $cors 'true';
			if ($request_method = 'OPTIONS') { set $cors ${cors}options; }
			add_header Access-Control-Allow-Origin $http_origin always;
			add_header Access-Control-Allow-Methods 'GET, PUT, POST, DELETE, PATCH, OPTIONS' always;
			add_header Access-Control-Allow-Headers 'DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization' always;
			add_header Access-Control-Max-Age 1728000 always;
			if ($cors = 'trueoptions') { return 204; }`,
	})
	for _, lines := range [][]string{nil, {"Origin: https://any.example"}, {"Origin: null"}} {
		p.same(t, message("GET", "/", lines...))
		p.same(t, message("OPTIONS", "/", lines...), "content-type")
	}
}
