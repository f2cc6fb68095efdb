package filters_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

func corsFamilies() []filters.Policy { return []filters.Policy{filters.CORS(), filters.CORSOrigin()} }

func TestCORSOrigins(t *testing.T) {
	for _, tc := range []struct {
		allowed, origin string
		want            string // of Access-Control-Allow-Origin
	}{
		{"", "https://any.example", "*"},
		{"", "", "*"},
		{"*", "https://any.example", "*"},
		{"https://a.example, *", "https://any.example", "*"},
		{"https://a.example", "https://a.example", "https://a.example"},
		{"https://a.example", "HTTPS://A.Example", "HTTPS://A.Example"},
		{"https://a.example", "http://a.example", ""},
		{"https://a.example", "https://a.example:8443", ""},
		{"https://a.example", "https://a.example.evil", ""},
		{"https://a.example", "evil-https://a.example", ""},
		{"https://a.example", "https://aaexample", ""},
		{"https://a.example", "null", ""},
		{"https://a.example", "", ""},
		{"https://b.example,https://a.example:8443", "https://a.example:8443", "https://a.example:8443"},
		{"https://*.a.example", "https://x.a.example", "https://x.a.example"},
		{"https://*.a.example", "https://X-1.A.Example", "https://X-1.A.Example"},
		{"https://*.a.example", "https://a.example", ""},
		{"https://*.a.example", "https://.a.example", ""},
		{"https://*.a.example", "https://x.y.a.example", ""},
		{"https://*.a.example", "https://x_y.a.example", ""},
		{"https://*.a.example", "https://evil.example/.a.example", ""},
		{"https://*.a.example:8080", "https://x.a.example:8080", "https://x.a.example:8080"},
		{"https://*.a.example:8080", "https://x.a.example", ""},
		{"capacitor://localhost", "capacitor://localhost", "capacitor://localhost"},
	} {
		values := policy.Values{"enable-cors": "true"}
		if tc.allowed != "" {
			values["cors-allow-origin"] = tc.allowed
		}
		chain := filters.Compile(corsFamilies(), route(t, "/", values, corsFamilies()...), nil)
		for _, method := range []string{"GET", "OPTIONS", "options"} {
			x := request("a.example", "/")
			x.Request.Method = []byte(method)
			if tc.origin != "" {
				x.Request.Fields.AddString("Origin", tc.origin)
			}
			answered := chain.FilterRequest(x) == exchange.Answered
			if answered != (method == "OPTIONS" && tc.want != "") {
				t.Errorf("%q: %s from %q: answered %v", tc.allowed, method, tc.origin, answered)
			}
			chain.FilterResponse(x)
			if got := string(x.Response.Fields.Get(exchange.AccessControlAllowOrigin)); got != tc.want {
				t.Errorf("%q: %s from %q: Access-Control-Allow-Origin %q, want %q", tc.allowed, method, tc.origin, got, tc.want)
			}
			x.Release()
		}
	}
}

func TestCORSFields(t *testing.T) {
	for _, tc := range []struct {
		name   string
		values policy.Values
		want   map[exchange.ID]string
	}{
		{"off", policy.Values{"cors-allow-methods": "GET"}, nil},
		{"defaults", policy.Values{"enable-cors": "true"}, map[exchange.ID]string{
			exchange.AccessControlAllowOrigin: "*", exchange.AccessControlAllowCredentials: "true",
			exchange.AccessControlAllowMethods: "GET, PUT, POST, DELETE, PATCH, OPTIONS",
			exchange.AccessControlAllowHeaders: "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
			exchange.AccessControlMaxAge:       "1728000",
		}},
		{"all", policy.Values{
			"enable-cors": "true", "cors-allow-credentials": "false", "cors-allow-methods": "GET,PUT", "cors-allow-headers": "X-A, x_b",
			"cors-expose-headers": "*, X-C", "cors-max-age": "0",
		}, map[exchange.ID]string{
			exchange.AccessControlAllowOrigin: "*", exchange.AccessControlAllowMethods: "GET,PUT", exchange.AccessControlAllowHeaders: "X-A, x_b",
			exchange.AccessControlExposeHeaders: "*, X-C", exchange.AccessControlMaxAge: "0",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			chain := filters.Compile(corsFamilies(), route(t, "/", tc.values, corsFamilies()...), nil)
			x := request("a.example", "/")
			chain.FilterRequest(x)
			chain.FilterResponse(x)
			for id := exchange.AccessControlAllowOrigin; id <= exchange.AccessControlMaxAge; id++ {
				if got, want := string(x.Response.Fields.Get(id)), tc.want[id]; got != want {
					t.Errorf("%s: %q, want %q", id.Name(), got, want)
				}
			}
		})
	}
}

func TestCORSMistakesDoNotOpen(t *testing.T) {
	if got := filters.CORSOrigin().InvalidEffect(); got != policy.Deny {
		t.Errorf("a mistake in the origins has effect %v, want Deny", got)
	}
	for _, text := range []string{
		"", ",", "a.example", "https://", "https://a.example/", "https://a.example:", "https://a.example:http", "https://**.example", "https://a.*.example",
		"https://*", "https://*.", "https://a b", "https://$host", "//a.example", "https://a.example;https://b.example", "*.example.com",
	} {
		if v, err := filters.CORSOrigin().ParseValues(policy.Values{"cors-allow-origin": text}, nil); err == nil {
			t.Errorf("%q parses to %v", text, v)
		}
	}
}

func TestCORSAllocations(t *testing.T) {
	values := policy.Values{"enable-cors": "true", "cors-allow-origin": "https://b.example, https://*.a.example"}
	chain := filters.Compile(corsFamilies(), route(t, "/", values, corsFamilies()...), nil)
	x := request("a.example", "/")
	x.Request.Fields.AddString("Origin", "https://x.a.example")
	if got := testing.AllocsPerRun(100, func() {
		x.Response.Fields.Reset(nil)
		chain.FilterRequest(x)
		chain.FilterResponse(x)
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func FuzzCORSOrigin(f *testing.F) {
	for _, s := range []string{"https://a.example", "https://*.a.example:80", "*", "http://a,http://b", "x://*.", "https://*.*.a"} {
		f.Add(s, "https://evil.example")
	}
	f.Fuzz(func(t *testing.T, allowed, origin string) {
		values := policy.Values{"cors-allow-origin": allowed}
		if _, err := filters.CORSOrigin().ParseValues(values, nil); err != nil {
			return
		}
		values["enable-cors"] = "true"
		chain := filters.Compile(corsFamilies(), route(t, "/", values, corsFamilies()...), nil)
		x := request("a.example", "/")
		defer x.Release()
		x.Request.Fields.AddString("Origin", origin)
		chain.FilterResponse(x)
		got := string(x.Response.Fields.Get(exchange.AccessControlAllowOrigin))
		star := false
		for member := range strings.SplitSeq(allowed, ",") {
			star = star || strings.TrimSpace(member) == "*"
		}
		if got == "*" != star || got != "" && !star && got != origin {
			t.Fatalf("%q allows %q as %q", allowed, origin, got)
		}
	})
}
