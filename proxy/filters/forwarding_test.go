package filters

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// forwarding returns what a family makes of values.
func forwarding(t *testing.T, p Policy, v policy.Values) (Forwarding, string) {
	t.Helper()
	parsed, err := p.ParseValues(v, nil)
	if err != nil {
		t.Fatalf("%v: %v", v, err)
	}
	c := Chain{Route: &router.Route{}}
	p.Compile(&c, parsed)
	return c.Forwarding, policy.Value{Family: p.FamilyName(), Parsed: parsed}.String()
}

func TestForwardingOfValues(t *testing.T) {
	for _, row := range []struct {
		p    Policy
		v    policy.Values
		want Forwarding
		text string
	}{
		{RequestBody(), policy.Values{"proxy-body-size": "0"}, Forwarding{MaxBody: -1, BodyMemory: 8192}, "request-body of any size"},
		{RequestBody(), policy.Values{"proxy-body-size": "8M"}, Forwarding{MaxBody: 8 << 20, BodyMemory: 8192}, "request-body up to 8388608 bytes"},
		{
			RequestBody(), policy.Values{"proxy-request-buffering": "on", "client-body-buffer-size": "1k"}, Forwarding{ReadFirst: true, BodyMemory: 1024},
			"request-body of the usual size, read first, 1024 bytes in memory",
		},
		{Timeouts(), policy.Values{"proxy-read-timeout": "90"}, Forwarding{Read: 90 * time.Second}, "timeouts read 1m30s"},
		{
			Timeouts(), policy.Values{"proxy-connect-timeout": "250ms", "proxy-send-timeout": "1"},
			Forwarding{Connect: 250 * time.Millisecond, Send: time.Second}, "timeouts connect 250ms, send 1s",
		},
		{Buffering(), policy.Values{"proxy-buffer-size": "4k"}, Forwarding{MaxHead: 4096}, "response-buffering off, heads up to 4096 bytes"},
		{Buffering(), policy.Values{"proxy-buffering": "on"}, Forwarding{}, "response-buffering off"},
		{HTTPVersion(), policy.Values{"proxy-http-version": "1.1"}, Forwarding{}, "proxy-http-version 1.1"},
		{LoadBalance(), policy.Values{"load-balance": "ewma"}, Forwarding{Balance: Balance{Algorithm: EWMA}}, "load-balance ewma"},
		{LoadBalance(), policy.Values{"upstream-hash-by-subset": "true"}, Forwarding{Balance: Balance{Subset: 3}}, "load-balance as usual"},
	} {
		got, text := forwarding(t, row.p, row.v)
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", row.want) || text != row.text {
			t.Errorf("%v: %+v, %q; want %+v, %q", row.v, got, text, row.want, row.text)
		}
	}
}

func TestNextUpstreamWords(t *testing.T) {
	for _, row := range []struct {
		v      policy.Values
		text   string
		get    []Causes // for which a GET that was sent is tried again
		post   []Causes
		unsent []Causes
	}{
		{policy.Values{"proxy-next-upstream-tries": "0"}, "error timeout, 0 tries", []Causes{OnError, OnTimeout}, nil, []Causes{OnError, OnTimeout}},
		{policy.Values{"proxy-next-upstream": "off", "retry-non-idempotent": "true"}, "off, 3 tries", nil, nil, nil},
		{
			policy.Values{"proxy-next-upstream": "http_503  non_idempotent", "proxy-next-upstream-timeout": "2"}, "http_503 non_idempotent, 3 tries in 2s",
			[]Causes{OnStatus(503)}, []Causes{OnStatus(503)}, []Causes{OnStatus(503)},
		},
		{policy.Values{"proxy-next-upstream": "invalid_header http_404"}, "invalid_header http_404, 3 tries", []Causes{OnInvalidHead, OnStatus(404)}, nil, []Causes{OnInvalidHead, OnStatus(404)}},
	} {
		f, text := forwarding(t, NextUpstream(), row.v)
		if text != "next-upstream "+row.text {
			t.Errorf("%v: %q", row.v, text)
		}
		for _, c := range []Causes{OnError, OnTimeout, OnInvalidHead, OnStatus(500), OnStatus(502), OnStatus(503), OnStatus(504), OnStatus(403), OnStatus(404), OnStatus(429)} {
			if c == 0 {
				t.Fatal("a status has no cause")
			}
			for method, want := range map[string][]Causes{"GET": row.get, "PUT": row.get, "PROPFIND": row.get, "POST": row.post, "PATCH": row.post, "LOCK": row.post} {
				if f.Again.Sent(c, []byte(method)) != slices.Contains(want, c) {
					t.Errorf("%v: %s for cause %d", row.v, method, c)
				}
			}
			if f.Again.Unsent(c) != slices.Contains(row.unsent, c) {
				t.Errorf("%v: unsent for cause %d", row.v, c)
			}
		}
	}
	if OnStatus(200) != 0 || OnStatus(501) != 0 {
		t.Error("200 or 501 is a cause")
	}
}

// What the cookie says is told apart from what others have written there.
func TestStickyCookies(t *testing.T) {
	parsed, err := CookieAffinity().ParseValues(policy.Values{"affinity": "cookie"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &router.Route{ID: router.RouteID{Path: "/a;b"}}
	s := parsed.(*Affinity).Of(r, &router.Backend{Service: router.ServicePort{Namespace: "n", Name: "s", Port: "p"}})
	for cookie, want := range map[string]string{
		"": "", "INGRESSCOOKIE": "", "INGRESSCOOKIE=": "", "INGRESSCOOKIE=|" + s.backend: "", "INGRESSCOOKIE=k": "k", "INGRESSCOOKIE=k|": "k", "INGRESSCOOKIE=k|x": "k",
		"INGRESSCOOKIE=k|" + s.backend: "k!", "INGRESSCOOKIE=\"k|" + s.backend + "\"": "k!", "ingresscookie=k": "", "xINGRESSCOOKIE=k": "",
		"INGRESSCOOKIE=k|" + s.backend + "|": "k", "a=b; INGRESSCOOKIE=k|" + s.backend + "; INGRESSCOOKIE=other": "k!",
	} {
		x := exchange.New()
		x.Request.Fields.AddString("Cookie", cookie)
		key, ok := s.Key(x)
		got := string(key)
		if s.Holds(x) {
			got += "!"
		}
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", cookie, got, ok, want)
		}
		x.Release()
	}
	x := exchange.New()
	defer x.Release()
	s.Set(x, "key")
	if got := string(x.Response.Fields.Get(exchange.SetCookie)); got != "INGRESSCOOKIE=key|"+digest(digest("n-s-p")+"n-s-p")+"; Path=/; HttpOnly" {
		t.Errorf("the cookie is %q", got)
	}
	var none *Affinity
	if none.Of(r, new(router.Backend)) != nil {
		t.Error("no affinity keeps clients")
	}
}
