package upstream

import (
	"net"
	"net/netip"
	"slices"
)

// Addresses that an ExternalName Service never reaches (SECURITY.md C6): whoever may write a Service would else borrow the
// proxy's place in the network to reach what trusts this machine, or this node.

// metadata are the services of clouds that hand credentials to whoever asks from the machine, beside 169.254.169.254.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // Linux takes it for loopback
	broadcast   = netip.MustParseAddr("255.255.255.255")
	nat64       = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: the last 4 bytes are an IPv4 address
	sixToFour   = netip.MustParsePrefix("2002::/16")    // RFC 3056: bytes 2 to 5 are
	compatible  = netip.MustParsePrefix("::/96")        // RFC 4291: the last 4 bytes are
)

// Refused says why an ExternalName Service may not reach a, or returns "".
func (x *External) Refused(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if contains(x.Allow, a) {
		return ""
	}
	if contains(x.Deny, a) {
		return "the operator denies it"
	}
	if why := special(a); why != "" {
		return why
	}
	inner, ok := embedded(a)
	if !ok {
		return ""
	}
	if why := special(inner); why != "" {
		return why + ", in another form"
	}
	if contains(x.Deny, inner) {
		return "the operator denies it, in another form"
	}
	return ""
}

// special says what is special about a, or returns "".
func special(a netip.Addr) string {
	switch {
	case !a.IsValid(), a.IsUnspecified(), thisNetwork.Contains(a):
		return "it is unspecified"
	case a.IsLoopback():
		return "it is loopback"
	case a.IsLinkLocalUnicast():
		return "it is link-local, where clouds have their metadata service"
	case a.IsMulticast(), a == broadcast:
		return "it is multicast"
	}
	if slices.Contains(metadata, a) {
		return "it is a cloud's metadata service"
	}
	return ""
}

// embedded returns the IPv4 address that a translator on the way would make of a.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case a.Is4():
		return netip.Addr{}, false
	case nat64.Contains(a), compatible.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// interfaceAddresses is External.Own for this machine.
func interfaceAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				all = append(all, addr.Unmap())
			}
		}
	}
	return all, nil
}
