package router_test

import (
	"testing"

	"pgregory.net/rapid"

	"podlane.dev/podlane/router"
)

// TestCoversIsTheMatchOfOne: a Route covers what a host with nothing else would give it.
func TestCoversIsTheMatchOfOne(t *testing.T) {
	t.Parallel()
	pattern, err := router.NewNginxPattern("/a/.*b")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.SampledFrom([]string{"/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/a/B", "/a%2Fb", "/b"})
		r := &router.Route{ID: router.RouteID{Host: "a.test", Path: path.Draw(t, "own"), Type: rapid.SampledFrom([]router.PathType{router.Prefix, router.Exact, router.Regex}).Draw(t, "type")}}
		if r.ID.Type == router.Regex {
			r.Pattern = pattern
		}
		asked := path.Draw(t, "asked")
		_, want := router.NewTable([]*router.Route{r}, nil).Lookup("a.test", asked)
		if got := r.Covers(asked); got != want {
			t.Fatalf("%s %s covers %s: %v, want %v", r.ID.Type, r.ID.Path, asked, got, want)
		}
	})
}
