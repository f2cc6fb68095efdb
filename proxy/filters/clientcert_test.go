package filters_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// shown are credentials whose verdict is known beforehand.
type shown struct {
	verdict         router.Verdict
	certificate     *x509.Certificate
	subject, issuer string
	judged          *router.TLSPolicy
}

func (s *shown) Policy() *router.TLSPolicy       { return s.judged }
func (s *shown) Certificate() *x509.Certificate  { return s.certificate }
func (s *shown) Names() (subject, issuer string) { return s.subject, s.issuer }
func (s *shown) Judge(p *router.TLSPolicy, _ time.Time) router.Verdict {
	s.judged = p
	return s.verdict
}

// protect makes the annotations of values what holds for r's host, as Build does.
func protect(t testing.TB, r *router.Route, values policy.Values) {
	t.Helper()
	parsed, err := filters.ClientCertificate().ParseValues(values, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.TLS = router.NewTLSPolicy(parsed.(router.ClientAuth), "default/web", router.NewAuthority("default", "ca", nil, nil))
}

func TestParseClientAuth(t *testing.T) {
	for _, tc := range []struct {
		values policy.Values
		want   router.ClientAuth
	}{
		{policy.Values{"auth-tls-secret": "ns/ca"}, router.ClientAuth{Verify: router.VerifyOn, Secret: "ns/ca", Depth: 1}},
		{policy.Values{"auth-tls-secret": " ca ", "auth-tls-verify-client": "optional", "auth-tls-verify-depth": "0"}, router.ClientAuth{Verify: router.VerifyOptional, Secret: "ca"}},
		{policy.Values{"auth-tls-secret": "ca", "auth-tls-verify-client": "optional_no_ca", "auth-tls-pass-certificate-to-upstream": "true"},
			router.ClientAuth{Verify: router.VerifyOptionalNoCA, Secret: "ca", Depth: 1, PassCertificate: true}},
		{policy.Values{"auth-tls-secret": "ca", "auth-tls-verify-client": "off"}, router.ClientAuth{Secret: "ca", Depth: 1}},
		{policy.Values{"auth-tls-secret": "ca", "auth-tls-match-cn": "CN=(a|b)", "auth-tls-error-page": "https://e.example/x?y#z"},
			router.ClientAuth{Verify: router.VerifyOn, Secret: "ca", Depth: 1, MatchCN: "CN=(a|b)", ErrorPage: "https://e.example/x?y#z"}},
		// Charts write these whether there is a Secret or not.
		{policy.Values{"auth-tls-pass-certificate-to-upstream": "false"}, router.ClientAuth{Depth: 1}},
		{policy.Values{"auth-tls-verify-client": "off", "auth-tls-verify-depth": "3"}, router.ClientAuth{Depth: 3}},
	} {
		got, err := filters.ClientCertificate().ParseValues(tc.values, nil)
		if err != nil || got != tc.want {
			t.Errorf("%v: %+v, %v, want %+v", tc.values, got, err, tc.want)
		}
	}
	long := policy.Values{"auth-tls-secret": "ca", "auth-tls-match-cn": "CN=" + strings.Repeat("a", 1024)}
	if _, err := filters.ClientCertificate().ParseValues(long, nil); err == nil {
		t.Error("a pattern of more than 1,024 bytes is accepted")
	}
}

func TestClientCertificateDecides(t *testing.T) {
	verified, none := router.Verdict{Outcome: router.Verified}, router.Verdict{}
	untrusted, failed := router.Verdict{Outcome: router.Untrusted, Reason: "x"}, router.Verdict{Outcome: router.Failed, Reason: "y"}
	const secret, verify, name, page = "auth-tls-secret", "auth-tls-verify-client", "auth-tls-match-cn", "auth-tls-error-page"
	on := policy.Values{secret: "ca"}
	optional, noCA := policy.Values{secret: "ca", verify: "optional"}, policy.Values{secret: "ca", verify: "optional_no_ca"}
	alice := policy.Values{secret: "ca", name: "CN=alice(,|$)"}
	anyAlice := policy.Values{secret: "ca", verify: "optional", name: "CN=alice"}
	paged := policy.Values{secret: "ca", page: "https://e.example/", name: "CN=alice"}
	for _, tc := range []struct {
		story   string
		values  policy.Values
		verdict router.Verdict
		subject string
		status  int // 0: goes on
	}{
		{"on, good", on, verified, "CN=alice", 0},
		{"on, none", on, none, "", 400},
		{"on, untrusted", on, untrusted, "CN=alice", 400},
		{"on, bad", on, failed, "CN=alice", 400},
		{"optional, good", optional, verified, "CN=alice", 0},
		{"optional, none", optional, none, "", 0},
		{"optional, untrusted", optional, untrusted, "CN=alice", 400},
		{"optional, bad", optional, failed, "CN=alice", 400},
		{"optional_no_ca, good", noCA, verified, "CN=alice", 0},
		{"optional_no_ca, none", noCA, none, "", 0},
		{"optional_no_ca, untrusted", noCA, untrusted, "CN=alice", 0},
		{"optional_no_ca, bad", noCA, failed, "CN=alice", 400},
		{"the name", alice, verified, "CN=alice", 0},
		{"the name and more", alice, verified, "CN=alice,O=Acme", 0},
		{"the name behind more", alice, verified, "OU=x+CN=alice,O=Acme", 0},
		{"a longer name", alice, verified, "CN=alice2", 403},
		{"another name", alice, verified, "CN=bob,O=Acme", 403},
		{"the name in an organization", alice, verified, `CN=bob,O=x\,CN=alice`, 403},
		{"the name in a name", alice, verified, `CN=bob\+CN=alice`, 403},
		{"a backslash before a separator", alice, verified, `O=x\\,CN=alice`, 0},
		{"a part of an attribute's name", alice, verified, "xCN=alice", 403},
		{"a part will do", anyAlice, verified, "CN=alice2", 0},
		{"a name needs a certificate", anyAlice, none, "", 403},
		{"a bad one is not asked for its name", alice, failed, "CN=alice", 400},
		{"a page for those without", paged, none, "", 302},
		{"a page for bad ones", paged, failed, "CN=alice", 302},
		{"no page for other names", paged, verified, "CN=bob", 403},
	} {
		t.Run(tc.story, func(t *testing.T) {
			family := filters.ClientCertificate()
			r := route(t, "/", nil) // what holds comes from the host, whatever the Route's own Ingress says
			protect(t, r, tc.values)
			chain := filters.Compile([]filters.Policy{family}, r, nil)
			x := request("a.example", "/")
			credentials := &shown{verdict: tc.verdict, subject: tc.subject}
			x.Client = exchange.Client{TLS: true, Proto: "https", Credentials: credentials}
			if got := chain.FilterRequest(x) == exchange.Answered; got != (tc.status != 0) || x.Response.Status != tc.status {
				t.Fatalf("answered %v, status %d, want %d", got, x.Response.Status, tc.status)
			}
			if credentials.judged != r.TLS {
				t.Error("judged under another policy than the host's")
			}
			if tc.status != 0 && x.Response.Why != exchange.ClientCertificate {
				t.Errorf("reason %q", x.Response.Why)
			}
			if location := string(x.Response.Fields.Get(exchange.Location)); (location == "https://e.example/") != (tc.status == 302) {
				t.Errorf("Location %q", location)
			}
		})
	}
}

// TestClientCertificateInClear: what cannot be verified is not there, whoever says so; only ACME servers are let in.
func TestClientCertificateInClear(t *testing.T) {
	for _, tc := range []struct {
		path, verify string
		status       int
		told         string
	}{
		{"/", "on", 400, ""}, {"/", "optional", 0, "NONE"}, {"/", "optional_no_ca", 0, "NONE"},
		{"/.well-known/acme-challenge/token", "on", 0, ""}, {"/.well-known", "on", 400, ""},
	} {
		r := route(t, tc.path, nil)
		protect(t, r, policy.Values{"auth-tls-secret": "ca", "auth-tls-verify-client": tc.verify})
		chain := filters.Compile([]filters.Policy{filters.ClientCertificate()}, r, nil)
		for _, client := range []exchange.Client{{Proto: "http"}, {Proto: "https"}} {
			x := request("a.example", tc.path)
			x.Client = client
			x.Request.Fields.AddString("SSL-Client-Verify", "SUCCESS")
			chain.FilterRequest(x)
			told, _ := x.Request.Fields.Lookup("ssl-client-verify")
			if x.Response.Status != tc.status || string(told) != tc.told && tc.status == 0 {
				t.Errorf("%s %s, %s: status %d, told %q, want %d %q", tc.path, tc.verify, client.Proto, x.Response.Status, told, tc.status, tc.told)
			}
		}
		// Over TLS there is no exception.
		x := request("a.example", tc.path)
		x.Client = exchange.Client{TLS: true}
		if chain.FilterRequest(x); (x.Response.Status == 400) != (tc.verify == "on") {
			t.Errorf("%s %s over TLS without credentials: status %d", tc.path, tc.verify, x.Response.Status)
		}
	}
}

// TestClientCertificateTellsThePod: the fields are ours alone.
func TestClientCertificateTellsThePod(t *testing.T) {
	certificate := &x509.Certificate{Raw: bytes.Repeat([]byte{0xfb, 0xff, 0x00, 1, 2}, 100)}
	for _, tc := range []struct {
		story  string
		values policy.Values // nil: the host asks for nothing, but the Route's own Ingress says "off"
		shown  *shown
		want   string
	}{
		{"good", policy.Values{"auth-tls-secret": "ca"}, &shown{verdict: router.Verdict{Outcome: router.Verified}, certificate: certificate, subject: "CN=a", issuer: "CN=ca"},
			"ssl-client-verify: SUCCESS|ssl-client-subject-dn: CN=a|ssl-client-issuer-dn: CN=ca|"},
		{"untrusted", policy.Values{"auth-tls-secret": "ca", "auth-tls-verify-client": "optional_no_ca"},
			&shown{verdict: router.Verdict{Outcome: router.Untrusted, Reason: "self-signed certificate"}, certificate: certificate, subject: "CN=a", issuer: "CN=a"},
			"ssl-client-verify: FAILED:self-signed certificate|ssl-client-subject-dn: CN=a|ssl-client-issuer-dn: CN=a|"},
		{"none", policy.Values{"auth-tls-secret": "ca", "auth-tls-verify-client": "optional", "auth-tls-pass-certificate-to-upstream": "true"}, &shown{}, "ssl-client-verify: NONE|"},
		{"off", nil, nil, "ssl-client-verify: NONE|"},
	} {
		t.Run(tc.story, func(t *testing.T) {
			family := filters.ClientCertificate()
			r := route(t, "/", policy.Values{"auth-tls-verify-client": "off"}, family)
			if tc.values != nil {
				protect(t, r, tc.values)
			}
			chain := filters.Compile([]filters.Policy{family}, r, nil)
			x := request("a.example", "/")
			x.Client = exchange.Client{TLS: true}
			if tc.shown != nil {
				x.Client.Credentials = tc.shown
			}
			for _, name := range []string{"ssl-client-verify", "SSL-Client-Verify", "ssl_client_verify", "Ssl_Client-S-Dn", "ssl-client-cert", "ssl-client-"} {
				x.Request.Fields.AddString(name, "SUCCESS")
			}
			x.Request.Fields.AddString("ssl-clients", "kept")
			if chain.FilterRequest(x) != exchange.Continue {
				t.Fatalf("status %d", x.Response.Status)
			}
			var told strings.Builder
			for i := range x.Request.Fields.Len() {
				if _, name, value, ok := x.Request.Fields.At(i); ok {
					fmt.Fprintf(&told, "%s: %s|", name, value)
				}
			}
			if want := "ssl-clients: kept|" + tc.want; told.String() != want {
				t.Errorf("the Pod is told\n%s\nwant\n%s", told.String(), want)
			}
		})
	}
}

// escapedPEM is what the Pod is to be told, made by packages that know how.
func escapedPEM(der []byte) string {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

func FuzzPassedCertificate(f *testing.F) {
	f.Add([]byte("x"))
	f.Add(bytes.Repeat([]byte{0xfb, 0xff}, 24))
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	family := filters.ClientCertificate()
	r := &router.Route{}
	protect(f, r, policy.Values{"auth-tls-secret": "ca", "auth-tls-pass-certificate-to-upstream": "true"})
	chain := filters.Compile([]filters.Policy{family}, r, nil)
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) == 0 {
			return // encoding/pem writes an empty line; a certificate is never empty
		}
		x := request("a.example", "/")
		x.Client = exchange.Client{TLS: true, Credentials: &shown{verdict: router.Verdict{Outcome: router.Verified}, certificate: &x509.Certificate{Raw: der}}}
		chain.FilterRequest(x)
		if got, _ := x.Request.Fields.Lookup("ssl-client-cert"); string(got) != escapedPEM(der) {
			t.Errorf("got  %s\nwant %s", got, escapedPEM(der))
		}
		x.Release()
	})
}

// TestRouteWithoutItsPolicyIsClosed: where Build could not give the host what the Ingress asks for, nothing else opens it.
func TestRouteWithoutItsPolicyIsClosed(t *testing.T) {
	family := filters.ClientCertificate()
	chain := filters.Compile([]filters.Policy{family}, route(t, "/", policy.Values{"auth-tls-secret": "ca"}, family), nil)
	x := request("a.example", "/")
	x.Client = exchange.Client{TLS: true, Credentials: &shown{verdict: router.Verdict{Outcome: router.Verified}}}
	if chain.FilterRequest(x) != exchange.Answered || x.Response.Status != 503 {
		t.Errorf("status %d", x.Response.Status)
	}
	if chain := filters.Compile([]filters.Policy{family}, route(t, "/", nil), nil); len(chain.Request) != 0 {
		t.Error("a Route of a host that asks for nothing has a filter")
	}
}

func TestClientCertificateAllocatesNothing(t *testing.T) {
	r := route(t, "/", nil)
	protect(t, r, policy.Values{"auth-tls-secret": "ca", "auth-tls-match-cn": "CN=alice(,|$)", "auth-tls-pass-certificate-to-upstream": "true"})
	chain := filters.Compile([]filters.Policy{filters.ClientCertificate()}, r, nil)
	x := request("a.example", "/")
	x.Client = exchange.Client{TLS: true, Credentials: &shown{
		verdict: router.Verdict{Outcome: router.Verified}, certificate: &x509.Certificate{Raw: make([]byte, 700)}, subject: "CN=alice,O=Acme", issuer: "CN=ca",
	}}
	if n := testing.AllocsPerRun(100, func() {
		x.Request.Fields.Reset(nil)
		chain.FilterRequest(x)
	}); n != 0 && !raceEnabled { // package regexp keeps its machines in a sync.Pool
		t.Errorf("%v allocations", n)
	}
}
