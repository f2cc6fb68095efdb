package observe

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"podlane.dev/podlane/proxy/exchange"
)

// fullEntry has every field set.
func fullEntry() *Entry {
	return &Entry{
		Time:       time.Date(2026, 3, 4, 5, 6, 7, 8_009_999, time.FixedZone("", 3600)),
		Client:     netip.MustParseAddrPort("192.0.2.1:40000"),
		Scheme:     "https",
		TLSVersion: tls.VersionTLS13,
		Method:     []byte("GET"),
		Host:       []byte("www.example.com"),
		Target:     []byte("/a/b?c=d&e"),
		Protocol:   "HTTP/1.1",
		Status:     200,
		Reason:     "no-endpoint",
		BytesIn:    12,
		BytesOut:   34567,
		Duration:   1234567 * time.Microsecond,
		FirstByte:  999 * time.Nanosecond,
		Generation: 42,
		Namespace:  "shop",
		Ingress:    "web",
		RuleHost:   "*.example.com",
		Route:      "/a",
		PathType:   "Prefix",
		Canary:     true,
		CanaryBy:   exchange.DecidedByWeight,
		Service:    "cart",
		Port:       "http",
		Pod:        "cart-6f9c-x",
		Endpoint:   netip.MustParseAddrPort("[2001:db8::1]:8080"),
		Tries:      2,
		Retry:      "connect-failed",
		Legs: []exchange.Leg{
			{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Pod: `"hostile`, Why: exchange.ConnectFailed, Whole: 2 * time.Millisecond},
			{
				Addr: netip.MustParseAddrPort("[2001:db8::1]:8080"), Pod: "cart-6f9c-x", Status: 200, Connect: time.Millisecond,
				FirstByte: 3 * time.Millisecond, Whole: time.Second,
			},
		},
		Trace:     exchange.TraceContext{TraceID: [16]byte{0: 0xab, 15: 0x01}},
		RequestID: []byte("c0ffee"),
		UserAgent: []byte("curl/8"),
		Referer:   []byte("https://example.com/x?y"),
	}
}

func line(c encoder, e *Entry) string { return string(c.append(nil, e)) }

func TestEntryLine(t *testing.T) {
	const want = `{"time":"2026-03-04T04:06:07.008009Z","client":"192.0.2.1:40000","method":"GET","scheme":"https","host":"www.example.com",` +
		`"path":"/a/b?c=d&e","protocol":"HTTP/1.1","status":200,"reason":"no-endpoint","bytes_in":12,"bytes_out":34567,"duration":1.234567,` +
		`"first_byte":0.000000,"generation":42,"namespace":"shop","ingress":"web","rule_host":"*.example.com",` +
		`"route":"/a","path_type":"Prefix","canary":true,"canary_by":"weight","service":"cart","port":"http",` +
		`"pod":"cart-6f9c-x","endpoint":"[2001:db8::1]:8080","tries":2,"retry":"connect-failed",` +
		`"attempts":[{"endpoint":"10.0.0.1:80","pod":"\"hostile","why":"connect-failed","upstream_duration":0.002000},` +
		`{"endpoint":"[2001:db8::1]:8080","pod":"cart-6f9c-x","status":200,"connect":0.001000,"upstream_first_byte":0.003000,"upstream_duration":1.000000}],` +
		`"trace_id":"ab000000000000000000000000000001","request_id":"c0ffee","user_agent":"curl/8",` +
		`"referer":"https://example.com/x?y","tls":"TLSv1.3"}` + "\n"
	if got := line(encoder{}, fullEntry()); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	// A field that was added to Entry and forgotten here or in the encoder.
	e := reflect.ValueOf(fullEntry()).Elem()
	for i := range e.NumField() {
		if e.Field(i).IsZero() {
			t.Errorf("fullEntry has no %s", e.Type().Field(i).Name)
		}
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(want), &fields); err != nil {
		t.Fatal(err)
	}
	if len(fields) != e.NumField() {
		t.Errorf("%d fields in the line, %d in Entry", len(fields), e.NumField())
	}
}

// The times of the only try stand on the line itself: its endpoint and Pod are there too.
func TestEntryWithOneTry(t *testing.T) {
	const want = `{"time":"0001-01-01T00:00:00.000000Z","status":0,"bytes_in":0,"bytes_out":0,"duration":0.000000,"tries":1,` +
		`"upstream_first_byte":0.003000,"upstream_duration":1.000000}` + "\n"
	e := &Entry{Tries: 1, Legs: []exchange.Leg{{Addr: netip.MustParseAddrPort("10.0.0.1:80"), FirstByte: 3 * time.Millisecond, Whole: time.Second, Reused: true}}}
	if got := line(encoder{}, e); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEmptyEntryLine(t *testing.T) {
	const want = `{"time":"0001-01-01T00:00:00.000000Z","status":0,"bytes_in":0,"bytes_out":0,"duration":0.000000}` + "\n"
	if got := line(encoder{}, &Entry{}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestURLsInLine(t *testing.T) {
	for _, c := range []struct{ raw, full, noQuery string }{
		{"/a?b", "/a?b", "/a"},
		{"/a", "/a", "/a"},
		{"?b", "?b", ""},
		{"*", "*", "*"},
		{"http://user:secret@a.test/x?y", "http://a.test/x?y", "http://a.test/x"},
		{"https://user@a.test", "https://a.test", "https://a.test"},
		{"https://a@b@c.test/", "https://c.test/", "https://c.test/"},
		{"https://a.test/@b?c@d", "https://a.test/@b?c@d", "https://a.test/@b"},
		{"https://a.test#x@y", "https://a.test#x@y", "https://a.test#x@y"},
		{"/go?to=http://a@b.test/", "/go?to=http://a@b.test/", "/go"},
		{"x?http://a@b", "x?http://a@b", "x"},
		{"a.test:443", "a.test:443", "a.test:443"},
		{"://a@b", "://a@b", "://a@b"},
		{"", "", ""},
	} {
		for drop, want := range map[bool]string{false: c.full, true: c.noQuery} {
			var got struct{ Path, Referer string }
			text := line(encoder{dropQuery: drop}, &Entry{Target: []byte(c.raw), Referer: []byte(c.raw)})
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if got.Path != want || got.Referer != want {
				t.Errorf("%q, drop query %v: got %q and %q, want %q", c.raw, drop, got.Path, got.Referer, want)
			}
		}
	}
}

func TestQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"":                          `""`,
		"plain é 世界 🚲":              `"plain é 世界 🚲"`,
		`a"b\c`:                     `"a\"b\\c"`,
		"\r\n\t":                    `"\r\n\t"`,
		"\x00\x1b[31m\x7f":          `"\u0000\u001b[31m\u007f"`,
		"\u0080\u009b1m\u00a0":      "\"\\u0080\\u009b1m\u00a0\"",
		"\u2028\u2029":              `"\u2028\u2029"`,
		"\u202eexe\u2066x":          `"\u202eexe\u2066x"`,
		"\u200f\u061c\ufeff":        `"\u200f\u061c\ufeff"`,
		"\ufffd":                    "\"\ufffd\"",
		"a\xff\xc3(\xe2\x80\xf0":    `"a\ufffd\ufffd(\ufffd\ufffd\ufffd"`,
		"\xed\xa0\x80":              `"\ufffd\ufffd\ufffd"`, // a surrogate in UTF-8
		"\xe2\x80":                  `"\ufffd\ufffd"`,
		`x","status":200,"x":"`:     `"x\",\"status\":200,\"x\":\""`,
		"x\"}\n{\"status\":\"200\"": `"x\"}\n{\"status\":\"200\""`,
	} {
		if got := string(appendQuoted(nil, in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		if got := string(appendQuoted(nil, []byte(in))); got != want {
			t.Errorf("%q as bytes: got %s, want %s", in, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"", "/a?b", "\xff\"\\\n", "\u2028\u202e", "http://a:b@c/d", "\x1b]0;x\a", "\xed\xa0\x80"} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, drop bool) {
		e := fullEntry()
		e.Method, e.Host, e.UserAgent, e.RequestID, e.Target, e.Referer = raw, raw, raw, raw, raw, raw
		got := encoder{dropQuery: drop}
		text := got.append(nil, e)
		if i := bytes.IndexByte(text, '\n'); i != len(text)-1 {
			t.Fatalf("a newline at %d of %d: %q", i, len(text), text)
		}
		for _, r := range string(text[:len(text)-1]) {
			if r < 0x20 || 0x7f <= r && r < 0xa0 || r == '\u2028' || r == '\u202e' {
				t.Errorf("%U as it is in %q", r, text)
			}
		}
		if !utf8.Valid(text) {
			t.Errorf("not UTF-8: %q", text)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := strings.ToValidUTF8(string(raw), "\ufffd")
		// ToValidUTF8 has one replacement for a run of bad bytes.
		collapse := func(s string) string {
			for strings.Contains(s, "\ufffd\ufffd") {
				s = strings.ReplaceAll(s, "\ufffd\ufffd", "\ufffd")
			}
			return s
		}
		if got, _ := fields["user_agent"].(string); collapse(got) != collapse(want) {
			t.Errorf("logged %q for %q", got, raw)
		}
		if fields["status"] != 200.0 {
			t.Errorf("status became %v", fields["status"])
		}
	})
}

func TestEncodingAllocatesNothing(t *testing.T) {
	e := fullEntry()
	e.UserAgent = []byte("é\u2028\xff\x00")
	buffer := make([]byte, 0, 4096)
	c := encoder{dropQuery: true}
	if n := testing.AllocsPerRun(100, func() { buffer = c.append(buffer[:0], e) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
