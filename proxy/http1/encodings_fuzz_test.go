package http1_test

import (
	"strconv"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/test/vectors/mutate"
)

// FuzzEncodings holds invariant (7) as far as HTTP/1.1 goes: different encodings of one request are sent on as the same bytes, whether they
// differ in the spelling that HTTP/1.1 leaves to the sender, or are what a front codec of another version makes of the request.
func FuzzEncodings(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data, script []byte, _ uint16) {
		in := string(mutate.Apply(data, script))
		if q, ok := readByReference(in); !ok || readRequests(&piecewise{pieces: split(in[:q.used]), end: errSilent}, 1, tighter)[0].err != "" {
			return
		}
		want, ok := forwarded(t, in)
		if !ok {
			return
		}
		same(t, in, want)
	})
}

// same sends other encodings of the good request at the head of in, which is sent on as want.
func same(t *testing.T, in, want string) {
	t.Helper()
	q, _ := readByReference(in)
	for how, other := range respelled(q) {
		got, ok := forwarded(t, other)
		if !ok || plain(t, got) != plain(t, want) {
			t.Fatalf("%s: %.2000q is sent on as %.2000q, want %.2000q", how, other, got, want)
		}
	}
	if got := otherVersion(t, want); plain(t, got) != plain(t, want) {
		t.Fatalf("by another version %.2000q is sent on as %.2000q", want, got)
	}
}

// tighter are limits that leave room for what respelling adds.
var tighter = http1.Limits{RequestLine: 8<<10 - 300, HeaderBlock: 32<<10 - 2000, Fields: 90}

// plain is a request without what encodings may differ in: names in lower case, chunks joined, TE where it is written last.
func plain(t *testing.T, sent string) string {
	t.Helper()
	text := settled(sent)
	q, ok := readByReference(text)
	if !ok || q.used != len(text) {
		t.Fatalf("%.2000q is sent on", sent)
	}
	var b strings.Builder
	b.WriteString(q.method + " " + q.target + "\n")
	for i, name := range q.names {
		b.WriteString(strings.ToLower(name) + ": " + q.values[i] + "\n")
	}
	return b.String() + "\n" + q.body
}

// respelled are other spellings of q.
func respelled(q message) map[string]string {
	write := func(prefix, target string, field func(name, value string) string, body string) string {
		var b strings.Builder
		b.WriteString(prefix + q.method + " " + target + " HTTP/" + q.version + "\r\n")
		for i, name := range q.names {
			b.WriteString(field(name, q.values[i]) + "\r\n")
		}
		return b.String() + "\r\n" + body
	}
	as := func(name, value string) string { return name + ": " + value }
	body := q.body
	if len(q.all("Transfer-Encoding")) > 0 {
		body = chunks(q.body, "%x\r\n")
	}
	all := map[string]string{
		"empty lines": write("\r\n\r\n", q.target, as, body),
		"lower case":  write("", q.target, func(name, value string) string { return strings.ToLower(name) + ": " + value }, body),
		"upper case":  write("", q.target, func(name, value string) string { return strings.ToUpper(name) + ": " + value }, body),
		"no space":    write("", q.target, func(name, value string) string { return name + ":" + value }, body),
		"more space":  write("", q.target, func(name, value string) string { return name + ": \t" + value + " \t " }, body),
	}
	if len(q.all("Transfer-Encoding")) > 0 {
		all["other chunks"] = write("", q.target, as, chunks(q.body, "0%X;a=\"b\"\r\n"))
	}
	if host := q.all("Host"); len(host) == 1 && host[0] != "" && q.target[0] == '/' {
		all["absolute"] = write("", "http://"+host[0]+q.target, as, body)
	}
	return all
}

// chunks frames a body by chunks of seven bytes. format is that of a size line.
func chunks(body, format string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(7, len(body))
		size := strconv.FormatInt(int64(n), 16)
		b.WriteString(strings.NewReplacer("%x", size, "%X", strings.ToUpper(size)).Replace(format) + body[:n] + "\r\n")
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// otherVersion sends a request on as if the codec of another version had read it: fields in lower case in memory of the Exchange, no
// framing but the body's length, if that is known.
func otherVersion(t *testing.T, sent string) string {
	t.Helper()
	q, _ := readByReference(sent)
	x := exchange.New()
	defer x.Release()
	r := &x.Request
	r.Method, r.Target, r.Version = []byte(q.method), []byte(q.target), exchange.HTTP2
	if len(q.all("Upgrade")) > 0 {
		return sent // an upgrade is HTTP/1.1's alone
	}
	length := int64(-1)
	for i, name := range q.names {
		switch strings.ToLower(name) {
		case "transfer-encoding":
		case "content-length":
			length, _ = strconv.ParseInt(q.values[i], 10, 64)
			fallthrough
		default:
			r.Fields.AddString(strings.ToLower(name), q.values[i])
		}
	}
	if len(q.all("Transfer-Encoding")) > 0 || length > 0 {
		b := &parts{length: length}
		if q.body != "" {
			b.pieces = []string{q.body}
		}
		r.Body = b
	}
	if reject := x.Validate(); reject != nil {
		t.Fatalf("%.2000q, by another version: %v", sent, reject)
	}
	out, err := reserialise(x)
	if err != nil {
		t.Fatalf("%.2000q, by another version: %v", sent, err)
	}
	return out
}
