package filters_test

import (
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

// redirects are the families that redirect, in their order.
func redirects() []filters.Policy {
	return []filters.Policy{filters.RedirectURLs(), filters.AppRoot(), filters.Redirect(), filters.SSLRedirect()}
}

func TestRedirects(t *testing.T) {
	const old, fresh = "https://old.example/x?y=1&z=", "http://new.example:8080"
	for _, tc := range []struct {
		name           string
		values         policy.Values
		uri            string
		status         int
		location, body string
	}{
		{"none", nil, "/", 0, "", ""},
		{"permanent", policy.Values{"permanent-redirect": old}, "/a?b", 301, old, "301 Moved Permanently\n"},
		{"temporal", policy.Values{"temporal-redirect": fresh}, "/a?b", 302, fresh, "302 Found\n"},
		{"temporal wins", policy.Values{"temporal-redirect": fresh, "permanent-redirect": old, "permanent-redirect-code": "308"}, "/", 302, fresh, "302 Found\n"},
		{"code", policy.Values{"permanent-redirect": old, "permanent-redirect-code": "308"}, "/", 308, old, "308 Permanent Redirect\n"},
		{"code of the other", policy.Values{"permanent-redirect": old, "temporal-redirect-code": "307"}, "/", 301, old, "301 Moved Permanently\n"},
		{"permanent code too small", policy.Values{"permanent-redirect": old, "permanent-redirect-code": "299"}, "/", 301, old, "301 Moved Permanently\n"},
		{"permanent code too large", policy.Values{"permanent-redirect": old, "permanent-redirect-code": "309"}, "/", 301, old, "301 Moved Permanently\n"},
		{"temporal code", policy.Values{"temporal-redirect": old, "temporal-redirect-code": "307"}, "/", 307, old, "307 Temporary Redirect\n"},
		{"temporal code too large", policy.Values{"temporal-redirect": old, "temporal-redirect-code": "308"}, "/", 302, old, "302 Found\n"},
		{"temporal code 303", policy.Values{"temporal-redirect": old, "temporal-redirect-code": "303"}, "/", 303, old, "303 See Other\n"},
		{"multiple choices", policy.Values{"permanent-redirect": old, "permanent-redirect-code": "300"}, "/", 300, "", old},
		{"not modified", policy.Values{"permanent-redirect": old, "permanent-redirect-code": "304"}, "/", 304, "", ""},
		{"path", policy.Values{"permanent-redirect": "/new"}, "/", 301, "http://a.example/new", "301 Moved Permanently\n"},
		{"relative path", policy.Values{"permanent-redirect": "/new", "relative-redirects": "true"}, "/", 301, "/new", "301 Moved Permanently\n"},
		{"path with port", policy.Values{"permanent-redirect": "/new", "use-port-in-redirects": "true"}, "/", 301, "http://a.example:8080/new", "301 Moved Permanently\n"},
		{"URL is never relative", policy.Values{"permanent-redirect": old, "relative-redirects": "true"}, "/", 301, old, "301 Moved Permanently\n"},
		{"before HTTPS", policy.Values{"permanent-redirect": old, "force-ssl-redirect": "true"}, "/", 301, old, "301 Moved Permanently\n"},
		{"app root", policy.Values{"app-root": "/app:1/~x"}, "/?q", 302, "http://A.example:8080/app:1/~x", "302 Found\n"},
		{"app root elsewhere", policy.Values{"app-root": "/app"}, "/a", 0, "", ""},
		{"app root first", policy.Values{"app-root": "/app", "temporal-redirect": old, "force-ssl-redirect": "true"}, "/", 302, "http://A.example:8080/app", "302 Found\n"},
		{"app root is never relative", policy.Values{"app-root": "/app", "relative-redirects": "true"}, "/", 302, "http://A.example:8080/app", "302 Found\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			chain := filters.Compile(redirects(), route(t, "/", tc.values, redirects()...), nil)
			x := request("A.example:8080", tc.uri)
			x.Request.Hostname, x.Client.Port = []byte("a.example"), 8080
			x.Request.Path = []byte(tc.uri)
			if tc.uri == "/?q" {
				x.Request.Path = []byte("/")
			}
			x.Scratch = append(x.Scratch, "of a codec"...)
			answered := chain.FilterRequest(x) == exchange.Answered
			if answered != (tc.status != 0) || x.Response.Status != tc.status {
				t.Fatalf("answered %v with %d, want %d", answered, x.Response.Status, tc.status)
			}
			if got := string(x.Response.Fields.Get(exchange.Location)); got != tc.location || x.Response.Fields.Has(exchange.Location) != (tc.location != "") {
				t.Errorf("Location %q, want %q", got, tc.location)
			}
			var body []byte
			if x.Response.Body != nil {
				body, _ = x.Response.Body.Next()
			}
			if string(body) != tc.body {
				t.Errorf("body %q, want %q", body, tc.body)
			}
			if string(x.Scratch) != "of a codec" {
				t.Errorf("scratch is now %q", x.Scratch)
			}
		})
	}
}

func TestRedirectURLsOfClients(t *testing.T) {
	for _, tc := range []struct {
		name   string
		client exchange.Client
		host   string
		want   string
	}{
		{"own port", exchange.Client{Proto: "http", Port: 80}, "a.example", "http://a.example/new"},
		{"TLS", exchange.Client{TLS: true, Proto: "https", Port: 443}, "a.example", "https://a.example/new"},
		{"TLS elsewhere", exchange.Client{TLS: true, Proto: "https", Port: 8443}, "a.example", "https://a.example:8443/new"},
		{"behind a trusted proxy", exchange.Client{Proto: "https", Port: 443}, "a.example", "https://a.example/new"},
		{"IPv6", exchange.Client{Proto: "http", Port: 80}, "[::1]", "http://[::1]/new"},
		{"HTTP/1.0 without Host", exchange.Client{Proto: "http", Port: 80}, "", "/new"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			values := policy.Values{"permanent-redirect": "/new", "use-port-in-redirects": "true"}
			x := request(tc.host, "/")
			x.Request.Hostname, x.Client = []byte(tc.host), tc.client
			filters.Compile(redirects(), route(t, "/", values, redirects()...), nil).FilterRequest(x)
			if got := string(x.Response.Fields.Get(exchange.Location)); got != tc.want {
				t.Errorf("Location %q, want %q", got, tc.want)
			}
			root := request(tc.host, "/")
			root.Request.Path, root.Client = []byte("/"), tc.client
			filters.Compile(redirects(), route(t, "/", policy.Values{"app-root": "/new"}, redirects()...), nil).FilterRequest(root)
			want := "http://" + tc.host + "/new"
			switch {
			case tc.host == "":
				want = "/new"
			case tc.client.Proto == "https":
				want = "https://" + tc.host + "/new"
			}
			if got := string(root.Response.Fields.Get(exchange.Location)); got != want {
				t.Errorf("app-root: Location %q, want %q", got, want)
			}
		})
	}
}

func TestRedirectAllocations(t *testing.T) {
	for name, values := range map[string]policy.Values{
		"url": {"permanent-redirect": "https://new.example"}, "path": {"permanent-redirect": "/new"}, "root": {"app-root": "/new"},
	} {
		chain := filters.Compile(redirects(), route(t, "/", values, redirects()...), nil)
		x := request("a.example", "/")
		x.Request.Path = []byte("/")
		if got := testing.AllocsPerRun(100, func() { chain.FilterRequest(x) }); got > 1 {
			t.Errorf("%s: %v allocations to redirect, want at most the answer's body", name, got)
		}
	}
}

func FuzzRedirectURL(f *testing.F) {
	for _, s := range []string{"https://a.example/x", "/x", "//x", "https://$host/", "http://", "https://[::1]/", "javascript:x", "https:/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		family := filters.Redirect()
		for _, key := range []string{"permanent-redirect", "temporal-redirect"} {
			if _, err := family.ParseValues(policy.Values{key: text}, nil); err != nil {
				continue
			}
			x := request("a.example", "/")
			filters.Compile([]filters.Policy{family}, route(t, "/", policy.Values{key: text}, family), nil).FilterRequest(x)
			for _, c := range x.Response.Fields.Get(exchange.Location) {
				if c <= ' ' || c >= 0x7f || c == '$' {
					t.Fatalf("%s: %q redirects to %q", key, text, x.Response.Fields.Get(exchange.Location))
				}
			}
		}
	})
}

// The redirect between www.HOST and HOST has the status of that to HTTPS.
func TestSendToHost(t *testing.T) {
	for code, values := range map[int]policy.Values{308: nil, 301: {"http-redirect-code": "301"}} {
		r := route(t, "/", values, redirects()...)
		r.SendTo = "www.a.example"
		x := request("a.example:8080", "/x/")
		filters.Compile(redirects(), r, nil).FilterRequest(x)
		if got := string(x.Response.Fields.Get(exchange.Location)); got != "http://www.a.example:8080/x" || x.Response.Status != code {
			t.Errorf("%v: %d to %q", values, x.Response.Status, got)
		}
	}
}
