package exchange_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/test/vectors"
)

// headOf cuts a request as a codec would. ok is false for what no codec lets through.
func headOf(in string) (a ask, ok bool) {
	head, rest, ok := strings.Cut(strings.TrimLeft(in, "\r\n"), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	w := strings.Split(lines[0], " ")
	if !ok || len(w) != 3 || !isToken(w[0]) || len(w[0]) > 64 || w[1] == "" || strings.ContainsFunc(w[1], notTarget) {
		return a, false
	}
	a = ask{method: w[0], target: w[1], version: exchange.HTTP11, body: rest != ""}
	switch w[2] {
	case "HTTP/1.0":
		a.version = exchange.HTTP10
	case "HTTP/2":
		a.version = exchange.HTTP2
	}
	for _, l := range lines[1:] {
		name, value, found := strings.Cut(l, ":")
		value = strings.Trim(value, " \t")
		if !found || !isToken(name) || strings.ContainsFunc(value, notValue) {
			return a, false
		}
		a.lines = append(a.lines, name+": "+value)
	}
	return a, true
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) })
}

func notTarget(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }

func notValue(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// FuzzValidate holds what everything behind Validate relies on: the one path on which decisions are made, and its agreement with the
// bytes that are sent on; one host; nothing left that ends at this hop; and a verdict that does not change when it is asked for again.
func FuzzValidate(f *testing.F) {
	all, err := vectors.All()
	if err != nil {
		f.Fatal(err)
	}
	for i, v := range all {
		if len(v.Input) > 2000 || v.Octet {
			continue
		}
		f.Add([]byte(v.Input), i%2 == 0)
		if i%8 == 0 {
			f.Add([]byte(strings.Replace(v.Input, "HTTP/1.1", "HTTP/2", 1)), i%16 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, tls bool) {
		a, ok := headOf(string(data))
		if !ok {
			return
		}
		a.tls = tls
		status, r := a.judge(t)
		if status != 0 {
			if !slices.Contains([]int{400, 405, 417, 501}, status) {
				t.Fatalf("%+v: %d", a, status)
			}
			return
		}
		judgePath(t, a, r)
		judgeHost(t, a, r)
		judgeFields(t, a, r)
		again(t, a, r)
	})
}

func judgePath(t *testing.T, a ask, r *exchange.Request) {
	t.Helper()
	target := string(r.RawPath)
	if r.HasQuery {
		target += "?" + string(r.RawQuery)
	}
	if string(r.Target) != target {
		t.Fatalf("%+v: target %q of path %q and query %q", a, r.Target, r.RawPath, r.RawQuery)
	}
	if target == "*" {
		if a.method != "OPTIONS" {
			t.Fatalf("%+v is good", a)
		}
		return
	}
	if c, dots, err := router.CanonicalPathString(string(r.Path)); err != nil || dots || c != string(r.Path) {
		t.Fatalf("%+v: path %q is not canonical: %q, %v", a, r.Path, c, err)
	}
	// What the Pod gets has no dot segments, and is the path that was decided on in another spelling at most.
	if c, dots, err := router.CanonicalPathString(string(r.SendPath())); err != nil || dots || c != string(r.Path) {
		t.Fatalf("%+v: %q is sent on for %q", a, r.SendPath(), r.Path)
	}
}

func judgeHost(t *testing.T, a ask, r *exchange.Request) {
	t.Helper()
	if a.version == exchange.HTTP10 && len(r.Authority) == 0 {
		if len(r.Hostname) > 0 {
			t.Fatalf("%+v: host %q of nothing", a, r.Hostname)
		}
		return
	}
	host := string(r.Hostname)
	rest, ok := strings.CutPrefix(strings.ToLower(string(r.Authority)), host)
	if !ok || host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, "/?#@%,\\ \t") {
		t.Fatalf("%+v: host %q of %q", a, host, r.Authority)
	}
	rest = strings.TrimPrefix(rest, ".")
	if port, ok := strings.CutPrefix(rest, ":"); rest != "" && (!ok || strings.Trim(port, "0123456789") != "") {
		t.Fatalf("%+v: %q behind the host in %q", a, rest, r.Authority)
	}
	if r.Fields.Count(exchange.Host) != 1 || !bytes.Equal(r.Fields.Get(exchange.Host), r.Authority) {
		t.Fatalf("%+v: Host %q, authority %q", a, r.Fields.Get(exchange.Host), r.Authority)
	}
}

func judgeFields(t *testing.T, a ask, r *exchange.Request) {
	t.Helper()
	for i := range r.Fields.Len() {
		_, name, value, ok := r.Fields.At(i)
		if !ok {
			continue
		}
		switch strings.ToLower(string(name)) {
		case "trailer":
			if r.Body == nil {
				t.Fatalf("%+v: field %s: %s is left", a, name, value)
			}
		case "te":
			if ok = string(value) == "trailers" && r.TrailersOK; ok {
				continue
			}
			fallthrough
		case "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "transfer-encoding", "upgrade",
			"http2-settings", "expect", "proxy":
			t.Fatalf("%+v: field %s: %s is left", a, name, value)
		}
	}
	token := strings.ToLower(string(r.Upgrade))
	switch {
	case token != "" && (a.version != exchange.HTTP11 || a.body || token == "h2c" || token == "tls" || strings.HasPrefix(token, "tls/")):
		t.Fatalf("%+v: upgrade to %q", a, r.Upgrade)
	case r.ExpectContinue && (!a.body || a.version == exchange.HTTP10):
		t.Fatalf("%+v expects 100", a)
	}
}

// again validates the request that r has become.
func again(t *testing.T, a ask, r *exchange.Request) {
	t.Helper()
	b := ask{method: a.method, target: string(r.SendPath()), version: exchange.HTTP11, tls: a.tls, body: a.body}
	if r.HasQuery {
		b.target += "?" + string(r.RawQuery)
	}
	for i := range r.Fields.Len() {
		if _, name, value, ok := r.Fields.At(i); ok {
			b.lines = append(b.lines, string(name)+": "+string(value))
		}
	}
	if len(r.Authority) == 0 {
		return // the engine adds a Host
	}
	status, s := b.judge(t)
	if status != 0 || !bytes.Equal(s.Path, r.Path) || !bytes.Equal(s.Hostname, r.Hostname) || s.Fields.Size() != r.Fields.Size() {
		t.Fatalf("%+v became %+v, and that %d %q %q %q", a, b, status, s.Path, s.Hostname, s.Fields.AppendTo(nil))
	}
}
