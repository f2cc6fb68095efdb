package filters_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

// hstsOf runs the response filters of a route with the given annotation and returns the field, "" where there is none.
func hstsOf(t *testing.T, value string, x *exchange.Exchange) string {
	t.Helper()
	family := filters.HSTS()
	r := route(t, "/", policy.Values{"hsts": value}, family)
	chain := filters.Compile([]filters.Policy{family}, r, nil)
	chain.FilterResponse(x)
	if n := x.Response.Fields.Count(exchange.StrictTransportSecurity); n > 1 {
		t.Errorf("%d fields, want at most one (RFC 6797 section 7.1)", n)
	}
	return string(x.Response.Fields.Get(exchange.StrictTransportSecurity))
}

func overTLS() *exchange.Exchange {
	x := request("a.example", "/")
	x.Client.TLS, x.Client.Proto = true, "https"
	return x
}

func TestHSTSValue(t *testing.T) {
	for value, want := range map[string]string{
		"max-age=31536000": "max-age=31536000",
		"max-age=31536000; includeSubDomains; preload":       "max-age=31536000; includeSubDomains; preload",
		" PRELOAD ;; Max-Age = \"0\" ; includesubdomains ; ": "max-age=0; includeSubDomains; preload",
		"off": "",
		"OFF": "",
	} {
		if got := hstsOf(t, value, overTLS()); got != want {
			t.Errorf("hsts %q: field %q, want %q", value, got, want)
		}
	}
}

func TestHSTSOnlyOverHTTPS(t *testing.T) {
	const value = "max-age=60"
	if got := hstsOf(t, value, request("a.example", "/")); got != "" {
		t.Errorf("in clear: field %q, want none (RFC 6797 section 7.2)", got)
	}
	behind := request("a.example", "/")
	behind.Client.Proto = "https"
	if got := hstsOf(t, value, behind); got != value {
		t.Errorf("behind a trusted proxy that terminates TLS: field %q, want %q", got, value)
	}
}

func TestHSTSReplacesThePodsAndIsOnLocalAnswers(t *testing.T) {
	x := overTLS()
	x.Response.Fields.AddString("strict-transport-security", "max-age=1")
	x.Response.Fields.AddString("Strict-Transport-Security", "max-age=2")
	if got := hstsOf(t, "max-age=60", x); got != "max-age=60" {
		t.Errorf("field %q, want the proxy's", got)
	}
	x = overTLS()
	x.Answer(503, exchange.NoEndpoint, "503\n")
	if got := hstsOf(t, "max-age=60", x); got != "max-age=60" {
		t.Errorf("on a 503 of the proxy: field %q", got)
	}
}

func TestHSTSIsOffByDefault(t *testing.T) {
	family := filters.HSTS()
	r := route(t, "/", nil, family)
	r.HasCertificate = true
	if chain := filters.Compile([]filters.Policy{family}, r, nil); len(chain.Request)+len(chain.Response) != 0 {
		t.Errorf("chain without annotation = %+v, want empty", chain)
	}
}

func TestHSTSText(t *testing.T) {
	family := filters.HSTS()
	for value, text := range map[string]string{"off": "hsts off", "max-age=1;preload": "hsts max-age=1; preload"} {
		if got := route(t, "/", policy.Values{"hsts": value}, family).Policies[0].String(); got != text {
			t.Errorf("%q is %q in a table, want %q", value, got, text)
		}
	}
}

func TestHSTSRefuses(t *testing.T) {
	family := filters.HSTS()
	if family.InvalidEffect() != policy.Ignore {
		t.Errorf("effect = %v, want Ignore", family.InvalidEffect())
	}
	for _, value := range []string{
		"", ";", "yes", "31536000", "max-age", "max-age=", "max-age=-1", "max-age=1d", "max-age=+1", "max-age=99999999999999999999",
		"includeSubDomains", "max-age=1; max-age=1", "max-age=1; preload; preload", "max-age=1; includeSubDomain",
		"max-age=1; preload=1", "max-age=1, preload", "max-age=1\r\nX: y", "off; max-age=1",
	} {
		_, err := family.ParseValues(policy.Values{"hsts": value}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "hsts: ") || strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("hsts %q: error %v, want one line that names the key", value, err)
		}
	}
}

func TestHSTSAllocatesNothing(t *testing.T) {
	family := filters.HSTS()
	chain := filters.Compile([]filters.Policy{family}, route(t, "/", policy.Values{"hsts": "max-age=60"}, family), nil)
	for name, x := range map[string]*exchange.Exchange{"in clear": request("a.example", "/"), "over TLS": overTLS()} {
		if got := testing.AllocsPerRun(100, func() {
			x.Response.Fields.Reset(nil)
			chain.FilterResponse(x)
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
}

func FuzzParseHSTS(f *testing.F) {
	for _, seed := range []string{"max-age=1; includeSubDomains; preload", "max-age=\"1\"", "off", "max-age=1\r\n"} {
		f.Add(seed)
	}
	family := filters.HSTS()
	f.Fuzz(func(t *testing.T, value string) {
		parsed, err := family.ParseValues(policy.Values{"hsts": value}, nil)
		if err != nil {
			return
		}
		var chain filters.Chain
		family.Compile(&chain, parsed)
		if len(chain.Response) == 0 {
			return
		}
		x := overTLS()
		defer x.Release()
		chain.FilterResponse(x)
		field := string(x.Response.Fields.Get(exchange.StrictTransportSecurity))
		again, err := family.ParseValues(policy.Values{"hsts": field}, nil)
		if err != nil || again != parsed {
			t.Fatalf("%q became %q, which parses to %q, %v", value, field, again, err)
		}
		if strings.Trim(field, "abcdefghijklmnopqrstuvwxyzSD0123456789-=; ") != "" {
			t.Fatalf("%q became %q", value, field)
		}
	})
}

// ingress-nginx's switch and what its other keys say.
func TestHSTSOfTheConfigMap(t *testing.T) {
	for _, tc := range []struct {
		values policy.Values
		want   string
	}{
		{policy.Values{"hsts": "true"}, "max-age=31536000; includeSubDomains"},
		{policy.Values{"hsts": "T", "hsts-preload": "true", "hsts-max-age": "0"}, "max-age=0; includeSubDomains; preload"},
		{policy.Values{"hsts": "1", "hsts-include-subdomains": "false", "hsts-max-age": "63072000"}, "max-age=63072000"},
		{policy.Values{"hsts": "false", "hsts-preload": "true"}, ""},
		{policy.Values{"hsts-preload": "true"}, ""},
		{policy.Values{"hsts": "max-age=5", "hsts-preload": "true"}, "max-age=5"},
	} {
		family := filters.HSTS()
		x := overTLS()
		filters.Compile([]filters.Policy{family}, route(t, "/", tc.values, family), nil).FilterResponse(x)
		if got := string(x.Response.Fields.Get(exchange.StrictTransportSecurity)); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.values, got, tc.want)
		}
	}
}

// ingress-nginx has it on everywhere.
func TestHSTSIsOnWhereCompatible(t *testing.T) {
	for _, key := range filters.HSTS().FamilyKeys() {
		if want := map[string]string{"hsts": "true"}[key.Name]; key.Compat != want {
			t.Errorf("%s: compat value %q, want %q", key.Name, key.Compat, want)
		}
	}
}
