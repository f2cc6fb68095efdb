package expr_test

import (
	"bytes"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
)

// FuzzParseAppend: no text and no request make Parse or Append panic; what Parse takes has no control characters and never
// gives one; the value follows what dst held, and is the same whether there is room or not.
func FuzzParseAppend(f *testing.F) {
	f.Add("https://$host/start?rd=$scheme://$http_host$escaped_request_uri", "/a%2F..%0d%0ab?x=%00&y", "a=1; b", "Basic YTpi")
	f.Add("${uri}$arg_x$cookie_a$1", "/%25%2e%2E%2f//", "a", "basic =")
	f.Add("$", "/", "", "")
	f.Add("$uri$remote_user", "/%2F%2F%2F..%2F.", ";,= a=", "Basic Og==")
	f.Fuzz(func(t *testing.T, text, target, cookies, authorization string) {
		e, err := expr.Parse(text)
		if err != nil {
			if e != nil || len(err.Error()) > 250 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if strings.ContainsAny(target, "\r\n\x00#") || !strings.HasPrefix(target, "/") {
			return
		}
		x := exchange.New()
		q := &x.Request
		q.Method, q.Version, q.Target = []byte("GET"), exchange.HTTP11, []byte(target)
		q.Fields.AddString("Host", "a.example")
		q.Fields.AddString("Cookie", clean(cookies))
		q.Fields.AddString("Authorization", clean(authorization))
		if x.Validate() != nil {
			return
		}
		for how := expr.EscapeText; how <= expr.EscapeNone; how++ {
			first := e.AppendEscaped([]byte("before"), x, how)
			second := e.AppendEscaped(append(make([]byte, 0, 64<<10), "before"...), x, how)
			if !bytes.HasPrefix(first, []byte("before")) || !bytes.Equal(first, second) && !changing(text) {
				t.Fatalf("%q, escape %d: %q and %q", text, how, first, second)
			}
			if how != expr.EscapeNone && bytes.ContainsAny(first, "\r\n\x00") {
				t.Fatalf("%q, escape %d: %q", text, how, first)
			}
		}
		if value, ok := e.Constant(); ok && value != text {
			t.Fatalf("%q has the constant value %q", text, value)
		}
	})
}

// clean makes a value that a codec would let through.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// changing reports whether a text has a variable that differs between two calls.
func changing(text string) bool {
	lower := strings.ToLower(text)
	return strings.Contains(lower, "time") || strings.Contains(lower, "msec")
}
