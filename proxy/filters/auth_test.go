package filters_test

import (
	"encoding/base64"
	"maps"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// secretOf is a Source with one Secret.
type secretOf map[string][]byte

func (s secretOf) Secret(string) (map[string][]byte, error)  { return s, nil }
func (secretOf) ConfigMap(string) (map[string]string, error) { return nil, nil }
func (secretOf) Compat() bool                                { return false }

// withUsers returns a Route that asks for the password of a user of file.
func withUsers(t testing.TB, file string, more policy.Values) *router.Route {
	t.Helper()
	v := policy.Values{"auth-type": "basic", "auth-secret": "users"}
	maps.Copy(v, more)
	parsed, err := filters.Auth().ParseValues(v, secretOf{"auth": []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	r := route(t, "/", nil)
	r.Policies = append(r.Policies, policy.Value{Family: "auth", Parsed: parsed})
	return r
}

func basic(credentials string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

// TestUserIsKnownToTheLogAndNotToThePod: what $remote_user says, whoever lets the request in, and that no credentials stay.
func TestUserIsKnownToTheLogAndNotToThePod(t *testing.T) {
	t.Parallel()
	user, err := expr.ParseLog("$remote_user")
	if err != nil {
		t.Fatal(err)
	}
	r := withUsers(t, "alice:{PLAIN}secret", nil)
	chain := filters.Compile([]filters.Policy{filters.Auth(), filters.Satisfy()}, r, nil)
	for field, want := range map[string]struct {
		verdict exchange.Verdict
		user    string
	}{
		basic("alice:secret"):  {exchange.Continue, "alice"},
		basic("alice:guess"):   {exchange.Answered, "alice"},
		basic("mallory:guess"): {exchange.Answered, "mallory"},
		"Bearer x":             {exchange.Answered, "-"},
		"":                     {exchange.Answered, "-"},
	} {
		x := request("a.example", "/")
		if field != "" {
			x.Request.Fields.SetString(exchange.Authorization, field)
		}
		verdict := chain.FilterRequest(x)
		if got := string(user.AppendEscaped(nil, x, expr.EscapeLog)); verdict != want.verdict || got != want.user {
			t.Errorf("%q: %v, user %q; want %v, %q", field, verdict, got, want.verdict, want.user)
		}
		if verdict == exchange.Continue && x.Request.Fields.Has(exchange.Authorization) {
			t.Errorf("%q: the Pod gets %q", field, x.Request.Fields.Get(exchange.Authorization))
		}
		if left := x.Scratch[:cap(x.Scratch)]; strings.Contains(string(left), "secret") || strings.Contains(string(left), "guess") {
			t.Errorf("%q: a password stays in memory: %q", field, left)
		}
		x.Release()
	}
}

// TestGuardOfUsers: two Routes whose text is equal are protected alike only where their users are the same.
func TestGuardOfUsers(t *testing.T) {
	t.Parallel()
	policies := []filters.Policy{filters.Auth()}
	one, same, other := withUsers(t, "a:{PLAIN}x", nil), withUsers(t, "a:{PLAIN}x", nil), withUsers(t, "a:{PLAIN}y", nil)
	if a, b := one.Policies[0].String(), other.Policies[0].String(); a != b || strings.Contains(a, "PLAIN") {
		t.Errorf("%q, %q", a, b)
	}
	if filters.Guard(policies, one) != filters.Guard(policies, same) {
		t.Error("the same users make another guard")
	}
	if filters.Guard(policies, one) == filters.Guard(policies, other) {
		t.Error("other users make the same guard")
	}
}

func TestKnownUsersAllocateNothing(t *testing.T) {
	r := withUsers(t, "alice:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/", nil)
	rt := filters.NewRuntime(0)
	chain := filters.Compile([]filters.Policy{filters.Auth()}, r, &rt)
	x := request("a.example", "/")
	field := basic("alice:secret")
	if n := testing.AllocsPerRun(100, func() {
		x.Request.Fields.Reset(nil)
		x.Request.Fields.SetString(exchange.Authorization, field)
		if chain.FilterRequest(x) != exchange.Continue {
			t.Fatal("refused")
		}
	}); n != 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkKnownUser(b *testing.B) {
	r := withUsers(b, "alice:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/", nil)
	rt := filters.NewRuntime(0)
	chain := filters.Compile([]filters.Policy{filters.Auth()}, r, &rt)
	x := request("a.example", "/")
	field := basic("alice:secret")
	b.ReportAllocs()
	for b.Loop() {
		x.Request.Fields.Reset(nil)
		x.Request.Fields.SetString(exchange.Authorization, field)
		if chain.FilterRequest(x) != exchange.Continue {
			b.Fatal("refused")
		}
	}
}
