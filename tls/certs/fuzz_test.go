package certs_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
)

// matches is what Publish promises of one host and one server name, written without care for speed.
func matches(host, name string) bool {
	lower := func(s string) string {
		return strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				return r + 'a' - 'A'
			}
			return r
		}, strings.TrimSuffix(s, "."))
	}
	host, name = lower(host), lower(name)
	if host == "" || name == "" || len(host) > 253 || len(name) > 253 || strings.HasSuffix(host, ".") || strings.HasSuffix(name, ".") {
		return false
	}
	parent, wildcard := strings.CutPrefix(host, "*.")
	if parent == "" || strings.Contains(parent, "*") {
		return false
	}
	if !wildcard {
		return host == name
	}
	first, rest, found := strings.Cut(name, ".")
	return found && first != "" && rest == parent
}

func FuzzServerName(f *testing.F) {
	for _, pair := range [][2]string{
		{"a.test", "A.TEST."}, {"*.a.test", "x.a.test"}, {"*.a.test", "x.y.a.test"}, {"*.", "x."}, {"*", "x"}, {"*.*.a", "x.*.a"},
		{"", ""}, {".", "."}, {"..", "."}, {"a..", "a.."}, {"*..", "a.."}, {"a..b", "a..b."}, {"*.a.", "b.a."}, {strings.Repeat("a", 253), strings.Repeat("A", 253) + "."},
	} {
		f.Add(pair[0], pair[1])
	}
	pair := pairFor(f, "a.test")
	s := newStore(f, certs.Options{})
	f.Fuzz(func(t *testing.T, host, name string) {
		// The oracle folds runes where the store folds bytes: the same, but for bytes that are no UTF-8.
		host, name = strings.ToValidUTF8(host, "?"), strings.ToValidUTF8(name, "?")
		s.Publish([]*router.Certificate{cert("s", pair, host)}, nil)
		if got, want := served(t, s, name) == pair, matches(host, name); got != want {
			t.Errorf("host %q, name %q: served %v, want %v", host, name, got, want)
		}
	})
}
