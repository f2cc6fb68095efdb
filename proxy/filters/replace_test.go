package filters_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

// Most of what these families do is compared with nginx in test/nginxcompat.

func TestProxyRedirectLeavesAlone(t *testing.T) {
	for _, values := range []policy.Values{
		nil, {"proxy-redirect-from": "off", "proxy-redirect-to": "/x"}, {"proxy-redirect-from": "default"}, {"proxy-redirect-from": "http://app/"},
		{"proxy-redirect-to": "/x"}, {"proxy-redirect-from": "off", "proxy-redirect-to": "/$9"},
	} {
		family := filters.ProxyRedirect()
		if c := filters.Compile([]filters.Policy{family}, route(t, "/", values, family), nil); len(c.Response) != 0 {
			t.Errorf("%v has a filter", values)
		}
	}
	family := filters.ProxyRedirect()
	r := route(t, "/", policy.Values{"proxy-redirect-from": "http://app/", "proxy-redirect-to": "/"}, family)
	x := request("a.example", "/")
	x.Answer(302, exchange.Redirect, "")
	x.Response.Fields.SetString(exchange.Location, "http://app/x")
	filters.Compile([]filters.Policy{family}, r, nil).FilterResponse(x)
	if got := string(x.Response.Fields.Get(exchange.Location)); got != "http://app/x" {
		t.Errorf("an answer of the proxy's own goes to %q now", got)
	}
}

func TestProxyRedirectPort(t *testing.T) {
	families := []filters.Policy{filters.RedirectURLs(), filters.ProxyRedirect()}
	r := route(t, "/", policy.Values{"proxy-redirect-from": "http://app/", "proxy-redirect-to": "/", "use-port-in-redirects": "true"}, families...)
	x := request("a.example:8080", "/")
	x.Request.Hostname, x.Client.Port = []byte("a.example"), 8080
	x.Response.Fields.SetString(exchange.Location, "http://app/x")
	filters.Compile(families, r, nil).FilterResponse(x)
	if got := string(x.Response.Fields.Get(exchange.Location)); got != "http://a.example:8080/x" {
		t.Errorf("Location %q", got)
	}
}

func TestReplacementsAreRefused(t *testing.T) {
	for _, tc := range []struct {
		family      filters.Policy
		key, value  string
		other, text string
	}{
		{filters.ProxyRedirect(), "proxy-redirect-from", "~(?<!x)y", "proxy-redirect-to", "/"},
		{filters.ProxyRedirect(), "proxy-redirect-from", "http://$nowhere/", "proxy-redirect-to", "/"},
		{filters.ProxyRedirect(), "proxy-redirect-to", "/$2", "proxy-redirect-from", "~(a)"},
		{filters.ProxyRedirect(), "proxy-redirect-to", "/$1", "proxy-redirect-from", "/a"},
		{filters.ProxyRedirect(), "proxy-redirect-to", "/${1", "proxy-redirect-from", "~(a)"},
		{filters.ProxyRedirect(), "proxy-redirect-to", strings.Repeat("x", 1001), "proxy-redirect-from", "/a"},
		{filters.ProxyCookie(), "proxy-cookie-path", "~(?=x) /", "proxy-cookie-domain", "a b"},
		{filters.ProxyCookie(), "proxy-cookie-path", "/a /$1", "proxy-cookie-domain", "a b"},
		{filters.ProxyCookie(), "proxy-cookie-domain", "a b c", "proxy-cookie-path", "off"},
	} {
		_, err := tc.family.ParseValues(policy.Values{tc.key: tc.value, tc.other: tc.text}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), tc.key+": ") {
			t.Errorf("%s %q: error %v, want one that begins with the key", tc.key, tc.value, err)
		}
	}
}

func TestReplacementAllocations(t *testing.T) {
	families := []filters.Policy{filters.ProxyRedirect(), filters.ProxyCookie()}
	r := route(t, "/", policy.Values{
		"proxy-redirect-from": "http://app/", "proxy-redirect-to": "https://$host/", "proxy-cookie-domain": "app a.example", "proxy-cookie-path": "/x/ /",
	}, families...)
	chain := filters.Compile(families, r, nil)
	x := request("a.example", "/")
	x.Request.Hostname = []byte("a.example")
	if got := testing.AllocsPerRun(100, func() {
		f := &x.Response.Fields
		f.Reset(nil)
		f.SetString(exchange.Location, "http://app/x")
		f.AddString("Set-Cookie", "a=b; domain=app; path=/x/y")
		f.AddString("Set-Cookie", "c=d; path=/y")
		chain.FilterResponse(x)
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
	if got, want := lines(&x.Response.Fields), "Location: https://a.example/x\nSet-Cookie: a=b; domain=a.example; path=/y\nSet-Cookie: c=d; path=/y\n"; got != want {
		t.Errorf("fields\n%swant\n%s", got, want)
	}
}

// However the rules and the Pod's answer are written: no panic, and nothing that ends a field.
func FuzzReplacements(f *testing.F) {
	f.Add("http://app/", "/", "app a.example", "http://app/x", "a=b; domain=app")
	f.Add("~^(.*)x(?<n>.)", "$1${n}$host", "~(a)* $1", "0; url=yx", ";;=;domain=a;path")
	f.Add("~*A", "$uri", "/a/ /", "", "")
	f.Fuzz(func(t *testing.T, from, to, rule, location, cookie string) {
		families := []filters.Policy{filters.ProxyRedirect(), filters.ProxyCookie()}
		values := policy.Values{"proxy-redirect-from": from, "proxy-redirect-to": to, "proxy-cookie-domain": rule, "proxy-cookie-path": rule}
		for key, value := range values {
			for _, p := range families {
				own := policy.Values{key: value}
				if key == "proxy-redirect-to" {
					own["proxy-redirect-from"] = from
				}
				for _, k := range p.FamilyKeys() {
					if k.Name != key {
						continue
					}
					if _, err := p.ParseValues(own, nil); err != nil {
						delete(values, key)
					}
				}
			}
		}
		if strings.ContainsAny(location+cookie, "\r\n") {
			t.Skip("the codec refuses it")
		}
		x := request("a.example", "/%0d%0a")
		defer x.Release()
		x.Request.Path = []byte("/%0D%0A")
		x.Response.Fields.AddString("Location", location)
		x.Response.Fields.AddString("Refresh", location)
		x.Response.Fields.AddString("Set-Cookie", cookie)
		filters.Compile(families, route(t, "/", values, families...), nil).FilterResponse(x)
		if text := lines(&x.Response.Fields); strings.Count(text, "\n") != 3 || strings.Contains(text, "\r") {
			t.Fatalf("the fields are now %q", text)
		}
	})
}
