package router

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"podlane.dev/podlane/router/policy"
)

// TestWithMatchesNewTable draws changes and compares the Table that grew by With with one made from nothing; the Tables
// along the way must not change.
func TestWithMatchesNewTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := map[string][]*Route{}
		table := new(Table)
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			var c Change
			if rapid.Bool().Draw(t, "catch-all") {
				c.CatchAll = defaultRoute("")
			}
			next := maps.Clone(model)
			for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "*.a", "*.b", "c.d"}), 0, 4).Draw(t, "remove") {
				c.Remove = append(c.Remove, name)
				delete(next, name)
			}
			for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "*.a", "*.b", "c.d"}), 0, 4).Draw(t, "set") {
				routes := slices.Clone(next[name])
				if len(routes) > 0 && rapid.Bool().Draw(t, "drop") {
					routes = routes[1:]
				}
				routes = append(routes, testRoute(name, fmt.Sprintf("/%d", rapid.IntRange(0, 1000).Draw(t, "path"))))
				if h := NewHost(name, routes); len(h.Routes()) == len(routes) {
					c.Hosts = append(c.Hosts, h)
					next[name] = routes
				}
			}
			before := table.String()
			after := table.With(c)
			if table.String() != before {
				t.Fatal("With changed the Table that it was called on")
			}
			checkDifference(t, table, after)
			model, table = next, after
			var all []*Route
			for _, routes := range model {
				all = append(all, routes...)
			}
			if c.CatchAll != nil {
				all = append(all, c.CatchAll)
			}
			// A host without routes is in the Table but cannot be in NewTable's.
			if want := NewTable(all, nil); table.String() != want.String() || table.Len() != want.Len() {
				t.Fatalf("after %+v: %d routes\n%swant %d\n%s", c, table.Len(), table, want.Len(), want)
			}
		}
	})
}

// checkDifference compares RoutesNotIn in both directions with sets.
func checkDifference(t *rapid.T, from, to *Table) {
	all := func(t *Table) map[*Route]bool {
		set := map[*Route]bool{}
		for r := range t.Routes() {
			set[r] = true
		}
		return set
	}
	for _, pair := range [][2]*Table{{from, to}, {to, from}} {
		want := all(pair[0])
		maps.DeleteFunc(want, func(r *Route, _ bool) bool { return all(pair[1])[r] })
		got := map[*Route]bool{}
		for r := range pair[0].RoutesNotIn(pair[1]) {
			if got[r] {
				t.Fatalf("%v came twice", r)
			}
			got[r] = true
		}
		if !maps.Equal(got, want) {
			t.Fatalf("RoutesNotIn gave %d routes, want %d", len(got), len(want))
		}
	}
}

func TestRoutesNotInSharedCatchAll(t *testing.T) {
	r := defaultRoute("")
	asBoth := new(Table).With(Change{CatchAll: r, Hosts: []*Host{NewHost("", []*Route{r})}})
	asCatchAll := new(Table).With(Change{CatchAll: r})
	for i, tables := range [][2]*Table{{asBoth, asCatchAll}, {asCatchAll, asBoth}, {asBoth, asBoth}} {
		if got := slices.Collect(tables[0].RoutesNotIn(tables[1])); len(got) != 0 {
			t.Errorf("%d: %v", i, got)
		}
	}
	if got := slices.Collect(asBoth.Routes()); len(got) != 1 {
		t.Errorf("the catch-all came %d times", len(got))
	}
}

func TestEmptyHostOwnsItsRequests(t *testing.T) {
	table := NewTable([]*Route{testRoute("", "/"), testRoute("*.b", "/")}, nil).With(Change{Hosts: []*Host{NewHost("a.b", nil)}})
	if r, ok := table.Lookup("a.b", "/"); ok {
		t.Errorf("a host without routes fell through to %v", r)
	}
}

func TestIteratorsStop(t *testing.T) {
	table := NewTable([]*Route{testRoute("a", "/"), testRoute("*.a", "/"), testRoute("", "/"), defaultRoute("")}, nil)
	for n := range 4 {
		hosts, routes, ports := 0, 0, 0
		for range table.Hosts() {
			if hosts++; hosts > n {
				break
			}
		}
		for range table.Routes() {
			if routes++; routes > n {
				break
			}
		}
		for range table.Ports() {
			ports++
			break
		}
		if hosts != min(n+1, 3) || routes != min(n+1, 4) || ports != 1 {
			t.Errorf("stopped at %d: %d hosts, %d routes, %d ports", n, hosts, routes, ports)
		}
	}
}

func TestPorts(t *testing.T) {
	a, b, c := testRoute("a", "/"), testRoute("b", "/"), testRoute("c", "/")
	b.Backends = append(b.Backends, Backend{Service: ServicePort{"default", "canary", ""}})
	c.Backends = []Backend{{Service: ServicePort{"default", "gone", ""}, Unavailable: ServiceNotFound}}
	got := slices.Collect(NewTable([]*Route{a, b, c}, nil).Ports())
	slices.SortFunc(got, func(a, b ServicePort) int { return strings.Compare(a.String(), b.String()) })
	if want := []ServicePort{{"default", "canary", ""}, {"default", "svc", "http"}}; !slices.Equal(got, want) {
		t.Errorf("Ports = %v", got)
	}
}

func TestTableString(t *testing.T) {
	full := testRoute("www.example", "/a b")
	full.HasCertificate, full.Denied = true, "auth"
	full.Policies = []policy.Value{{Family: "limit", Parsed: 3}}
	full.Backends = []Backend{
		{Service: ServicePort{"default", "one", ""}, Weight: 90, Affinity: time.Hour},
		{Service: ServicePort{"default", "two", "x"}, Weight: 10, Unavailable: PortNotFound},
	}
	external := testRoute("*.example", "=/e")
	external.Backends[0].ExternalName, external.Backends[0].ExternalPort = "db.example.com", 5432
	operator := defaultRoute("")
	operator.ID.Ingress = ""
	table := NewTable([]*Route{full, testRoute("www.example", "=/"), external, testRoute("", "/\xff"), defaultRoute("www.example"), operator}, nil)
	table = table.With(Change{
		CatchAll: operator,
		Certificates: []*Certificate{
			{Namespace: "default", Secret: "ok", Hosts: []string{"a", "b"}, Owner: "default/ing", KeyPair: &tls.Certificate{Certificate: [][]byte{[]byte("hush")}}},
			{Namespace: "default", Secret: "broken", Owner: "default/ing"},
		},
		DefaultCertificate: &Certificate{Namespace: "ns", Secret: "d"},
	})
	const want = `host www.example
  Exact / -> default/svc:http; ingress default/ing
  Prefix "/a b" -> default/one (client affinity 1h0m0s) weight 90, default/two:x (PortNotFound) weight 10; ingress default/ing; certificate; denied "auth"; limit 3
  default -> default/svc:http; ingress default/ing
host *.example
  Exact /e -> default/svc:http (external name db.example.com:5432); ingress default/ing
host (none)
  Prefix "/\xff" -> default/svc:http; ingress default/ing
default -> default/svc:http
certificate default/ok for a, b; ingress default/ing
certificate default/broken; ingress default/ing; unusable
default certificate ns/d; unusable
`
	if got := table.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
