package filters_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

func TestLogRules(t *testing.T) {
	family := filters.AccessLog()
	for _, tc := range []struct {
		values  policy.Values
		text    string
		omitted string // targets, of those below
	}{
		{policy.Values{"disable-access-log": "false"}, "with everything", ""},
		{policy.Values{"disable-access-log": "true"}, "without everything", "/ /Health /health?x /static/a TLS 404 default bad"},
		{policy.Values{"disable-http-access-log": "true"}, "without HTTP", "/ /Health /health?x /static/a 404 default bad"},
		{policy.Values{"enable-access-log-for-default-backend": "false"}, "without the default backend", "404 default"},
		{policy.Values{"skip-access-log-urls": "/health,/never"}, "without /health /never", "/Health"},
		{policy.Values{"skip-access-log-urls": "~^/health, ~TIC"}, "without ~^/health ~TIC", "/health?x"},
		{policy.Values{"skip-access-log-urls": "~*^/health, ~*TIC/"}, "without ~*^/health ~*TIC/", "/Health /health?x /static/a"},
		{policy.Values{"skip-access-log-urls": "/", "disable-http-access-log": "false"}, "without /", "/"},
	} {
		parsed, err := family.ParseValues(tc.values, nil)
		if err != nil {
			t.Fatal(err)
		}
		value := policy.Value{Family: family.FamilyName(), Parsed: parsed}
		if got := value.String(); got != "access-log-rules "+tc.text {
			t.Errorf("%v is %q in a table, want %q", tc.values, got, tc.text)
		}
		rules := filters.Govern([]filters.Policy{family}, []policy.Value{value}).Log
		var omitted []string
		for _, target := range []string{"/", "/Health", "/health?x", "/static/a", "TLS", "404", "default", "bad"} {
			x := request("a.example", target)
			x.Route = &router.Route{ID: router.RouteID{Ingress: "web"}}
			switch target {
			case "TLS":
				x.Request.Version, x.Request.Target = exchange.TLS, nil
			case "404":
				x.Route, x.Response.Why = nil, exchange.NoRoute
			case "default":
				x.Route = &router.Route{IsDefault: true}
			case "bad":
				x.Route, x.Response.Why = nil, exchange.BadRequest
			}
			if rules.Omit(x) {
				omitted = append(omitted, target)
			}
		}
		if got := strings.Join(omitted, " "); got != tc.omitted {
			t.Errorf("%v leaves out %q, want %q", tc.values, got, tc.omitted)
		}
	}
	if _, err := family.ParseValues(policy.Values{"skip-access-log-urls": strings.Repeat("/x,", 101)}, nil); err == nil {
		t.Error("101 URLs are taken")
	}
}

func TestLogRulesAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool, which package regexp has, drop objects at random")
	}
	family := filters.AccessLog()
	parsed, err := family.ParseValues(policy.Values{"skip-access-log-urls": "/health, ~^/static/, ~*png$"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rules := filters.Govern([]filters.Policy{family}, []policy.Value{{Family: family.FamilyName(), Parsed: parsed}}).Log
	x := request("a.example", "/some/path?with=query")
	if got := testing.AllocsPerRun(100, func() { rules.Omit(x) }); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func TestEnableAccessLog(t *testing.T) {
	family := filters.EnableAccessLog()
	for value, unlogged := range map[string]bool{"": false, "true": false, "false": true} {
		values := policy.Values{}
		if value != "" {
			values["enable-access-log"] = value
		}
		if got := filters.Compile([]filters.Policy{family}, route(t, "/", values, family), nil).Unlogged; got != unlogged {
			t.Errorf("%q: unlogged %v, want %v", value, got, unlogged)
		}
	}
}
