package upstream

import (
	"net/netip"
	"slices"
	"testing"
)

func TestRefused(t *testing.T) {
	x := External{
		Deny:  []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("2001:db8:bad::/48")},
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.96.7.0/24")},
	}
	var strict External
	for _, c := range []struct {
		addr        string
		strict, lax bool // refused
	}{
		{"192.0.2.1", false, false},
		{"10.0.0.1", false, false},
		{"2001:db8::1", false, false},
		{"fd12::1", false, false},
		{"127.0.0.1", true, false},
		{"127.255.0.3", true, false},
		{"::1", true, true},
		{"::ffff:127.0.0.1", true, false},
		{"::127.0.0.1", true, true},
		{"64:ff9b::7f00:1", true, true},
		{"2002:7f00:1::", true, true},
		{"0.0.0.0", true, true},
		{"0.1.2.3", true, true},
		{"::", true, true},
		{"169.254.169.254", true, true},
		{"::ffff:169.254.169.254", true, true},
		{"64:ff9b::a9fe:a9fe", true, true},
		{"64:ff9b::808:808", false, false},
		{"fe80::1", true, true},
		{"fe80::1%eth0", true, true},
		{"fd00:ec2::254", true, true},
		{"100.100.100.200", true, true},
		{"168.63.129.16", true, true},
		{"224.0.0.1", true, true},
		{"ff02::1", true, true},
		{"255.255.255.255", true, true},
		{"10.96.0.1", false, true},
		{"::ffff:10.96.0.1", false, true},
		{"64:ff9b::a60:1", false, true},
		{"10.96.7.1", false, false},
		{"2001:db8:bad::1", false, true},
	} {
		a := netip.MustParseAddr(c.addr)
		if got := strict.Refused(a); (got != "") != c.strict {
			t.Errorf("%s: %q by default", c.addr, got)
		}
		if got := x.Refused(a); (got != "") != c.lax {
			t.Errorf("%s: %q with lists", c.addr, got)
		}
	}
	if strict.Refused(netip.Addr{}) == "" {
		t.Error("the zero address is not refused")
	}
	own, err := interfaceAddresses()
	if err != nil || !slices.Contains(own, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("own addresses: %v, %v", own, err)
	}
}
