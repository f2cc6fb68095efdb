package filters

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// TestRangesHas compares ranges with a walk through what they were made of, for addresses in, at the edges of, and beside them.
func TestRangesHas(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var prefixes []netip.Prefix
		for range random.IntN(40) {
			prefixes = append(prefixes, randomPrefix(random))
		}
		var list []string
		for _, p := range prefixes {
			list = append(list, p.String())
		}
		v := policy.Values{"k": strings.Join(list, ",")}
		if len(list) == 0 {
			v = policy.Values{}
		}
		r, err := parseRanges(v, "k")
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			a := randomPrefix(random).Addr()
			if len(prefixes) > 0 && random.IntN(2) == 0 {
				p := prefixes[random.IntN(len(prefixes))]
				a = []netip.Addr{p.Addr(), p.Addr().Prev(), p.Masked().Addr(), p.Masked().Addr().Prev(), last(p), last(p).Next()}[random.IntN(6)]
			}
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			if got := r.has(a); got != want {
				t.Fatalf("%v in %v: %v, want %v", a, prefixes, got, want)
			}
		}
	}
}

// randomPrefix returns one of a few close ones, so that many overlap.
func randomPrefix(random *rand.Rand) netip.Prefix {
	if random.IntN(2) == 0 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(random.IntN(2)) * 255, 0, byte(random.IntN(3)), byte(random.Uint32())}), random.IntN(33))
	}
	a := [16]byte{0x20, byte(random.IntN(2)), 7: byte(random.IntN(3)), 8: byte(random.IntN(2)) * 128, 15: byte(random.Uint32())}
	return netip.PrefixFrom(netip.AddrFrom16(a), random.IntN(129))
}

// last returns the last address of a range.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func TestRangesReadAddressesAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		list, address string
		want          bool
	}{
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7", "192.0.2.8", false},
		{"192.0.2.7/24", "192.0.2.200", true}, // the rest of the address counts for nothing
		{" 192.0.2.0/24 , 198.51.100.0/24 ,", "198.51.100.1", true},
		{"0.0.0.0/0", "255.255.255.255", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "192.0.2.7", false}, // as in nginx, where a list of IPv6 says nothing of IPv4
		{"::/0", "::ffff:192.0.2.7", false},
		{"192.0.2.0/24", "::ffff:192.0.2.7", true},
		{"::ffff:192.0.2.7", "192.0.2.7", true},
		{"::ffff:192.0.2.0/120", "192.0.2.200", true},
		{"::ffff:192.0.2.0/120", "192.0.3.1", false},
		{"fe80::/10", "fe80::1%eth0", true}, // a zone must not evade a list
		{"2001:DB8::/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true},
		{"2001:db8::/32", "2001:db9::", false},
		{"2001:db8::8/125", "2001:db8::f", true},
		{"2001:db8::8/125", "2001:db8::10", false},
	} {
		r, err := parseRanges(policy.Values{"k": c.list}, "k")
		if err != nil {
			t.Errorf("%s: %v", c.list, err)
			continue
		}
		if got := r.has(netip.MustParseAddr(c.address)); got != c.want {
			t.Errorf("%s in %s: %v, want %v", c.address, c.list, got, c.want)
		}
	}
	if new(ranges).has(netip.Addr{}) || !new(ranges).empty() {
		t.Error("nothing has something")
	}
}

// TestRangesText: equal ranges have equal text whatever the order, others have another one, and it is short.
func TestRangesText(t *testing.T) {
	t.Parallel()
	text := func(list string) string {
		r, err := parseRanges(policy.Values{"k": list}, "k")
		if err != nil {
			t.Fatal(err)
		}
		return r.String()
	}
	if a, b := text("10.0.0.0/8, 192.0.2.7, 10.0.0.0/8"), text("192.0.2.7/32,10.1.2.3/8"); a != b || a != "10.0.0.0/8, 192.0.2.7/32" {
		t.Errorf("%q, %q", a, b)
	}
	long := manyRanges(100)
	a, b := text(strings.Join(long, ",")), text(strings.Join(append(long[1:], "1.2.3.4"), ","))
	if a == b || len(a) > 100 {
		t.Errorf("%q, %q", a, b)
	}
}

// manyRanges are n ranges, half of them of IPv6.
func manyRanges(n int) []string {
	list := make([]string, n)
	for i := range list {
		if list[i] = fmt.Sprintf("10.%d.%d.0/28", i>>8, i&0xff); i%2 == 1 {
			list[i] = fmt.Sprintf("2001:db8:%x::/56", i)
		}
	}
	return list
}

func thousandRanges(tb testing.TB) *sourceRange {
	tb.Helper()
	v, err := parseSourceRange(policy.Values{"allowlist-source-range": strings.Join(manyRanges(1000), ",")})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestSourceRangeAllocatesNothing(t *testing.T) {
	v := thousandRanges(t)
	x := exchange.New()
	for _, a := range []string{"10.3.200.5", "2001:db8:99::1"} {
		x.Client.Addr = netip.MustParseAddr(a)
		if n := testing.AllocsPerRun(100, func() {
			if v.CheckAccess(x) != Allowed {
				t.Fatal(a)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", a, n)
		}
	}
}

func BenchmarkSourceRange(b *testing.B) {
	v := thousandRanges(b)
	for _, a := range []string{"10.3.200.5", "2001:db8:99::1"} {
		b.Run(a, func(b *testing.B) {
			x := exchange.New()
			x.Client.Addr = netip.MustParseAddr(a)
			b.ReportAllocs()
			for b.Loop() {
				if v.CheckAccess(x) != Allowed {
					b.Fatal(a)
				}
			}
		})
	}
}

// FuzzRanges: what is read can be asked, and says what net/netip says of the members one by one.
func FuzzRanges(f *testing.F) {
	f.Add("10.0.0.0/8, 2001:db8::/32,192.0.2.7", "10.0.0.1")
	f.Add("::ffff:10.0.0.0/104,::/0", "::ffff:10.0.0.1")
	f.Add("0.0.0.0/0,1.2.3.4/31", "fe80::1%x")
	f.Fuzz(func(t *testing.T, list, address string) {
		a, err := netip.ParseAddr(address)
		if err != nil {
			return
		}
		v := policy.Values{"k": list}
		r, err := parseRanges(v, "k")
		if err != nil {
			return
		}
		want := false
		for _, member := range v.List("k") {
			p, ok := parseRange(member)
			if !ok {
				t.Fatalf("%q is a member of what was read", member)
			}
			want = want || p.Contains(a.Unmap().WithZone(""))
		}
		if got := r.has(a); got != want {
			t.Fatalf("%s in %q: %v, want %v", a, list, got, want)
		}
	})
}
