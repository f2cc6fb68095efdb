package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a DNS server on loopback, over UDP and TCP on one port.
// records makes an answer of A, AAAA and CNAME records: "name ttl data".
// resolver returns a Resolver with a resolv.conf that lists the servers.
// replace makes the server send something else than its answers.
func TestLookup(t *testing.T) {
	f := serve(t)
	f.put("a.example.", records("A.Example. 60s 192.0.2.1", "a.example. 30s 192.0.2.2", "a.example. 60s 192.0.2.1"))
	f.put("six.example.", records("six.example. 60s 2001:db8::1", "six.example. 60s ::ffff:192.0.2.9"))
	f.put("both.example.", records("both.example. 60s 2001:db8::1", "both.example. 50s 192.0.2.1"))
	f.put("alias.example.", records("alias.example. 20s a.example.", "a.example. 60s 192.0.2.1"))
	f.put("open.example.", records("open.example. 10s alias.example."))
	f.put("loop.example.", records("loop.example. 10s pool.example.", "pool.example. 10s LOOP.example."))
	f.put("long0.example.", records("long0.example. 10s long1.example."))
	f.put("long1.example.", records("long1.example. 10s long0.example."))
	f.put("dangling.example.", func(m *dnsmessage.Message) {
		records("dangling.example. 10s none.example.")(m)
		m.RCode = dnsmessage.RCodeNameError
	})
	f.put("empty.example.", records())
	f.put("now.example.", records("now.example. 0s 192.0.2.1"))
	f.put("stray.example.", records("other.example. 60s 192.0.2.66"))
	r := resolver(t, "", f.addr)
	for _, c := range []struct {
		name string
		want []netip.Addr
		ttl  time.Duration
		err  string
	}{
		{"a.example", addrs("192.0.2.1", "192.0.2.2"), 30 * time.Second, ""},
		{"A.EXAMPLE.", addrs("192.0.2.1", "192.0.2.2"), 30 * time.Second, ""},
		{"six.example", addrs("192.0.2.9", "2001:db8::1"), 60 * time.Second, ""},
		{"both.example", addrs("192.0.2.1", "2001:db8::1"), 50 * time.Second, ""},
		{"alias.example", addrs("192.0.2.1"), 20 * time.Second, ""},
		{"open.example", addrs("192.0.2.1"), 10 * time.Second, ""},
		{"now.example", addrs("192.0.2.1"), 0, ""},
		{"loop.example", nil, 0, "no such host"},
		{"long0.example", nil, 0, "more than 8 aliases"},
		{"dangling.example", nil, 0, "no such host"},
		{"empty.example", nil, 0, "no such host"},
		{"stray.example", nil, 0, "no such host"},
		{"none.example", nil, 0, "no such host"},
		{"", nil, 0, "no such host"},
		{"a..example", nil, 0, "no such host"},
		{".", nil, 0, "no such host"},
		{strings.Repeat("x", 64) + ".example", nil, 0, "no such host"},
		{strings.Repeat("x.", 200), nil, 0, "no such host"},
	} {
		got, err := r.Lookup(t.Context(), c.name)
		if !slices.Equal(got.Addrs, c.want) || got.TTL != c.ttl || (err == nil) != (c.err == "") {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %s", c.name, err, c.err)
		}
		var missing *NotFoundError
		if errors.As(err, &missing) != (c.err == "no such host") {
			t.Errorf("%s: %T", c.name, err)
		}
	}
}

func TestSearchList(t *testing.T) {
	f := serve(t)
	f.put("db.prod.svc.cluster.local.", records("db.prod.svc.cluster.local. 5s 10.0.0.1"))
	f.put("www.example.", records("www.example. 5s 10.0.0.2"))
	r := resolver(t, "search shop.svc.cluster.local svc.cluster.local. cluster.local\noptions ndots:2", f.addr)
	for _, c := range []struct {
		name string
		want string
		as   []string
	}{
		{"db.prod", "10.0.0.1", []string{"db.prod.shop.svc.cluster.local.", "db.prod.svc.cluster.local."}},
		{"www.example.", "10.0.0.2", []string{"www.example."}},
		{"db.prod.svc.cluster.local", "10.0.0.1", []string{"db.prod.svc.cluster.local."}},
	} {
		got, err := r.Lookup(t.Context(), c.name)
		if err != nil || got.Addrs[0].String() != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		var want []string
		for _, n := range c.as {
			want = append(want, "udp "+n+" A", "udp "+n+" AAAA")
		}
		if asked := f.log(); !slices.Equal(asked, want) {
			t.Errorf("%s: asked %q, want %q", c.name, asked, want)
		}
	}
	// A domain of the list whose servers fail does not hide the name itself, but is not taken for an answer either.
	f.put("www.example.shop.svc.cluster.local.", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure })
	if got, err := r.Lookup(t.Context(), "www.example"); err != nil || got.Addrs[0].String() != "10.0.0.2" {
		t.Errorf("%v, %v", got, err)
	}
	f.put("x.example.shop.svc.cluster.local.", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure })
	_, err := r.Lookup(t.Context(), "x.example")
	var missing *NotFoundError
	if err == nil || errors.As(err, &missing) {
		t.Errorf("a failure became %v", err)
	}
}

func TestServersInTurn(t *testing.T) {
	good := serve(t)
	good.put("a.example.", records("a.example. 5s 10.0.0.1"))
	for _, c := range []struct {
		name string
		fill func(*dnsmessage.Message)
	}{
		{"failure", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure }},
		{"refusal", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeRefused }},
		{"referral", func(m *dnsmessage.Message) { m.RecursionAvailable = false }},
	} {
		bad := serve(t)
		bad.put("a.example.", c.fill)
		got, err := resolver(t, "", bad.addr, good.addr).Lookup(t.Context(), "a.example")
		if err != nil || got.Addrs[0].String() != "10.0.0.1" || len(bad.log()) != 2 {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		_, err = resolver(t, "options attempts:3", bad.addr).Lookup(t.Context(), "a.example")
		if err == nil || len(bad.log()) != 3 {
			t.Errorf("%s of the only server: %v", c.name, err)
		}
	}
}

func TestTruncatedAnswerIsAskedOverTCP(t *testing.T) {
	f := serve(t)
	var lines []string
	for i := range 100 {
		lines = append(lines, "big.example. 5s "+netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String())
	}
	f.put("big.example.", func(m *dnsmessage.Message) {
		records(lines...)(m)
		m.Truncated = m.Questions[0].Type == dnsmessage.TypeA
	})
	got, err := resolver(t, "", f.addr).Lookup(t.Context(), "big.example")
	if err != nil || len(got.Addrs) != 100 {
		t.Errorf("%d addresses, %v", len(got.Addrs), err)
	}
	want := []string{"udp big.example. A", "tcp big.example. A", "udp big.example. AAAA"}
	if asked := f.log(); !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
	got, err = resolver(t, "options use-vc", f.addr).Lookup(t.Context(), "big.example")
	if err != nil || len(got.Addrs) != 100 || !slices.Equal(f.log(), []string{"tcp big.example. A", "tcp big.example. AAAA"}) {
		t.Errorf("%d addresses, %v", len(got.Addrs), err)
	}
}

// Answers with another number, another question, or none at all are not ours.
func TestForgedAnswersAreIgnored(t *testing.T) {
	f := serve(t)
	f.put("a.example.", records("a.example. 5s 10.0.0.1"))
	forge := func(packed []byte, change func(*dnsmessage.Message)) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(packed); err != nil {
			t.Error(err)
		}
		for i := range m.Answers {
			if a, ok := m.Answers[i].Body.(*dnsmessage.AResource); ok {
				a.A = [4]byte{6, 6, 6, 6}
			}
		}
		change(&m)
		b, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return b
	}
	f.replace(func(packed []byte, _ bool) [][]byte {
		return [][]byte{
			nil, {1}, packed[:11],
			forge(packed, func(m *dnsmessage.Message) { m.ID++ }),
			forge(packed, func(m *dnsmessage.Message) { m.Response = false }),
			forge(packed, func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("b.example.") }),
			forge(packed, func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeMX }),
			forge(packed, func(m *dnsmessage.Message) { m.Questions = nil }),
			packed,
		}
	})
	got, err := resolver(t, "", f.addr).Lookup(t.Context(), "a.example")
	if err != nil || !slices.Equal(got.Addrs, addrs("10.0.0.1")) {
		t.Errorf("%v, %v", got, err)
	}
	f.replace(func(packed []byte, _ bool) [][]byte { return [][]byte{packed[:len(packed)-1]} })
	if got, err = resolver(t, "", f.addr).Lookup(t.Context(), "a.example"); err == nil {
		t.Errorf("a cut answer gave %v", got)
	}
}

func TestSilentServer(t *testing.T) {
	f := serve(t)
	f.replace(func([]byte, bool) [][]byte { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got, err := resolver(t, "", f.addr).Lookup(ctx, "a.example"); err == nil {
		t.Errorf("got %v", got)
	}
	if n := len(f.log()); n != 1 {
		t.Errorf("asked %d times after the caller had given up", n)
	}
}

func TestNoServer(t *testing.T) {
	closed := serve(t)
	r := resolver(t, "", closed.addr)
	r.Dial = func(context.Context, string, netip.AddrPort) (net.Conn, error) { return nil, errors.New("no network") }
	if got, err := r.Lookup(t.Context(), "a.example"); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("%v, %v", got, err)
	}
}

// Without a resolv.conf package net is asked, which knows no TTL.
func TestWithoutFile(t *testing.T) {
	r := &Resolver{File: filepath.Join(t.TempDir(), "none")}
	got, err := r.Lookup(t.Context(), "127.0.0.1")
	if err != nil || !slices.Equal(got.Addrs, addrs("127.0.0.1")) || got.TTL != FallbackTTL {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := (&Resolver{File: t.TempDir()}).Lookup(t.Context(), "a.example"); err == nil {
		t.Error("a folder was read as a file")
	}
}

func TestFileIsReadAgain(t *testing.T) {
	a, b := serve(t), serve(t)
	a.put("x.example.", records("x.example. 5s 10.0.0.1"))
	b.put("x.example.", records("x.example. 5s 10.0.0.2"))
	r := resolver(t, "", a.addr)
	for _, want := range []struct {
		server netip.AddrPort
		addr   string
	}{{a.addr, "10.0.0.1"}, {b.addr, "10.0.0.2"}} {
		text := "nameserver " + want.server.String() + "\n# " + want.addr + strings.Repeat("x", len(want.addr)+int(want.server.Port()%7))
		next := r.File + ".new"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, r.File); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Lookup(t.Context(), "x.example"); err != nil || got.Addrs[0].String() != want.addr {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func TestParseSettings(t *testing.T) {
	s, err := parseSettings(strings.NewReader(`
# a comment
; another
nameserver 10.96.0.10
nameserver nonsense
nameserver fe80::1%eth0
nameserver 127.0.0.1:5353
nameserver 192.0.2.1
domain old.example
search a.example. . b.example
options ndots:5 timeout:2 attempts:3 edns0 ndots:x timeout:0 attempts:-1
options timeout
lookup file bind
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.AddrPort{
		netip.MustParseAddrPort("10.96.0.10:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53"), netip.MustParseAddrPort("127.0.0.1:5353"),
	}
	if !slices.Equal(s.servers, want) || !slices.Equal(s.search, []string{"a.example.", "b.example."}) ||
		s.ndots != 5 || s.timeout != 2*time.Second || s.attempts != 3 || s.tcp {
		t.Errorf("%+v", s)
	}
	s, err = parseSettings(strings.NewReader("options ndots:99 timeout:99 attempts:99"))
	if err != nil || s.ndots != 15 || s.timeout != 30*time.Second || s.attempts != 5 || len(s.servers) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err = parseSettings(strings.NewReader(strings.Repeat("x", maxFile+1))); err == nil {
		t.Error("a line without end was accepted")
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("nameserver 10.0.0.1\nsearch a b\noptions ndots:5", "db.prod")
	f.Add("nameserver ::1\ndomain .", ".")
	f.Fuzz(func(t *testing.T, text, name string) {
		s, err := parseSettings(strings.NewReader(text))
		if err != nil {
			return
		}
		if len(s.servers) == 0 || s.attempts < 1 || s.timeout <= 0 || s.ndots < 0 || s.ndots > maxNdots {
			t.Errorf("%+v", s)
		}
		all := s.candidates(name)
		if len(all) == 0 || len(all) > maxSearch+1 {
			t.Errorf("%d candidates", len(all))
		}
		for _, c := range all {
			if !strings.HasPrefix(c, name) || !strings.HasSuffix(c, ".") {
				t.Errorf("candidate %q of %q", c, name)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	q, err := question("a.example.", dnsmessage.TypeA)
	if err != nil {
		f.Fatal(err)
	}
	for _, lines := range [][]string{{}, {"a.example. 5s 10.0.0.1"}, {"a.example. 5s b.example.", "b.example. 5s 10.0.0.1"}, {"a.example. 5s a.example."}} {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
		records(lines...)(&m)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseReply(b, 7, q)
		if err != nil {
			return
		}
		a, end := m.resolve(q)
		if len(a.Addrs) > maxAddresses || a.TTL < 0 || a.TTL > maxTTL || end == "" {
			t.Errorf("%v, %q", a, end)
		}
		for _, addr := range a.Addrs {
			if !addr.Is4() {
				t.Errorf("%v is an answer to a question for IPv4", addr)
			}
		}
	})
}
