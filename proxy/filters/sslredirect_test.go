package filters_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

func TestSSLRedirectDecides(t *testing.T) {
	const redirected, served = "redirected", "served"
	for _, tc := range []struct {
		name        string
		values      policy.Values
		certificate bool
		path        string
		want        string
	}{
		{"default without certificate", nil, false, "/", served},
		{"default with certificate", nil, true, "/", redirected},
		{"off", policy.Values{"ssl-redirect": "false"}, true, "/", served},
		{"on without certificate", policy.Values{"ssl-redirect": "true"}, false, "/", served},
		{"forced without certificate", policy.Values{"force-ssl-redirect": "true"}, false, "/", redirected},
		{"forced wins over off", policy.Values{"force-ssl-redirect": "1", "ssl-redirect": "0"}, true, "/", redirected},
		{"not forced, certificate", policy.Values{"force-ssl-redirect": "false"}, true, "/", redirected},
		{"only the slash, certificate", policy.Values{"preserve-trailing-slash": "true"}, true, "/", redirected},
		{"only the slash, no certificate", policy.Values{"preserve-trailing-slash": "true"}, false, "/", served},
		{"ACME challenge", nil, true, "/.well-known/acme-challenge/tok", served},
		{"ACME challenge, forced", policy.Values{"force-ssl-redirect": "true"}, true, "/.well-known/acme-challenge", served},
		{"beside the ACME path", nil, true, "/.well-known/security.txt", redirected},
	} {
		t.Run(tc.name, func(t *testing.T) {
			family := filters.SSLRedirect()
			r := route(t, tc.path, tc.values, family)
			r.HasCertificate = tc.certificate
			chain := filters.Compile([]filters.Policy{family}, r, nil)
			x := request("a.example", "/x")
			got := served
			if chain.FilterRequest(x) == exchange.Answered {
				got = redirected
			}
			if got != tc.want {
				t.Errorf("in clear: %s, want %s", got, tc.want)
			}
			if got == redirected && (x.Response.Status != 308 || x.Response.Why != exchange.Redirect) {
				t.Errorf("answer %d %q, want 308 %q", x.Response.Status, x.Response.Why, exchange.Redirect)
			}
			for _, https := range []exchange.Client{{TLS: true, Proto: "https"}, {Proto: "https"}} {
				x := request("a.example", "/x")
				x.Client = https
				if chain.FilterRequest(x) != exchange.Continue {
					t.Errorf("%+v: answered, want to continue", https)
				}
			}
		})
	}
}

func TestSSLRedirectLocation(t *testing.T) {
	for _, tc := range []struct{ authority, uri, want, preserved string }{
		{"a.example", "/", "https://a.example", "https://a.example/"},
		{"a.example", "/x", "https://a.example/x", ""},
		{"a.example", "/x/", "https://a.example/x", "https://a.example/x/"},
		{"a.example", "/x//", "https://a.example/x/", "https://a.example/x//"},
		{"a.example", "/x/?q=1", "https://a.example/x/?q=1", ""},
		{"a.example", "/x?next=/", "https://a.example/x?next=", "https://a.example/x?next=/"},
		{"a.example", "/?", "https://a.example/?", ""},
		{"a.example:8080", "/x", "https://a.example/x", ""},
		{"a.example:", "/x", "https://a.example/x", ""},
		{"A.Example.:80", "/x", "https://A.Example./x", ""},
		{"[2001:db8::1]:8080", "/x", "https://[2001:db8::1]/x", ""},
		{"[2001:db8::1]", "/x", "https://[2001:db8::1]/x", ""},
		{"192.0.2.1:80", "/x", "https://192.0.2.1/x", ""},
		{"a.example", "//evil.example/x", "https://a.example//evil.example/x", ""},
		{"a.example", "/a%2Fb%20c", "https://a.example/a%2Fb%20c", ""},
		{"a.example", "/caf\xc3\xa9?q=\xff", "https://a.example/caf%C3%A9?q=%FF", ""},
		{"a.example", `/x?a="b"<c>\d`, `https://a.example/x?a=%22b%22%3Cc%3E%5Cd`, ""},
		{"a.example", `/x?{a|b}^` + "`", `https://a.example/x?{a|b}^` + "`", ""},
	} {
		if tc.preserved == "" {
			tc.preserved = tc.want
		}
		for preserve, want := range map[string]string{"false": tc.want, "true": tc.preserved} {
			family := filters.SSLRedirect()
			r := route(t, "/", policy.Values{"force-ssl-redirect": "true", "preserve-trailing-slash": preserve}, family)
			chain := filters.Compile([]filters.Policy{family}, r, nil)
			x := request(tc.authority, tc.uri)
			x.Scratch = append(x.Scratch, "of a codec"...)
			if chain.FilterRequest(x) != exchange.Answered {
				t.Fatalf("%s %s: not answered", tc.authority, tc.uri)
			}
			if got := string(x.Response.Fields.Get(exchange.Location)); got != want {
				t.Errorf("%s %s, preserve %s: Location %q, want %q", tc.authority, tc.uri, preserve, got, want)
			}
			if string(x.Scratch) != "of a codec" {
				t.Errorf("scratch is now %q", x.Scratch)
			}
		}
	}
}

func TestSSLRedirectWithoutHostIsRefused(t *testing.T) {
	family := filters.SSLRedirect()
	r := route(t, "/", policy.Values{"force-ssl-redirect": "true"}, family)
	chain := filters.Compile([]filters.Policy{family}, r, nil)
	x := request("", "/")
	x.Request.Version = exchange.HTTP10
	if chain.FilterRequest(x) != exchange.Answered || x.Response.Status != 400 {
		t.Errorf("status %d, want an answer of 400: nothing may be served in clear", x.Response.Status)
	}
}

func TestSSLRedirectRefusesWhatIsNoBool(t *testing.T) {
	family := filters.SSLRedirect()
	if family.InvalidEffect() != policy.Deny {
		t.Errorf("effect = %v, want Deny: a security family fails closed", family.InvalidEffect())
	}
	for _, key := range family.FamilyKeys() {
		if key.Kind != policy.Bool {
			continue
		}
		for _, text := range []string{"", "yes", "on", "off", "2", " true", "TrUe"} {
			_, err := family.ParseValues(policy.Values{key.Name: text}, nil)
			if err == nil || !strings.HasPrefix(err.Error(), key.Name+": ") {
				t.Errorf("%s: %q: error %v, want one that names the key", key.Name, text, err)
			}
		}
	}
}

func TestSSLRedirectNamesTheFirstOfTwoMistakes(t *testing.T) {
	// Build must be a function of its input: a map's order must not choose the message.
	for range 50 {
		_, err := filters.SSLRedirect().ParseValues(policy.Values{"preserve-trailing-slash": "x", "ssl-redirect": "x"}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "ssl-redirect: ") {
			t.Fatalf("error %v, want the one about ssl-redirect", err)
		}
	}
}

func TestSSLRedirectText(t *testing.T) {
	family := filters.SSLRedirect()
	for text, values := range map[string]policy.Values{
		"ssl-redirect on":     {"ssl-redirect": "true"},
		"ssl-redirect off":    {"ssl-redirect": "false"},
		"ssl-redirect forced": {"ssl-redirect": "false", "force-ssl-redirect": "true"},
		"ssl-redirect on, preserving the trailing slash":    {"preserve-trailing-slash": "true"},
		"ssl-redirect on, with status 301":                  {"http-redirect-code": "301"},
		"ssl-redirect on, except for \"/ready /health\"":    {"no-tls-redirect-locations": "/ready, /health"},
		"ssl-redirect on, with status 302, except for \"\"": {"no-tls-redirect-locations": "", "http-redirect-code": "302"},
	} {
		if got := route(t, "/", values, family).Policies[0].String(); got != text {
			t.Errorf("%v is %q in a table, want %q", values, got, text)
		}
	}
}

func TestSSLRedirectAllocations(t *testing.T) {
	family := filters.SSLRedirect()
	chain := filters.Compile([]filters.Policy{family}, route(t, "/", policy.Values{"force-ssl-redirect": "true"}, family), nil)
	x := request("a.example:80", "/x")
	plain := x.Client
	if got := testing.AllocsPerRun(100, func() {
		x.Client = exchange.Client{TLS: true}
		chain.FilterRequest(x)
	}); got != 0 {
		t.Errorf("%v allocations to pass a request on, want 0", got)
	}
	if got := testing.AllocsPerRun(100, func() {
		x.Client = plain
		chain.FilterRequest(x)
	}); got > 1 {
		t.Errorf("%v allocations to redirect, want at most the answer's body", got)
	}
}

func FuzzSSLRedirectLocation(f *testing.F) {
	f.Add("a.example:80", "/x/")
	f.Add("[::1]:8080", "/?\xff")
	family := filters.SSLRedirect()
	r := route(f, "/", policy.Values{"force-ssl-redirect": "true"}, family)
	chain := filters.Compile([]filters.Policy{family}, r, nil)
	f.Fuzz(func(t *testing.T, authority, uri string) {
		if strings.ContainsFunc(authority, func(r rune) bool { return r >= 0x80 }) {
			t.Skip("the codec refuses it")
		}
		x := request(authority, uri)
		defer x.Release()
		if chain.FilterRequest(x) != exchange.Answered {
			t.Fatal("not answered")
		}
		if x.Response.Status == 400 {
			return
		}
		location := string(x.Response.Fields.Get(exchange.Location))
		if !strings.HasPrefix(location, "https://") || strings.ContainsFunc(location, func(r rune) bool { return r >= 0x80 }) {
			t.Fatalf("Location %q", location)
		}
	})
}

func TestSSLRedirectOfTheOperator(t *testing.T) {
	for _, tc := range []struct {
		name     string
		values   policy.Values
		path     string
		status   int
		location string
	}{
		{"code", policy.Values{"http-redirect-code": "301"}, "/", 301, "https://a.example/x"},
		{"no exemptions", policy.Values{"no-tls-redirect-locations": ""}, "/.well-known/acme-challenge", 308, "https://a.example/x"},
		{"other exemptions", policy.Values{"no-tls-redirect-locations": "/health, /ready"}, "/.well-known/acme-challenge", 308, "https://a.example/x"},
		{"exempt", policy.Values{"no-tls-redirect-locations": "/health, /ready"}, "/readyz", 0, ""},
		{"port", policy.Values{"use-port-in-redirects": "true"}, "/", 308, "https://a.example:8443/x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			families := []filters.Policy{filters.RedirectURLs(), filters.SSLRedirect()}
			r := route(t, tc.path, tc.values, families...)
			r.HasCertificate = true
			chain := filters.Compile(families, r, &filters.Runtime{HTTPSPort: 8443})
			x := request("a.example:8080", "/x")
			if answered := chain.FilterRequest(x) == exchange.Answered; answered != (tc.status != 0) || x.Response.Status != tc.status {
				t.Errorf("answered %v with %d, want %d", answered, x.Response.Status, tc.status)
			}
			if got := string(x.Response.Fields.Get(exchange.Location)); got != tc.location {
				t.Errorf("Location %q, want %q", got, tc.location)
			}
		})
	}
	for _, values := range []policy.Values{
		{"http-redirect-code": "303"}, {"http-redirect-code": "x"}, {"no-tls-redirect-locations": "health"}, {"no-tls-redirect-locations": "/a /b"},
	} {
		if _, err := filters.SSLRedirect().ParseValues(values, nil); err == nil {
			t.Errorf("%v parses", values)
		}
	}
}

func TestHTTPSPortUnlessSaid(t *testing.T) {
	families := []filters.Policy{filters.RedirectURLs(), filters.SSLRedirect()}
	r := route(t, "/", policy.Values{"use-port-in-redirects": "true", "force-ssl-redirect": "true"}, families...)
	for _, rt := range []*filters.Runtime{nil, {}} {
		x := request("a.example", "/x")
		filters.Compile(families, r, rt).FilterRequest(x)
		if got := string(x.Response.Fields.Get(exchange.Location)); got != "https://a.example:443/x" {
			t.Errorf("Location %q", got)
		}
	}
}
