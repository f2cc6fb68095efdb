package router

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"podlane.dev/podlane/router/policy"
)

func TestPatternMatches(t *testing.T) {
	nginx, whole := NewNginxPattern, NewPattern
	for _, c := range []struct {
		make    func(string) (*Pattern, error)
		pattern string
		yes, no []string
	}{
		{nginx, "/", []string{"/", "/a"}, nil},
		{nginx, "/Foo", []string{"/foo", "/FOObar", "/foo/x", "/f%6fo"}, []string{"/", "/fo", "/x/foo"}},
		{nginx, "/a.c", []string{"/abc", "/A/C"}, []string{"/ac"}},
		{nginx, "/u[A-Z]", []string{"/uuid", "/UX"}, []string{"/u1"}},
		{nginx, "/x(/|$)(.*)", []string{"/x", "/x/", "/x/y", "/X%2Fy"}, []string{"/xy"}},
		{nginx, "/a b", []string{"/a%20b"}, []string{"/a+b"}},
		{nginx, "/é", []string{"/%C3%A9"}, []string{"/e"}},
		{nginx, "/a/b", []string{"/a%2Fb", "/a%2F%2E/b", "/x%2F..%2Fa/b"}, []string{"/a%252Fb"}},
		{nginx, "/a|/b", []string{"/a", "/bc", "/x/b"}, []string{"/c", "/x/a"}},
		{nginx, "/ax|/ab", []string{"/AXe", "/c/abc"}, []string{"/c/ax", "/a"}},
		{nginx, "/(?:a|/b)", []string{"/a"}, []string{"/x/a"}},
		{nginx, "/[ab]|c", []string{"/a", "/x/c"}, []string{"/x/a"}},
		{whole, "/foo", []string{"/foo"}, []string{"/foo/", "/Foo", "/foobar", "/"}},
		{whole, "/api/(.*)", []string{"/api/", "/api/x%2Fy"}, []string{"/api", "/API/"}},
		{whole, "/a|/b", []string{"/a", "/b"}, []string{"/ab"}},
		{whole, "(?i)/foo", []string{"/FOO"}, []string{"/bar"}},
	} {
		p, err := c.make(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		for _, path := range c.yes {
			if !p.Matches(canonical(t, path)) {
				t.Errorf("%s does not match %s", c.pattern, path)
			}
		}
		for _, path := range c.no {
			if p.Matches(canonical(t, path)) {
				t.Errorf("%s matches %s", c.pattern, path)
			}
		}
	}
}

func canonical(t testing.TB, path string) string {
	t.Helper()
	c, _, err := CanonicalPathString(path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

func TestPatternRewrite(t *testing.T) {
	for _, c := range []struct{ pattern, target, path, want string }{
		{"/x(/|$)(.*)", "/$2", "/x/y%20z", "/y%20z"},
		{"/x(/|$)(.*)", "/$2", "/x", "/"},
		{"/x(/|$)(.*)", "/new/$2$1", "/x/a%3Fb%25c", "/new/a%3Fb%25c/"},
		{"/x", "/uuid", "/xyz", "/uuid"},
		{"/(a)(b)?", "/$1-$2-$3", "/a", "/a--"},
		{"/x/(.*)", "$1", "/x/y", "y"},
		{"/x/(.*)", "/$1", "/x/a%2Fb", "/a/b"},
		{"/X/(.*)", "/$1", "/x/É", "/%C3%89"},
		{"/(a)|/(b)", "/$1-$2", "/x/a/b", "/a-"}, // the location matches at /b, the directive at /a
		{"/(a)|/(b)", "/$1-$2", "/x/b", "/-b"},
	} {
		p, err := NewNginxPattern(c.pattern)
		target, err2 := NewTarget(c.target)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		got, ok := p.Rewrite([]byte("kept"), target, []byte(canonical(t, c.path)))
		if !ok || string(got) != "kept"+c.want {
			t.Errorf("%s by %s to %s = %q, want %q", c.path, c.pattern, c.target, got, c.want)
		}
	}
	p, err := NewPattern("/x/(.*)")
	target, err2 := NewTarget("/$1")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if got, _ := p.Rewrite(nil, target, []byte("/x/a%2Fb%20c")); string(got) != "/a%2Fb%20c" {
		t.Errorf("by the canonical path: %q", got)
	}
}

func TestPatternsThatRE2CannotRun(t *testing.T) {
	for pattern, want := range map[string]string{
		"/a(?=b)": "a lookahead", "/a(?!b)": "a negative lookahead", "/(?<=a)b": "a lookbehind", "/(?<!a)b": "a negative lookbehind", "/(?>a)": "an atomic group",
		`/(a)\1`: "a backreference", "/a++": "a possessive quantifier", "/(a": "missing closing )", "/a)": "unexpected )", "/[": "missing closing ]",
		"/a{2000}": "repeat count", "/(?|a|b)": "a branch reset", "/(?(1)a)": "a condition", strings.Repeat("a", policy.MaxRegexp+1): "at most",
	} {
		if _, err := NewNginxPattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v, want %q in it", pattern, err, want)
		}
	}
	for _, target := range []string{"/$", "/$0", "/$x", "/a$", "/${1}"} {
		if _, err := NewTarget(target); err == nil {
			t.Errorf("target %s is taken", target)
		}
	}
}

// TestPatternsAreMatchedInOrder: Exact, then patterns, the longest first, then Prefix; as the Trace says.
func TestPatternsAreMatchedInOrder(t *testing.T) {
	route := func(path string, typ PathType) *Route {
		r := &Route{ID: RouteID{Host: "a.example", Path: path, Type: typ}}
		if typ == Regex {
			var err error
			if r.Pattern, err = NewPattern(path); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	table := NewTable([]*Route{
		route("/", Prefix), route("/a.*", Regex), route("/ab.*", Regex), route("/abc", Exact), route("/abcd", Prefix), route("/x.*", Regex), route("/y.*", Regex), route("/[xy]1", Regex),
	}, nil)
	for path, want := range map[string]string{
		"/abc": "/abc", "/abcd": "/ab.*", "/ax": "/a.*", "/z": "/", "/x1": "/[xy]1", "/x2": "/x.*",
	} {
		var trace Trace
		r, ok := table.Match("a.example", path, &trace)
		if !ok || r.ID.Path != want {
			t.Errorf("%s goes to %v, want %s", path, r, want)
		}
		last := trace.Visits[len(trace.Visits)-1]
		if last.Route != r {
			t.Errorf("%s: the trace ends at %v", path, last)
		}
	}
	if got := table.Len(); got != 8 {
		t.Errorf("%d routes", got)
	}
}

// TestLookupOfPatternsAllocatesNothing: but for a path with escapes, which is decoded.
func TestLookupOfPatternsAllocatesNothing(t *testing.T) {
	var routes []*Route
	for i := range 50 {
		p, err := NewNginxPattern(fmt.Sprintf("/svc%d(/|$)(.*)", i))
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, &Route{ID: RouteID{Host: "a.example", Path: p.String(), Type: Regex}, Pattern: p})
	}
	table := NewTable(routes, nil)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := table.Lookup("a.example", "/svc7/users"); !ok {
			t.Error("nobody has it")
		}
	}); n > 0 && !raceEnabled { // package regexp keeps its machines in a sync.Pool
		t.Errorf("%v allocations", n)
	}
}

// FuzzPattern holds the shortcuts of matching equal to the regular expression alone, and rewriting to paths that stay what they are.
func FuzzPattern(f *testing.F) {
	f.Add("/x(/|$)(.*)", "/$2", "/x/y%2f%20é")
	f.Add("/Foo", "/a", "/fOO/bar")
	f.Add("(?i)/a", "$1", "/A")
	f.Add("/a(x)|/ab", "/$1", "/c/ab")
	f.Fuzz(func(t *testing.T, pattern, to, path string) {
		p, err := NewNginxPattern(pattern)
		target, err2 := NewTarget(to)
		path, _, err3 := CanonicalPathString(path)
		if err != nil || err2 != nil || err3 != nil {
			return
		}
		full := regexp.MustCompile(`(?i)\A` + pattern)
		decoded := decodedString(path)
		// Our comparison without regard to case is of ASCII, as nginx's is: Unicode has letters more that are K and S.
		if strings.ContainsAny(decoded, "\u017f\u212a") {
			return
		}
		if got, want := p.Matches(path), full.MatchString(decoded); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, path, got, want)
		}
		if !p.Matches(path) {
			return
		}
		out, ok := p.Rewrite(nil, target, []byte(path))
		if !ok {
			t.Fatalf("%q matches %q and does not rewrite it", pattern, path)
		}
		for _, b := range strings.NewReplacer(to, "").Replace(string(out)) {
			if b < 0x20 || b == 0x7f || b == ' ' {
				if !strings.ContainsRune(to, b) {
					t.Fatalf("%q of %q has %q", out, path, b)
				}
			}
		}
	})
}
