package filters_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// objects is a policy.Source with one ConfigMap, which every key names; nil is none.
type objects map[string]string

func (o objects) Secret(key string) (map[string][]byte, error) {
	return nil, errors.New(key + ": there is no Secret")
}

func (o objects) ConfigMap(key string) (map[string]string, error) {
	if o == nil {
		return nil, errors.New(key + ": there is no ConfigMap")
	}
	return o, nil
}

func (o objects) Compat() bool { return false }

// resolved returns the chain of a route whose family has values and may look at o.
func resolved(t testing.TB, p filters.Policy, values policy.Values, o objects) *filters.Chain {
	t.Helper()
	parsed, err := p.ParseValues(values, o)
	if err != nil {
		t.Fatal(err)
	}
	r := &router.Route{
		ID:       router.RouteID{Namespace: "shop", Ingress: "web", Host: "a.example", Path: "/"},
		Policies: []policy.Value{{Family: p.FamilyName(), Parsed: parsed}},
		Backends: []router.Backend{{Service: router.ServicePort{Namespace: "shop", Name: "cart", Port: "http"}}},
	}
	return filters.Compile([]filters.Policy{p}, r, nil)
}

// lines returns the fields of f as they would be written.
func lines(f *exchange.Fields) string {
	return strings.ReplaceAll(string(f.AppendTo(nil)), "\r\n", "\n")
}

func TestCustomHeaders(t *testing.T) {
	chain := resolved(t, filters.CustomHeaders(), policy.Values{
		"custom-headers": "shop/own", "global-allowed-response-headers": "x-frame-options, X_Own, Server,Unused",
	}, objects{"X-Frame-Options": "DENY", "X_Own": " $host is text ", "Server": "none"})
	for _, local := range []bool{false, true} {
		x := request("a.example", "/")
		x.Response.Local = local
		x.Response.Fields.AddString("x-frame-options", "SAMEORIGIN")
		x.Response.Fields.AddString("X-Frame-Options", "ALLOW")
		x.Response.Fields.AddString("x_own", "the Pod's")
		x.Response.Fields.AddString("X-Other", "1")
		chain.FilterResponse(x)
		if got, want := lines(&x.Response.Fields), "X-Other: 1\nServer: none\nX-Frame-Options: DENY\nX_Own: $host is text\n"; got != want {
			t.Errorf("local %v: fields\n%swant\n%s", local, got, want)
		}
	}
}

func TestCustomHeadersDeny(t *testing.T) {
	family := filters.CustomHeaders()
	if family.InvalidEffect() != policy.Deny {
		t.Errorf("effect %v, want Deny", family.InvalidEffect())
	}
	for name, tc := range map[string]struct {
		allowed string
		data    objects
		says    string
	}{
		"not allowed":    {"X-A", objects{"X-A": "1", "X-B": "2"}, `"X-B"`},
		"nothing is":     {"", objects{"X-A": "1"}, "global-allowed-response-headers"},
		"missing":        {"X-A", nil, "there is no ConfigMap"},
		"empty value":    {"X-A", objects{"X-A": " "}, "no value"},
		"line end":       {"X-A", objects{"X-A": "1\r\nX-B: 2"}, "one line"},
		"not ASCII":      {"X-A", objects{"X-A": "é"}, "ASCII"},
		"framing":        {"Content-Length", objects{"Content-Length": "1"}, "how messages are sent"},
		"hop":            {"Connection", objects{"connection": "x"}, "how messages are sent"},
		"name":           {"X-A", objects{"X.A": "1"}, "letters, digits"},
		"allowed broken": {"X A", objects{"X-A": "1"}, "global-allowed-response-headers"},
	} {
		_, err := family.ParseValues(policy.Values{"custom-headers": "own", "global-allowed-response-headers": tc.allowed}, tc.data)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: error %v, want one about %s", name, err, tc.says)
		}
	}
	if _, err := family.ParseValues(policy.Values{"global-allowed-response-headers": "X-A"}, objects(nil)); err != nil {
		t.Errorf("the operator's list alone: %v", err)
	}
}

func TestAddHeaders(t *testing.T) {
	chain := resolved(t, filters.AddHeaders(), policy.Values{"add-headers": "ns/add"}, objects{
		"X-Content-Type-Options": "nosniff", "X-Method": "was $request_method", "X-Gone": "", "X-Nothing": "$http_absent",
	})
	x := request("a.example", "/")
	x.Response.Fields.AddString("X-Gone", "1")
	x.Response.Fields.AddString("X-Nothing", "1")
	x.Response.Fields.AddString("x-method", "1")
	x.Scratch = append(x.Scratch, "of a codec"...)
	chain.FilterResponse(x)
	if got, want := lines(&x.Response.Fields), "X-Content-Type-Options: nosniff\nX-Method: was GET\n"; got != want {
		t.Errorf("fields\n%swant\n%s", got, want)
	}
	if string(x.Scratch) != "of a codec" {
		t.Errorf("scratch is now %q", x.Scratch)
	}
	if c := resolved(t, filters.AddHeaders(), policy.Values{"add-headers": ""}, nil); len(c.Response) != 0 {
		t.Error("an empty name has a filter")
	}
	if got := testing.AllocsPerRun(100, func() {
		x.Response.Fields.Reset(nil)
		chain.FilterResponse(x)
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

// The same ConfigMap may be named for both directions.
func TestFieldSetsAreRefused(t *testing.T) {
	for _, p := range []filters.Policy{filters.AddHeaders(), filters.ProxySetHeaders()} {
		key := p.FamilyName()
		for _, data := range []objects{
			{"Transfer-Encoding": "chunked"}, {"content-length": "0"}, {"Upgrade": "x"}, {"TE": "x"}, {"Trailer": "x"}, {"Keep-Alive": "x"}, {"Expect": "x"},
			{"Proxy": "x"}, {"X": "$nonsense"}, {"X": "a\nb"}, {"a b": "1"}, {"": "1"}, nil,
		} {
			if _, err := p.ParseValues(policy.Values{key: "ns/x"}, data); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
				t.Errorf("%s: %v: error %v, want one that begins with the key", key, map[string]string(data), err)
			}
		}
		many := objects{}
		for i := range 65 {
			many[fmt.Sprintf("X-%d", i)] = "1"
		}
		if _, err := p.ParseValues(policy.Values{key: "ns/x"}, many); err == nil {
			t.Errorf("%s: 65 fields are taken", key)
		}
	}
	if _, err := filters.ProxySetHeaders().ParseValues(policy.Values{"proxy-set-headers": "x"}, objects{"host": "a"}); err == nil || !strings.Contains(err.Error(), "upstream-vhost") {
		t.Errorf("Host: error %v, want one that names upstream-vhost", err)
	}
}

func TestProxySetHeaders(t *testing.T) {
	chain := resolved(t, filters.ProxySetHeaders(), policy.Values{"proxy-set-headers": "ns/set"}, objects{
		"X-Forwarded-Proto": "https", "X-Start": "t=${request_method}", "X-Secret": "", "Cookie": "$http_cookie; more=1",
	})
	x := request("a.example", "/")
	for _, f := range []string{"X-Forwarded-Proto", "x-forwarded-proto", "x-secret", "X-Kept"} {
		x.Request.Fields.AddString(f, "sent")
	}
	x.Request.Fields.AddString("cookie", "a=b")
	chain.FilterRequest(x)
	if got, want := lines(&x.Request.Fields), "X-Kept: sent\nCookie: a=b; more=1\nX-Forwarded-Proto: https\nX-Start: t=GET\n"; got != want {
		t.Errorf("fields\n%swant\n%s", got, want)
	}
}

func TestPodHeaders(t *testing.T) {
	const pods, server = "X-Powered-By: PHP\nx-a: 1\nX-B: 2\n", "server: Pod/1.2\n"
	for _, tc := range []struct {
		values    policy.Values
		pod, own  string
		anonymous bool
	}{
		{nil, pods + server, pods + server, false},
		{policy.Values{"server-tokens": "true"}, pods + server, pods + server, false},
		{policy.Values{"hide-headers": "x-powered-by, X-A"}, "X-B: 2\n" + server, pods + server, false},
		{policy.Values{"hide-headers": "Server"}, pods, pods + server, false},
		{policy.Values{"allow-backend-server-header": "false"}, pods, pods + server, false},
		{policy.Values{"server-tokens": "false"}, pods, pods + server, true},
		{policy.Values{"server-tokens": "false", "allow-backend-server-header": "true"}, pods, pods + server, true},
	} {
		family := filters.PodHeaders()
		chain := filters.Compile([]filters.Policy{family}, route(t, "/", tc.values, family), nil)
		for _, local := range []bool{false, true} {
			x := request("a.example", "/")
			x.Response.Local = local
			for _, f := range []string{"X-Powered-By: PHP", "x-a: 1", "X-B: 2", "server: Pod/1.2"} {
				name, value, _ := strings.Cut(f, ": ")
				x.Response.Fields.AddString(name, value)
			}
			chain.FilterResponse(x)
			want := tc.pod
			if local {
				want = tc.own
			}
			if got := lines(&x.Response.Fields); got != want || x.Response.Anonymous != tc.anonymous {
				t.Errorf("%v, local %v: anonymous %v, fields\n%swant\n%s", tc.values, local, x.Response.Anonymous, got, want)
			}
			x.Release()
		}
	}
	compat := map[string]string{"allow-backend-server-header": "false", "server-tokens": "false"}
	for _, key := range filters.PodHeaders().FamilyKeys() {
		if key.Compat != compat[key.Name] {
			t.Errorf("%s: compat value %q, want ingress-nginx's default %q", key.Name, key.Compat, compat[key.Name])
		}
	}
}

func TestRequestHeaders(t *testing.T) {
	family := filters.RequestHeaders()
	for _, tc := range []struct {
		values  policy.Values
		upgrade string
		made    bool
		want    string
	}{
		{nil, "", true, "X-Request-ID: id\n"},
		{policy.Values{"connection-proxy-header": "keep-alive"}, "", true, "X-Request-ID: id\nConnection: keep-alive\n"},
		{policy.Values{"connection-proxy-header": "close"}, "", true, "X-Request-ID: id\nConnection: close\n"},
		{policy.Values{"connection-proxy-header": "close"}, "websocket", true, "X-Request-ID: id\n"},
		{policy.Values{"connection-proxy-header": "upgrade"}, "", true, "X-Request-ID: id\n"},
		{policy.Values{"proxy-add-original-uri-header": "true"}, "", true, "X-Request-ID: id\nX-Original-URI: /a%2Fb?c\n"},
		{policy.Values{"generate-request-id": "false"}, "", true, ""},
		{policy.Values{"generate-request-id": "false"}, "", false, "X-Request-ID: id\n"},
	} {
		chain := filters.Compile([]filters.Policy{family}, route(t, "/", tc.values, family), nil)
		x := request("a.example", "/a%2Fb?c")
		x.Request.Upgrade = []byte(tc.upgrade)
		x.RequestID, x.RequestIDMade = []byte("id"), tc.made
		x.Request.Fields.AddString("X-Request-ID", "id")
		chain.FilterRequest(x)
		if got := lines(&x.Request.Fields); got != tc.want || (x.RequestID == nil) != (tc.want == "") {
			t.Errorf("%v: ID %q, fields\n%swant\n%s", tc.values, x.RequestID, got, tc.want)
		}
	}
}

func TestUpstreamVhost(t *testing.T) {
	family := filters.UpstreamVhost()
	for _, tc := range []struct{ value, host string }{
		{"app.internal:8080", "app.internal:8080"},
		{"[::1]", "[::1]"},
		{"$service_name.$namespace.svc", "cart.shop.svc"},
		{"$http_x_none", ""},
		{"a$request_uri", ""},
	} {
		chain := resolved(t, family, policy.Values{"upstream-vhost": tc.value}, nil)
		x := request("a.example", "/x y")
		x.Route = chain.Route
		x.Request.Fields.AddString("Host", "a.example")
		answered := chain.FilterRequest(x) == exchange.Answered
		got := string(x.Request.Fields.Get(exchange.Host))
		if tc.host == "" {
			if !answered || x.Response.Status != 400 || got != "a.example" {
				t.Errorf("%s: answered %v with %d, Host %q; want 400", tc.value, answered, x.Response.Status, got)
			}
			continue
		}
		if answered || got != tc.host || x.Request.Fields.Count(exchange.Host) != 1 || !x.Request.Vhost || string(x.Request.Authority) != "a.example" {
			t.Errorf("%s: answered %v, Host %q, Vhost %v", tc.value, answered, got, x.Request.Vhost)
		}
	}
}

func TestHeaderNames(t *testing.T) {
	family := filters.HeaderNames()
	for _, tc := range []struct {
		values policy.Values
		want   filters.Underscores
	}{
		{policy.Values{"enable-underscores-in-headers": "true"}, filters.KeepUnderscores},
		{policy.Values{"enable-underscores-in-headers": "false"}, filters.DropUnderscores},
		{policy.Values{"ignore-invalid-headers": "true"}, filters.UsualUnderscores},
		{policy.Values{"ignore-invalid-headers": "false"}, filters.KeepUnderscores},
		{policy.Values{"enable-underscores-in-headers": "true", "ignore-invalid-headers": "true"}, filters.KeepUnderscores},
	} {
		parsed, err := family.ParseValues(tc.values, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := filters.Govern([]filters.Policy{family}, []policy.Value{{Family: family.FamilyName(), Parsed: parsed}})
		if s.Underscores != tc.want {
			t.Errorf("%v: %v, want %v", tc.values, s.Underscores, tc.want)
		}
	}
}
