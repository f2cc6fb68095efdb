package expr_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
)

// everyByte is a request whose decoded path holds every byte but NUL, which no canonical path can hold.
func everyByte(t testing.TB) (x *exchange.Exchange, decoded string) {
	t.Helper()
	var encoded, plain strings.Builder
	encoded.WriteByte('/')
	plain.WriteByte('/')
	for c := 1; c < 256; c++ {
		if c == '/' || c == '.' {
			continue // would be resolved
		}
		fmt.Fprintf(&encoded, "%%%02X", c)
		plain.WriteByte(byte(c))
	}
	return get(t, encoded.String()), plain.String()
}

// slowly escapes by nginx's documentation, a byte at a time.
func slowly(value string, how expr.Escape) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		switch {
		case how == expr.EscapeText && (c < 0x20 || c == 0x7f),
			how == expr.EscapeURL && (c <= 0x20 || c >= 0x7f || strings.ContainsRune("\"#<>\\^`{|}", rune(c))):
			fmt.Fprintf(&b, "%%%02X", c)
		case how == expr.EscapeLog && (c < 32 || c > 126 || c == '"' || c == '\\'):
			fmt.Fprintf(&b, `\x%02X`, c)
		case how == expr.EscapeJSON && (c == '"' || c == '\\'):
			b.WriteString(`\` + string(rune(c)))
		case how == expr.EscapeJSON && c < 32:
			short, ok := map[byte]string{'\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`}[c]
			if !ok {
				short = fmt.Sprintf(`\u%04X`, c)
			}
			b.WriteString(short)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func TestEscapes(t *testing.T) {
	t.Parallel()
	x, decoded := everyByte(t)
	// Literal text is never escaped, whatever it holds.
	e := parse(t, "\"é\\ $uri\\")
	for _, how := range []expr.Escape{expr.EscapeText, expr.EscapeURL, expr.EscapeLog, expr.EscapeJSON, expr.EscapeNone} {
		want := "\"é\\ " + slowly(decoded, how) + "\\"
		for _, room := range []int{0, 10, 2000} {
			if got := string(e.AppendEscaped(make([]byte, 0, room), x, how)); got != want {
				t.Errorf("escape %d:\n got %q\nwant %q", how, got, want)
			}
		}
	}
}

// TestNoLineEnds: whatever a client sends, no value for a header field, a URL or a log ends a line, and none ends a C string.
func TestNoLineEnds(t *testing.T) {
	t.Parallel()
	x, _ := everyByte(t)
	x.Client.Addr = netip.MustParseAddr("10.13.0.10") // as bytes: LF, CR, NUL, LF
	for _, v := range expr.Variables() {
		e := parse(t, "$"+strings.Replace(v.Name, "NAME", "x", 1))
		for _, how := range []expr.Escape{expr.EscapeText, expr.EscapeURL, expr.EscapeLog, expr.EscapeJSON} {
			if got := e.AppendEscaped(nil, x, how); bytes.ContainsAny(got, "\r\n\x00") {
				t.Errorf("$%s, escape %d: %q", v.Name, how, got)
			}
		}
	}
	if got := parse(t, "$binary_remote_addr").AppendEscaped(nil, x, expr.EscapeNone); string(got) != "\n\r\x00\n" {
		t.Errorf("as a key: %q", got)
	}
}

// TestURL: a value is a part of the URL that it is put in, and no more.
func TestURL(t *testing.T) {
	t.Parallel()
	x, _ := everyByte(t)
	got := string(parse(t, "http://auth.example/check?from=$uri").AppendEscaped(nil, x, expr.EscapeURL))
	u, err := url.ParseRequestURI(got)
	if err != nil || u.Host != "auth.example" || u.Path != "/check" || strings.ContainsAny(got, " #") {
		t.Errorf("%s: %+v, %v", got, u, err)
	}
	escaped := string(parse(t, "$escaped_request_uri").Append(nil, x))
	if back, err := url.QueryUnescape(escaped); err != nil || back != string(x.Request.Target) || strings.ContainsAny(escaped, "/?&=+") {
		t.Errorf("$escaped_request_uri: %q, %v", escaped, err)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	x := get(t, "/a%01%22%5C%0A%7F%C3%A9")
	line := parse(t, `{"uri":"$uri","user":"$remote_user"}`).AppendEscaped(nil, x, expr.EscapeJSON)
	var read struct{ URI, User string }
	if err := json.Unmarshal(line, &read); err != nil || read.URI != "/a\x01\"\\\n\x7fé" || read.User != "" {
		t.Errorf("%s: %+v, %v", line, read, err)
	}
}
