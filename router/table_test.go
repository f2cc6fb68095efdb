package router

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// testRoute returns a Route for host and path whose type is Exact where path begins with "=".
func TestCertificatesStand(t *testing.T) {
	at := time.Unix(1000, 0)
	pair := func(from, to int64) *Certificate {
		return &Certificate{KeyPair: &tls.Certificate{Leaf: &x509.Certificate{NotBefore: time.Unix(from, 0), NotAfter: time.Unix(to, 0)}}}
	}
	for name, row := range map[string]struct {
		certs    []*Certificate
		fallback *Certificate
		want     time.Duration
	}{
		"none":               {nil, nil, time.Hour},
		"broken":             {[]*Certificate{{}}, nil, time.Hour},
		"far":                {[]*Certificate{pair(0, 1<<33)}, nil, time.Hour},
		"over":               {[]*Certificate{pair(0, 999)}, nil, time.Hour},
		"the first":          {[]*Certificate{pair(0, 1020), pair(1010, 1040), pair(0, 1030)}, nil, 10 * time.Second},
		"in its last second": {[]*Certificate{pair(0, 1000)}, nil, 1},
		"the default":        {[]*Certificate{pair(0, 1020)}, pair(0, 1005), 5*time.Second + 1},
	} {
		table := new(Table).With(Change{Certificates: row.certs, DefaultCertificate: row.fallback})
		if got := table.CertificatesStand(at); got != row.want {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

func testRoute(host, path string) *Route {
	typ := Prefix
	if exact, ok := strings.CutPrefix(path, "="); ok {
		typ, path = Exact, exact
	}
	return &Route{
		ID:       RouteID{Namespace: "default", Ingress: "ing", Host: host, Path: path, Type: typ},
		Backends: []Backend{{Service: ServicePort{"default", "svc", "http"}, Weight: 1}},
	}
}

// defaultRoute returns the default of host.
func defaultRoute(host string) *Route {
	r := testRoute(host, "")
	r.IsDefault = true
	return r
}

func TestLookup(t *testing.T) {
	table := NewTable([]*Route{
		testRoute("a.example", "/"),
		testRoute("a.example", "/foo"),
		testRoute("a.example", "/foo/bar/"),
		testRoute("a.example", "=/foo"),
		testRoute("a.example", "=/foo/"),
		testRoute("a.example", "/CaSe"),
		testRoute("b.example", "/only"),
		testRoute("*.example", "/wild"),
		testRoute("*.deep.example", "/"),
		testRoute("d.example", "/x"), defaultRoute("d.example"),
		testRoute("", "/nohost"),
		testRoute("*.nohost", "/"),
		testRoute("enc.example", "/a//b/%7ec"),
		defaultRoute(""),
	}, nil)
	const none = "default"
	tests := []struct{ host, path, want string }{
		{"a.example", "/", "/"},
		{"a.example", "/x", "/"},
		{"a.example", "/foo", "=/foo"},
		{"a.example", "/foo/", "=/foo/"},
		{"a.example", "/foo/x", "/foo"},
		{"a.example", "/foobar", "/"},
		{"a.example", "/foo/bar", "/foo/bar/"},
		{"a.example", "/foo/bar/", "/foo/bar/"},
		{"a.example", "/foo/bar/baz", "/foo/bar/"},
		{"a.example", "/foo/barbaz", "/foo"},
		{"a.example", "/case", "/"},
		{"a.example", "/CaSe/x", "/CaSe"},
		// A host owns its requests: no rules of the wildcard or of no host.
		{"b.example", "/only/x", "/only"},
		{"b.example", "/wild", none},
		{"b.example", "/nohost", none},
		// A wildcard is one label.
		{"c.example", "/wild/x", "/wild"},
		{"c.example", "/nohost", none},
		{"example", "/wild", none},
		{"example", "/nohost", "/nohost"},
		{".example", "/wild", none},
		{"x.y.example", "/wild", none},
		{"x.deep.example", "/q", "/"},
		{"deep.example", "/wild", "/wild"},
		{"d.example", "/x", "/x"},
		{"d.example", "/y", "d.example"},
		{"nobody.test", "/nohost/", "/nohost"},
		{"nobody.test", "/else", none},
		{"", "/nohost", "/nohost"},
		{"nohost", "/nohost", "/nohost"},
		{"enc.example", "/a/b/~c/d", "/a//b/%7ec"},
		// Not canonical, so nothing but defaults; never a panic.
		{"a.example", "", none},
		{"a.example", "*", none},
	}
	for _, tt := range tests {
		got, ok := table.Lookup(tt.host, tt.path)
		if name := describe(got); !ok || name != tt.want {
			t.Errorf("Lookup(%q, %q) = %s, %v; want %s", tt.host, tt.path, name, ok, tt.want)
		}
	}
	for _, tt := range []struct {
		host string
		want bool
	}{{"a.example", true}, {"z.example", true}, {"nobody.test", false}, {"", false}} {
		if got := table.HasHost(tt.host); got != tt.want {
			t.Errorf("HasHost(%q) = %v", tt.host, got)
		}
	}
	if got := table.Len(); got != 14 {
		t.Errorf("Len = %d", got)
	}
}

// describe names a Route as testRoute was called for it.
func describe(r *Route) string {
	switch {
	case r == nil:
		return "nil"
	case r.IsDefault && r.ID.Host == "":
		return "default"
	case r.IsDefault:
		return r.ID.Host
	case r.ID.Type == Exact:
		return "=" + r.ID.Path
	}
	return r.ID.Path
}

func TestZeroTable(t *testing.T) {
	var table Table
	if r, ok := table.Lookup("a", "/"); r != nil || ok {
		t.Errorf("Lookup = %v, %v", r, ok)
	}
	for range table.Hosts() {
		t.Error("a host")
	}
	for range table.Routes() {
		t.Error("a route")
	}
	if table.String() != "" || table.Len() != 0 || table.HasHost("a") {
		t.Errorf("not empty: %q, %d", table.String(), table.Len())
	}
}

func TestNewTableLeavesOut(t *testing.T) {
	first, second := testRoute("a", "/x"), testRoute("a", "/x/")
	table := NewTable([]*Route{first, second, testRoute("a", "/%zz"), testRoute("a", "no-slash"), testRoute("a", "=/x"), testRoute("a", "=/%78"), defaultRoute("a"), defaultRoute("a"), defaultRoute(""), defaultRoute("")}, nil)
	if got, _ := table.Lookup("a", "/x/y"); got != first {
		t.Errorf("of two equal prefixes %v won", got)
	}
	if got := table.Len(); got != 3 {
		t.Errorf("%d routes, want Prefix, Exact and default:\n%s", got, table)
	}
}

// oracle is what Lookup has to do, in the words of the specification: every route is looked at, the host decides first. The hosts of refused are
// known, though those routes match nothing.
func oracle(routes []*Route, host, path string, refused ...*Route) *Route {
	names := []string{host, "", ""}
	if label, suffix, ok := strings.Cut(host, "."); ok && label != "" {
		names[1] = "*." + suffix
	}
	var best, hostDefault, catchAll *Route
	for i, name := range names {
		if name == "" && i < 2 {
			continue
		}
		known := false
		for _, r := range routes {
			if r.ID.Host == "" && r.IsDefault {
				catchAll = r
				continue
			}
			if r.ID.Host != name {
				continue
			}
			known = true
			switch canonical, _, _ := CanonicalPathString(r.ID.Path); {
			case r.IsDefault:
				hostDefault = r
			case r.ID.Type == Exact && canonical == path:
				best = r
			case r.ID.Type == Prefix && under(path, canonical) && (best == nil || best.ID.Type == Prefix && len(elements(best.ID.Path)) < len(elements(canonical))):
				best = r
			}
		}
		if known || slices.ContainsFunc(refused, func(r *Route) bool { return r.ID.Host == name && name != "" }) {
			break
		}
	}
	for _, r := range []*Route{best, hostDefault} {
		if r != nil {
			return r
		}
	}
	return catchAll
}

func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// under says whether path lies under prefix, element by element.
func under(path, prefix string) bool {
	p, q := elements(path), elements(prefix)
	return len(q) <= len(p) && slices.Equal(p[:len(q)], q)
}

// allPaths returns every canonical path of up to n elements of alphabet, with and without a slash at the end.
func allPaths(alphabet []string, n int) []string {
	paths, level := []string{"/"}, []string{""}
	for range n {
		var next []string
		for _, p := range level {
			for _, e := range alphabet {
				next = append(next, p+"/"+e)
				paths = append(paths, p+"/"+e, p+"/"+e+"/")
			}
		}
		level = next
	}
	return paths
}

// TestLookupExhaustive compares every pair of rules over a small alphabet with the oracle, on every path over it.
func TestLookupExhaustive(t *testing.T) {
	rules := allPaths([]string{"a", "ab"}, 2)
	requests := allPaths([]string{"a", "ab", "b"}, 3)
	for i, p := range rules {
		for _, q := range rules[i:] {
			for _, types := range []string{"PP", "PE", "EP", "EE"} {
				routes := []*Route{testRoute("h", p), testRoute("h", q)}
				for k := range routes {
					if types[k] == 'E' {
						routes[k].ID.Type = Exact
					}
				}
				if types[0] == types[1] && (p == q || types == "PP" && slices.Equal(elements(p), elements(q))) {
					continue // a conflict: Build's business
				}
				table := NewTable(routes, nil)
				for _, path := range requests {
					got, _ := table.Lookup("h", path)
					if want := oracle(routes, "h", path); got != want {
						t.Fatalf("%s: Lookup(%q) = %s, want %s", table, path, describe(got), describe(want))
					}
				}
			}
		}
	}
}

// genTable draws routes without conflicts over few hosts and elements, so that they meet often.
func genTable(t *rapid.T) []*Route {
	host := rapid.SampledFrom([]string{"", "a", "a.b", "*.b", "*.a.b", "x.a.b", "b", "*.c"})
	element := rapid.SampledFrom([]string{"a", "b", "ab", "A", "%2F", "a.b", "..."})
	path := rapid.Custom(func(t *rapid.T) string {
		p := "/" + strings.Join(rapid.SliceOfN(element, 0, 12).Draw(t, "elements"), "/")
		if p != "/" && rapid.Bool().Draw(t, "slash") {
			p += "/"
		}
		return p
	})
	var routes []*Route
	seen := map[string]bool{}
	for range rapid.IntRange(0, 60).Draw(t, "n") {
		r := testRoute(host.Draw(t, "host"), path.Draw(t, "path"))
		switch rapid.IntRange(0, 5).Draw(t, "type") {
		case 0:
			r = defaultRoute(r.ID.Host)
		case 1, 2:
			r.ID.Type = Exact
		}
		key := fmt.Sprint(r.ID.Host, r.IsDefault, r.ID.Type, elements(r.ID.Path), r.ID.Type == Exact && strings.HasSuffix(r.ID.Path, "/"))
		if !seen[key] {
			seen[key] = true
			routes = append(routes, r)
		}
	}
	return routes
}

func TestLookupMatchesOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		routes := genTable(t)
		table := NewTable(routes, nil)
		for range 20 {
			host := rapid.SampledFrom([]string{"", "a", "a.b", "x.b", "y.a.b", "x.a.b", "b", "q.c", "z.z.c", ".b", "z"}).Draw(t, "host")
			path := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "A", "%2F", "a.b", "..."}), 0, 14).Draw(t, "request"), "/")
			if rapid.Bool().Draw(t, "slash") && path != "/" {
				path += "/"
			}
			var trace Trace
			got, ok := table.Match(host, path, &trace)
			if want := oracle(routes, host, path); got != want || ok != (want != nil) {
				t.Fatalf("%sLookup(%q, %q) = %s, want %s", table, host, path, describe(got), describe(want))
			}
			if last := trace.Visits[len(trace.Visits)-1]; got != nil && !slices.ContainsFunc(trace.Visits, func(v Visit) bool { return v.Route == got }) {
				t.Fatalf("the trace ends in %+v and does not have the route that was found", last)
			}
		}
	})
}

func FuzzLookup(f *testing.F) {
	f.Add("a.example", "/foo/bar", "/foo", "=/foo/", "*.example")
	f.Add("x.example", "/%2e/../a", "/", "/a/b", "")
	f.Fuzz(func(t *testing.T, host, raw, p, q, ruleHost string) {
		path, _, err := CanonicalPathString(raw)
		if err != nil {
			path = raw // not canonical: no panic, and that is all
		}
		routes := []*Route{testRoute(ruleHost, p), testRoute(ruleHost, q), testRoute("*.example", "/"), defaultRoute("")}
		table := NewTable(routes, nil)
		got, ok := table.Lookup(host, path)
		if !ok || err != nil {
			return
		}
		kept := slices.Collect(table.Routes())
		if !slices.Contains(kept, routes[3]) {
			t.Fatal("the catch-all is gone")
		}
		if want := oracle(kept, host, path, routes...); got != want {
			t.Fatalf("%sLookup(%q, %q) = %s, want %s", table, host, path, describe(got), describe(want))
		}
	})
}

// bigTable has n hosts with one path each, and n/10 paths under one more host.
func bigTable(n int) *Table {
	routes := make([]*Route, 0, n+n/10+2)
	for i := range n {
		routes = append(routes, testRoute(fmt.Sprintf("host-%d.example.com", i), "/api/v1"))
	}
	for i := range n / 10 {
		routes = append(routes, testRoute("paths.example.com", fmt.Sprintf("/svc-%d/v1", i)), testRoute("paths.example.com", fmt.Sprintf("=/exact-%d", i)))
	}
	return NewTable(append(routes, testRoute("*.wild.example.com", "/"), testRoute("", "/")), nil)
}

// lookups are requests that each bigTable answers in another way.
var lookups = []struct{ name, host, path string }{
	{"exact host", "host-3.example.com", "/api/v1/users/42"},
	{"many paths", "paths.example.com", "/svc-0/v1/users/42"},
	{"exact path", "paths.example.com", "/exact-0"},
	{"wildcard", "tenant.wild.example.com", "/a/b/c"},
	{"no host", "elsewhere.test", "/a/b/c"},
	{"no route", "host-3.example.com", "/nothing/here"},
}

// TestLookupSteps shows that the work does not grow with the table: the recorder counts the same comparisons.
func TestLookupSteps(t *testing.T) {
	small, big := bigTable(10), bigTable(100_000)
	for _, l := range lookups {
		var a, b Trace
		small.Match(l.host, l.path, &a)
		big.Match(l.host, l.path, &b)
		t.Logf("%-11s %d steps", l.name, a.Steps)
		if a.Steps != b.Steps || a.Steps == 0 {
			t.Errorf("%s: %d steps at 10 routes, %d at 100,000", l.name, a.Steps, b.Steps)
		}
	}
	tiny := NewTable([]*Route{testRoute("host-3.example.com", "/api/v1")}, nil)
	var a, b Trace
	tiny.Match("host-3.example.com", "/api/v1/x", &a)
	big.Match("host-3.example.com", "/api/v1/x", &b)
	if a.Steps != b.Steps {
		t.Errorf("%d steps at 1 route, %d at 100,000", a.Steps, b.Steps)
	}
}

// TestLookupStepsAdversarial bounds the work by the path: 4,000 slashes, on a table that has a rule just as deep.
func TestLookupStepsAdversarial(t *testing.T) {
	deep := strings.Repeat("/a", 4000)
	table := NewTable([]*Route{testRoute("h", deep), testRoute("h", "/a"), testRoute("h", "="+deep+"/")}, nil)
	for _, path := range []string{deep, deep + "/b", strings.Repeat("/", 8000), strings.Repeat("/b", 4000)} {
		var trace Trace
		table.Match("h", path, &trace)
		if most := strings.Count(path, "/") + 4; trace.Steps > most {
			t.Errorf("path of %d slashes: %d steps", strings.Count(path, "/"), trace.Steps)
		}
	}
}

func TestLookupAllocs(t *testing.T) {
	table := bigTable(1000)
	for _, l := range lookups {
		if n := testing.AllocsPerRun(100, func() { table.Lookup(l.host, l.path) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", l.name, n)
		}
	}
}

func TestTrace(t *testing.T) {
	table := NewTable([]*Route{testRoute("*.b", "/"), testRoute("*.b", "/x"), testRoute("*.b", "=/y"), defaultRoute("*.b"), defaultRoute("")}, nil)
	var trace Trace
	table.Match("a.b", "/x/z", &trace)
	var got []string
	for _, v := range trace.Visits {
		got = append(got, fmt.Sprintf("%s %q %v", v.Place, v.Key, v.Found))
	}
	want := []string{
		`exact host "a.b" false`, `wildcard host "*.b" true`, `exact path "/x/z" false`,
		`path prefix "/" true`, `path prefix "/x" true`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		table := bigTable(n)
		// Every request another host, as far as there are others: the caches of the machine see the whole table.
		b.Run(fmt.Sprintf("all-hosts/%d", n), func(b *testing.B) {
			hosts := make([]string, min(n, 1<<14))
			for i := range hosts {
				hosts[i] = fmt.Sprintf("host-%d.example.com", i*(n/len(hosts)))
			}
			rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.Lookup(hosts[i%len(hosts)], "/api/v1/users/42")
			}
		})
		for _, l := range lookups {
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(l.name, " ", "-"), n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					table.Lookup(l.host, l.path)
				}
			})
		}
	}
}
