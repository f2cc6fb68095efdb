package proxy

import (
	"crypto/x509"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
)

// shown are credentials that every policy of the authority "ours" admits.
type shown struct{ policy *router.TLSPolicy }

func (s shown) Policy() *router.TLSPolicy      { return s.policy }
func (s shown) Certificate() *x509.Certificate { return nil }
func (s shown) Names() (string, string)        { return "", "" }
func (s shown) Judge(p *router.TLSPolicy, _ time.Time) router.Verdict {
	if p.Authority.Secret == "ours" {
		return router.Verdict{Outcome: router.Verified}
	}
	return router.Verdict{Outcome: router.Failed}
}

func TestDirectionOf(t *testing.T) {
	policy := func(secret string, depth int) *router.TLSPolicy {
		by := router.NewAuthority("ns", secret, []*x509.Certificate{{Raw: []byte(secret)}}, nil)
		return router.NewTLSPolicy(router.ClientAuth{Verify: router.VerifyOn, Depth: depth}, "ns/i", by)
	}
	ours, twin, theirs, older := policy("ours", 1), policy("ours", 1), policy("theirs", 1), policy("ours", 2)
	var routes []*router.Route
	for host, p := range map[string]*router.TLSPolicy{
		"ours.test": ours, "twin.test": twin, "theirs.test": theirs, "open.test": nil, "*.ours.test": ours, "free.ours.test": nil,
	} {
		routes = append(routes, &router.Route{ID: router.RouteID{Host: host, Path: "/a"}, TLS: p})
	}
	everything := &router.Route{IsDefault: true}
	table := router.NewTable(append(routes, everything), nil)
	for _, c := range []struct {
		story      string
		sni, host  string
		path       string
		credential *router.TLSPolicy // nil: none
		clear      bool
		want       direction
	}{
		{"nobody asks", "open.test", "free.ours.test", "/a", nil, false, right},
		{"nobody asks, unknown names", "", "who.test", "/a", nil, false, right},
		{"the same host", "ours.test", "ours.test", "/a", ours, false, right},
		{"the same host, no route", "ours.test", "ours.test", "/b", ours, false, right},
		{"a host that asks alike", "ours.test", "twin.test", "/a", ours, false, right},
		{"a host under the wildcard", "x.ours.test", "y.ours.test", "/a", ours, false, right},
		{"fronted by one that asks for nothing", "open.test", "ours.test", "/a", nil, false, elsewhere},
		{"fronted by none", "", "ours.test", "/a", nil, false, elsewhere},
		{"fronted by the exact host under the wildcard", "free.ours.test", "x.ours.test", "/a", nil, false, elsewhere},
		{"fronted, no route", "open.test", "ours.test", "/b", nil, false, elsewhere},
		{"fronted by one that asks otherwise", "theirs.test", "ours.test", "/a", theirs, false, elsewhere},
		{"from one that asks to one that does not", "ours.test", "open.test", "/a", ours, false, elsewhere},
		{"from one that asks to an unknown one", "ours.test", "who.test", "/a", ours, false, elsewhere},
		{"without a Host", "ours.test", "", "/a", ours, false, elsewhere},
		{"it asks since", "ours.test", "ours.test", "/a", nil, false, outdated},
		{"it asks since, no route", "ours.test", "ours.test", "/b", nil, false, outdated},
		{"it does not ask any more", "open.test", "open.test", "/a", ours, false, right},
		{"it asks otherwise, and what was shown will do", "ours.test", "ours.test", "/a", older, false, right},
		{"it asks otherwise, and what was shown will not", "theirs.test", "theirs.test", "/a", older, false, outdated},
		{"in clear", "", "ours.test", "/a", nil, true, right},
	} {
		x := exchange.New()
		x.Client.TLS, x.Client.ServerName = !c.clear, c.sni
		x.Request.Hostname = []byte(c.host)
		if c.credential != nil {
			x.Client.Credentials = shown{c.credential}
		}
		x.Route, _ = table.Lookup(c.host, c.path)
		over := &live{table: table}
		if got := over.direction(x); got != c.want {
			t.Errorf("%s: %d, want %d", c.story, got, c.want)
		}
		if n := testing.AllocsPerRun(10, func() { over.direction(x) }); n != 0 {
			t.Errorf("%s: %v allocations", c.story, n)
		}
		x.Release()
	}
}
