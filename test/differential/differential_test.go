package differential

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// oracle is another reader of HTTP.
type oracle interface {
	// read reads each text as what comes on one connection, and returns what it took for requests, in order.
	read(t *testing.T, texts []string) []reading
}

// reading is what an oracle made of one text.
type reading struct {
	requests []request
	// refusal is why it stopped, as far as it tells.
	refusal string
}

// sentinel is a request that stands behind each other: it must be read, as itself, or the two were not cut where they should be.
const sentinel = "GET /sentinel HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n"

// sentinel reports whether a sentinel may stand behind s: what comes behind an attempt to switch protocols is no HTTP.
func (s sent) sentinel() bool { return s.get("Upgrade") == "" }

// TestForwarded is the contract's invariant (2): what the engine accepts and sends to a Pod is for every oracle exactly one request, with
// equal method, target, fields and body.
func TestForwarded(t *testing.T) {
	all := forwarded(t, corpus(t))
	if len(all) < 500 {
		t.Fatalf("only %d requests reach the Pod", len(all))
	}
	t.Logf("%d different requests reach the Pod", len(all))
	texts := make([]string, len(all))
	for i, s := range all {
		if texts[i] = s.raw; s.sentinel() {
			texts[i] += sentinel
		}
	}
	for _, name := range []string{"net/http", "node", "nginx", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			readings := oracles[name](t).read(t, texts)
			used := map[*exception]int{}
			failures := 0
			for i, s := range all {
				what := s.differs(name, readings[i])
				if what == "" {
					continue
				}
				if x := excuse(name, what, []request{s.request}, s.raw); x != nil {
					used[x]++
					continue
				}
				if failures++; failures <= 20 {
					t.Errorf("%s\nof %.2000q\nread as %.3000q", what, s.raw, readings[i])
				}
			}
			report(t, name, used, failures)
		})
	}
}

// TestAccepted is the contract's invariant (3): what we accept from a client, strict llhttp accepts too, as the same requests.
func TestAccepted(t *testing.T) {
	var all []accepted
	var texts []string
	for _, in := range corpus(t) {
		if a, ok := accept(in); ok {
			all, texts = append(all, a), append(texts, a.raw)
		}
	}
	if len(all) < 500 {
		t.Fatalf("only %d inputs are accepted", len(all))
	}
	t.Logf("of %d inputs the codec accepts one request or more", len(all))
	readings := oracles["node"](t).read(t, texts)
	used := map[*exception]int{}
	failures := 0
	for i, a := range all {
		what := a.differs(readings[i])
		if what == "" {
			continue
		}
		if x := excuse("node, clients", what, a.requests, a.raw); x != nil {
			used[x]++
			continue
		}
		if failures++; failures <= 20 {
			t.Errorf("%s\nof %.2000q\naccepted as %.3000q\nread as %.3000q", what, a.raw, a.requests, readings[i])
		}
	}
	report(t, "node, clients", used, failures)
}

// report says how often each exception was needed. One that was not may be another version's: the list was reviewed with llhttp 9.3.1,
// nginx 1.22.1 and HAProxy 2.6.12.
func report(t *testing.T, name string, used map[*exception]int, failures int) {
	t.Helper()
	if failures > 20 {
		t.Errorf("and %d more", failures-20)
	}
	for i := range exceptions {
		x := &exceptions[i]
		switch {
		case x.oracle != name:
		case used[x] == 0:
			t.Logf("not needed by this version of %s: %s", name, x.reason)
		default:
			t.Logf("%5d times: %s", used[x], x.reason)
		}
	}
}

// differs says how an oracle's reading of s with the sentinel behind it differs from what the engine meant, "" for not at all.
func (s sent) differs(oracle string, r reading) string {
	rest := r.requests
	if len(rest) == 0 {
		return "refused: " + r.refusal
	}
	rest = rest[1:]
	if s.sentinel() && len(rest) > 0 && rest[0].target == "/sentinel" && rest[0].get("Host") == "sentinel" {
		rest = rest[1:]
	} else if s.sentinel() {
		return "not one request, the next is not found: " + r.refusal
	}
	if len(rest) > 0 {
		return fmt.Sprintf("not one request, but also %.300q", rest)
	}
	got := r.requests[0]
	switch {
	case got.method != s.method:
		return fmt.Sprintf("method %q", got.method)
	case got.target != s.target:
		return fmt.Sprintf("target %q", got.target)
	case got.body != s.body:
		return fmt.Sprintf("body %.100q", got.body)
	}
	return compareFields(s.fields, got.fields, unseen[oracle])
}

// compareFields compares fields by name, in any order of names, in order within one. unseen are fields that are none of the oracle's
// business.
func compareFields(want, got []field, unseen []string) string {
	byName := func(fields []field) map[string][]string {
		m := map[string][]string{}
		for _, f := range fields {
			if name := strings.ToLower(f.name); !slices.Contains(unseen, name) {
				m[name] = append(m[name], f.value)
			}
		}
		return m
	}
	a, b := byName(want), byName(got)
	for name, values := range a {
		if !slices.Equal(values, b[name]) {
			return fmt.Sprintf("field %s %.200q", name, b[name])
		}
	}
	for name, values := range b {
		if a[name] == nil {
			return fmt.Sprintf("field %s %.200q", name, values)
		}
	}
	return ""
}

// differs says how node's reading of what was accepted differs, "" for not at all.
func (a accepted) differs(r reading) string {
	for i, q := range a.requests {
		switch {
		case i >= len(r.requests):
			return "refused: " + r.refusal
		case r.requests[i].method != q.method:
			return fmt.Sprintf("method %q", r.requests[i].method)
		case r.requests[i].target != q.target:
			return fmt.Sprintf("target %q", r.requests[i].target)
		case r.requests[i].body != q.body:
			return fmt.Sprintf("body %.100q", r.requests[i].body)
		}
	}
	if len(r.requests) > len(a.requests) {
		return fmt.Sprintf("%d requests", len(r.requests))
	}
	return ""
}

// oracles start each oracle, or skip the test where it is not installed.
var oracles = map[string]func(t *testing.T) oracle{
	"net/http": newNetHTTP, "node": newNode, "nginx": newNginx, "haproxy": newHAProxy,
}
