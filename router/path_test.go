package router

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestCanonicalPath(t *testing.T) {
	tests := []struct {
		raw, want string
		dots      bool
		err       error
	}{
		{raw: "/", want: "/"},
		{raw: "/a/b", want: "/a/b"},
		{raw: "/a/b/", want: "/a/b/"},
		{raw: "/a.b/.c/..d/...", want: "/a.b/.c/..d/..."},
		{raw: "/a;x=1,2/b:c@d!$&'()*+", want: "/a;x=1,2/b:c@d!$&'()*+"},
		// Escapes.
		{raw: "/%61%2d%2E%5f%7e%39", want: "/a-._~9"},
		{raw: "/a%2fb", want: "/a%2Fb"},
		{raw: "/a%5cb%25%3b%3f%23", want: "/a%5Cb%25%3B%3F%23"},
		{raw: "/%252e%252e/x", want: "/%252e%252e/x"},
		{raw: "/%2565", want: "/%2565"},
		{raw: "/caf\xc3\xa9", want: "/caf%C3%A9"},
		{raw: "/caf%c3%a9", want: "/caf%C3%A9"},
		{raw: "/a b", want: "/a%20b"},
		{raw: "/a{b}|c^d`e", want: "/a%7Bb%7D%7Cc%5Ed%60e"},
		{raw: `/a\b"<>[]`, want: "/a%5Cb%22%3C%3E%5B%5D"},
		{raw: "/%0a", want: "/%0A"},
		{raw: "/%", err: ErrPathEscape},
		{raw: "/%2", err: ErrPathEscape},
		{raw: "/%zz", err: ErrPathEscape},
		{raw: "/%2%65", err: ErrPathEscape},
		{raw: "/a%00", err: ErrPathControl},
		{raw: "/a\x00", err: ErrPathControl},
		{raw: "/a\nb", err: ErrPathControl},
		{raw: "/a\x7f", err: ErrPathControl},
		{raw: "/a?b", err: ErrPathDelimiter},
		{raw: "/a#b", err: ErrPathDelimiter},
		// Slashes.
		{raw: "//", want: "/"},
		{raw: "//a///b//", want: "/a/b/"},
		// Dot segments.
		{raw: "/.", want: "/", dots: true},
		{raw: "/./", want: "/", dots: true},
		{raw: "/a/.", want: "/a/", dots: true},
		{raw: "/a/./b", want: "/a/b", dots: true},
		{raw: "/a/..", want: "/", dots: true},
		{raw: "/a/../", want: "/", dots: true},
		{raw: "/a/b/../c", want: "/a/c", dots: true},
		{raw: "/a/b/..", want: "/a/", dots: true},
		{raw: "/a//../b", want: "/b", dots: true},
		{raw: "/a/%2e%2E/b", want: "/b", dots: true},
		{raw: "/a/.%2e/b/%2e", want: "/b/", dots: true},
		{raw: "/ip/abc/../../uuid", want: "/uuid", dots: true},
		{raw: "/..", err: ErrPathAboveRoot, dots: true},
		{raw: "/../a", err: ErrPathAboveRoot, dots: true},
		{raw: "/a/../../b", err: ErrPathAboveRoot, dots: true},
		{raw: "/a/%2e%2e/%2e%2e/a", err: ErrPathAboveRoot, dots: true},
		{raw: "//..", err: ErrPathAboveRoot, dots: true},
		// An encoded slash does not end an element.
		{raw: "/a%2f..%2fb", want: "/a%2F..%2Fb"},
		{raw: "/a/..%2f", want: "/a/..%2F"},
		{raw: "", err: ErrPathRelative},
		{raw: "a", err: ErrPathRelative},
		{raw: "*", err: ErrPathRelative},
		{raw: "%2fa", err: ErrPathRelative},
	}
	for _, tt := range tests {
		got, dots, err := CanonicalPath(make([]byte, 0, 64), []byte(tt.raw))
		if string(got) != tt.want || dots != tt.dots || !errors.Is(err, tt.err) {
			t.Errorf("CanonicalPath(%q) = %q, %v, %v; want %q, %v, %v", tt.raw, got, dots, err, tt.want, tt.dots, tt.err)
		}
		s, dots, err := CanonicalPathString(tt.raw)
		if s != tt.want || dots != tt.dots || !errors.Is(err, tt.err) {
			t.Errorf("CanonicalPathString(%q) = %q, %v, %v; want %q, %v, %v", tt.raw, s, dots, err, tt.want, tt.dots, tt.err)
		}
	}
}

// TestCanonicalPathAllocs holds the costs that the request path relies on: nothing for a canonical path, and nothing but
// the caller's buffer for another.
func TestCanonicalPathAllocs(t *testing.T) {
	dst := make([]byte, 0, 256)
	for _, raw := range []string{"/api/v1/users/42%20x", "/api//v1/./users/%7e42/caf\xe9"} {
		b := []byte(raw)
		if n := testing.AllocsPerRun(100, func() { _, _, _ = CanonicalPath(dst, b) }); n != 0 {
			t.Errorf("CanonicalPath(%q): %v allocations, want 0", raw, n)
		}
	}
	clean := []byte("/a/b")
	if got, _, _ := CanonicalPath(dst, clean); &got[0] != &clean[0] {
		t.Error("a canonical path was copied")
	}
}

// naiveCanonicalPath is the specification step by step, one whole pass for each.
func naiveCanonicalPath(raw string) (string, bool, bool) {
	var escaped strings.Builder
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c < 0x20 || c == 0x7f || c == '?' || c == '#' {
			return "", false, false
		}
		if c == '%' {
			if i+2 >= len(raw) || !strings.ContainsRune("0123456789abcdefABCDEF", rune(raw[i+1])) || !strings.ContainsRune("0123456789abcdefABCDEF", rune(raw[i+2])) {
				return "", false, false
			}
			hex := strings.ToUpper(raw[i+1 : i+3])
			b := byte(strings.IndexByte("0123456789ABCDEF", hex[0])<<4 | strings.IndexByte("0123456789ABCDEF", hex[1]))
			i += 2
			if b == 0 {
				return "", false, false
			}
			if unreserved(b) {
				escaped.WriteByte(b)
			} else {
				escaped.WriteString("%" + hex)
			}
			continue
		}
		if c >= 0x80 || strings.IndexByte(" \"<>\\^`{|}[]", c) >= 0 {
			escaped.Write(appendEscape(nil, c))
			continue
		}
		escaped.WriteByte(c)
	}
	s := escaped.String()
	if !strings.HasPrefix(raw, "/") {
		return "", false, false
	}
	for strings.Contains(s, "//") {
		s = strings.ReplaceAll(s, "//", "/")
	}
	var out []string
	dots := false
	elems := strings.Split(s[1:], "/")
	for i, e := range elems {
		switch e {
		case ".", "..":
			dots = true
			if e == ".." {
				if len(out) == 0 {
					return "", false, false
				}
				out = out[:len(out)-1]
			}
			if i == len(elems)-1 {
				out = append(out, "")
			}
		default:
			out = append(out, e)
		}
	}
	return "/" + strings.Join(out, "/"), dots, true
}

func FuzzCanonicalPath(f *testing.F) {
	for _, s := range []string{"/", "/a/%2e./b//c/..", "/%41%zz", "/\xff/..;/x", "/a/././../b/", "//%2F/.%2e"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		got, dots, err := CanonicalPath(nil, raw)
		if !bytes.Equal(raw, before) {
			t.Fatalf("%q: the input was changed", before)
		}
		want, wantDots, ok := naiveCanonicalPath(string(raw))
		if ok != (err == nil) || ok && (string(got) != want || dots != wantDots) {
			t.Fatalf("CanonicalPath(%q) = %q, %v, %v; the specification says %q, %v, %v", raw, got, dots, err, want, wantDots, ok)
		}
		if err != nil {
			return
		}
		if len(got) > 3*len(raw) {
			t.Fatalf("%q grew to %d bytes", raw, len(got))
		}
		again, dots, err := CanonicalPath(nil, got)
		if err != nil || dots || !bytes.Equal(again, got) {
			t.Fatalf("canonical %q of %q became %q, %v, %v", got, raw, again, dots, err)
		}
	})
}

func BenchmarkCanonicalPath(b *testing.B) {
	for name, raw := range map[string]string{
		"canonical": "/api/v1/namespaces/default/pods",
		"rewritten": "/api//v1/./namespaces/%64efault/../pods",
		"8KiB":      strings.Repeat("/a", 4096),
	} {
		b.Run(name, func(b *testing.B) {
			src, dst := []byte(raw), make([]byte, 0, 3*len(raw))
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = CanonicalPath(dst, src)
			}
		})
	}
}
