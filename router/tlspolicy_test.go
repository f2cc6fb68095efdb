package router

import (
	"crypto/x509"
	"fmt"
	"testing"
)

func testAuthority(raw ...string) *Authority {
	var certificates []*x509.Certificate
	for _, r := range raw {
		certificates = append(certificates, &x509.Certificate{Raw: []byte(r)})
	}
	return NewAuthority("default", "ca", certificates, nil)
}

// TestTLSPolicyIdentity: what a handshake asks for is the identity, whoever asks; what only the chain looks at is not.
func TestTLSPolicyIdentity(t *testing.T) {
	asked := ClientAuth{Verify: VerifyOn, Secret: "ca", Depth: 1}
	base := NewTLSPolicy(asked, "default/a", testAuthority("one", "two"))
	change := func(f func(*ClientAuth)) ClientAuth {
		a := asked
		f(&a)
		return a
	}
	list := NewAuthority("default", "ca", base.Authority.Certificates, []*x509.RevocationList{{Raw: []byte("list")}})
	for _, c := range []struct {
		story string
		other *TLSPolicy
		same  bool
	}{
		{"another owner", NewTLSPolicy(asked, "default/b", testAuthority("one", "two")), true},
		{"another name of the Secret", NewTLSPolicy(change(func(a *ClientAuth) { a.Secret = "default/ca" }), "default/a", testAuthority("one", "two")), true},
		{"another CN", NewTLSPolicy(change(func(a *ClientAuth) { a.MatchCN = "CN=a" }), "default/a", testAuthority("one", "two")), true},
		{"another page", NewTLSPolicy(change(func(a *ClientAuth) { a.ErrorPage = "https://a" }), "default/a", testAuthority("one", "two")), true},
		{"handed on", NewTLSPolicy(change(func(a *ClientAuth) { a.PassCertificate = true }), "default/a", testAuthority("one", "two")), true},
		{"optional", NewTLSPolicy(change(func(a *ClientAuth) { a.Verify = VerifyOptional }), "default/a", testAuthority("one", "two")), false},
		{"deeper", NewTLSPolicy(change(func(a *ClientAuth) { a.Depth = 2 }), "default/a", testAuthority("one", "two")), false},
		{"another certificate", NewTLSPolicy(asked, "default/a", testAuthority("one", "three")), false},
		{"cut elsewhere", NewTLSPolicy(asked, "default/a", testAuthority("onet", "wo")), false},
		{"one certificate", NewTLSPolicy(asked, "default/a", testAuthority("onetwo")), false},
		{"a revocation list", NewTLSPolicy(asked, "default/a", list), false},
		{"none", nil, false},
	} {
		if got := base.Same(c.other); got != c.same || c.other.Same(base) != got || c.other != nil && (base.ID() == c.other.ID()) != got {
			t.Errorf("%s: same is %v", c.story, got)
		}
	}
	if none := (*TLSPolicy)(nil); !none.Same(nil) {
		t.Error("no policy is not the same as none")
	}
	if a, b := testAuthority("one"), testAuthority("one"); !a.Equal(b) || a.Equal(testAuthority("two")) || a.Equal(nil) || !(*Authority)(nil).Equal(nil) {
		t.Error("Authority.Equal")
	}
	if base.Attachment() != nil {
		t.Error("an attachment that nobody made")
	}
	if base.Attach("made"); base.Attachment() != "made" {
		t.Errorf("attachment %v", base.Attachment())
	}
}

func TestAdmits(t *testing.T) {
	for _, c := range []struct {
		verify Verify
		admits [4]bool // NoCertificate, Verified, Untrusted, Failed
	}{
		{VerifyOff, [4]bool{true, true, true, true}},
		{VerifyOn, [4]bool{false, true, false, false}},
		{VerifyOptional, [4]bool{true, true, false, false}},
		{VerifyOptionalNoCA, [4]bool{true, true, true, false}},
	} {
		for outcome, want := range c.admits {
			if got := c.verify.Admits(Outcome(outcome)); got != want {
				t.Errorf("%s admits outcome %d: %v, want %v", c.verify, outcome, got, want)
			}
		}
	}
}

func TestVerdictString(t *testing.T) {
	for want, v := range map[string]Verdict{
		"NONE":                           {},
		"SUCCESS":                        {Outcome: Verified},
		"FAILED:certificate has expired": {Failed, "certificate has expired"},
		"FAILED:self-signed certificate": {Untrusted, "self-signed certificate"},
	} {
		if got := v.String(); got != want {
			t.Errorf("%+v is %q, want %q", v, got, want)
		}
	}
}

// TestTableTLSPolicy: server names and requests find the policy of the host that Lookup would choose.
func TestTableTLSPolicy(t *testing.T) {
	policies := map[string]*TLSPolicy{}
	var routes []*Route
	add := func(host string, isDefault, protected bool) {
		r := testRoute(host, "/")
		r.IsDefault = isDefault
		if protected {
			key := host
			if isDefault {
				key = "default"
			}
			policies[key] = NewTLSPolicy(ClientAuth{Verify: VerifyOn}, host, testAuthority(key))
			r.TLS = policies[key]
		}
		routes = append(routes, r)
	}
	add("a.example", false, true)
	add("open.example", false, false)
	add("*.example", false, true)
	add("*.open.example", false, false)
	add("", true, true)
	check := func(table *Table, want map[string]string) {
		t.Helper()
		for host, key := range want {
			if got := table.TLSPolicy(host); got != policies[key] {
				t.Errorf("policy of %q is %v, want that of %q", host, got, key)
			}
		}
	}
	check(NewTable(routes, nil), map[string]string{
		"a.example": "a.example", "open.example": "", "b.example": "*.example", "x.open.example": "", "x.a.example": "default",
		"other": "default", "": "default", ".example": "default", "192.0.2.1": "default",
	})
	add("", false, false)
	check(NewTable(routes, nil), map[string]string{"a.example": "a.example", "other": "", "": ""})
	if (new(Table)).TLSPolicy("a") != nil {
		t.Error("an empty Table has a policy")
	}
	table := NewTable(routes, nil)
	if n := testing.AllocsPerRun(100, func() { table.TLSPolicy("b.example") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if h, _ := table.Host("a.example"); h.TLS() != policies["a.example"] {
		t.Error("the Host has another policy")
	}
}

func TestClientAuthString(t *testing.T) {
	all := ClientAuth{Verify: VerifyOptionalNoCA, Secret: "ns/ca", Depth: 3, MatchCN: "CN=a", ErrorPage: "https://e", PassCertificate: true}
	for want, a := range map[string]ClientAuth{
		"off": {Secret: "ns/ca"},
		`optional_no_ca, by ns/ca, depth 3, only "CN=a", others to https://e, handed on`: all,
		"on, by ca, depth 0":       {Verify: VerifyOn, Secret: "ca"},
		"optional, by ca, depth 1": {Verify: VerifyOptional, Secret: "ca", Depth: 1},
	} {
		if got := fmt.Sprint(a); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
