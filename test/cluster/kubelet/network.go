package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A network is a bridge with one port per Pod. Every Pod gets an IPv4 address and, where the kernel has IPv6, the IPv6
// address with the same last two bytes.
type network struct {
	cidr   netip.Prefix
	bridge netlink.Link
	own    netns.NsHandle // the sandbox's network namespace
	ipv6   bool

	mu    sync.Mutex
	last  netip.Addr
	used  map[netip.Addr]bool
	freed chan struct{} // closed and replaced whenever an address is freed
}

var prefix6 = netip.MustParsePrefix("fd00:10:244::/64")

func newNetwork(cidr netip.Prefix) (*network, error) {
	if !cidr.Addr().Is4() || cidr.Bits() < 16 || cidr.Bits() > 29 {
		return nil, fmt.Errorf("%s is not an IPv4 range of 16 to 29 bits", cidr)
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	n := &network{cidr: cidr.Masked(), own: netns.NsHandle(fd), used: map[netip.Addr]bool{}, freed: make(chan struct{})}
	_, err = os.Stat("/proc/sys/net/ipv6")
	n.ipv6 = err == nil
	gateway := n.cidr.Addr().Next()
	n.last = gateway
	n.bridge = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{
		Name: fmt.Sprintf("pods%x", n.cidr.Addr().As4()), HardwareAddr: hardware(gateway),
	}}
	if err := netlink.LinkAdd(n.bridge); err != nil {
		_ = n.own.Close()
		return nil, fmt.Errorf("add bridge: %w", err)
	}
	if err := n.configure(nil, n.bridge, gateway); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *network) close() {
	_ = netlink.LinkDel(n.bridge)
	_ = n.own.Close()
}

// hardware derives the link address from the IP, so that a reused Pod IP is not lost behind a stale neighbour entry.
func hardware(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

func port(a netip.Addr) string { return fmt.Sprintf("v%x", a.As4()) }

// six is the IPv6 address that goes with an IPv4 one.
func six(a netip.Addr) netip.Addr {
	b, v4 := prefix6.Addr().As16(), a.As4()
	b[14], b[15] = v4[2], v4[3]
	return netip.AddrFrom16(b)
}

// addresses are a Pod's addresses, IPv4 first.
func (n *network) addresses(a netip.Addr) []netip.Addr {
	if n.ipv6 {
		return []netip.Addr{a, six(a)}
	}
	return []netip.Addr{a}
}

// allocate takes the next free address, or want, for which it waits while another Pod has it.
func (n *network) allocate(ctx context.Context, want netip.Addr) (netip.Addr, error) {
	if want.IsValid() && !n.cidr.Contains(want) {
		return netip.Addr{}, fmt.Errorf("address %s is not in %s", want, n.cidr)
	}
	for {
		n.mu.Lock()
		if a := n.pick(want); a.IsValid() {
			n.used[a] = true
			n.mu.Unlock()
			return a, nil
		}
		freed := n.freed
		n.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return netip.Addr{}, ctx.Err()
		}
	}
}

// pick goes round, so that an address rests as long as possible before its reuse, as with the usual network plugins.
func (n *network) pick(want netip.Addr) netip.Addr {
	if want.IsValid() {
		if n.used[want] {
			return netip.Addr{}
		}
		return want
	}
	first := n.cidr.Addr().Next().Next()
	for a := n.last.Next(); ; a = a.Next() {
		if !n.cidr.Contains(a.Next()) { // the last address of the range is the broadcast address
			a = first
		}
		if !n.used[a] {
			n.last = a
			return a
		}
		if a == n.last {
			return netip.Addr{}
		}
	}
}

func (n *network) free(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.used, a)
	close(n.freed)
	n.freed = make(chan struct{})
}

// attach gives the network namespace of a process its lo and an eth0 with the address.
func (n *network) attach(pid, pidfd int, a netip.Addr) error {
	link := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: port(a), MasterIndex: n.bridge.Attrs().Index},
		PeerName:         "eth0",
		PeerHardwareAddr: hardware(a),
		PeerNamespace:    netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("add link: %w", err)
	}
	// setns takes a pidfd as it takes a namespace file, and needs no /proc of this process namespace.
	h, err := netlink.NewHandleAtFrom(netns.NsHandle(pidfd), n.own)
	if err != nil {
		return fmt.Errorf("open netlink in the Pod: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(lo); err != nil {
		return err
	}
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return n.configure(h, eth0, a)
}

// configure brings a link up with address a and, in a Pod, a default route. The nil handle is the sandbox's.
func (n *network) configure(h *netlink.Handle, link netlink.Link, a netip.Addr) error {
	inPod := h != nil
	if !inPod {
		h = &netlink.Handle{}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", link.Attrs().Name, err)
	}
	gateway := n.cidr.Addr().Next()
	for _, each := range []struct{ address, gateway netip.Addr }{{a, gateway}, {six(a), six(gateway)}} {
		bits := n.cidr.Bits()
		if each.address.Is6() {
			bits = prefix6.Bits()
			if !n.ipv6 {
				continue
			}
		}
		ip := &net.IPNet{IP: each.address.AsSlice(), Mask: net.CIDRMask(bits, each.address.BitLen())}
		// Without NODAD an IPv6 address cannot be used in its first second.
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: ip, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add %s to %s: %w", each.address, link.Attrs().Name, err)
		}
		if !inPod {
			continue
		}
		if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: each.gateway.AsSlice()}); err != nil {
			return fmt.Errorf("add default route: %w", err)
		}
	}
	return nil
}

// detach removes a Pod's link from both sides.
func (n *network) detach(a netip.Addr) {
	if link, err := netlink.LinkByName(port(a)); err == nil {
		_ = netlink.LinkDel(link)
	}
}

func (n *network) unplug(a netip.Addr) error {
	link, err := netlink.LinkByName(port(a))
	if err != nil {
		return err
	}
	return netlink.LinkSetNoMaster(link)
}

func (n *network) plug(a netip.Addr) error {
	link, err := netlink.LinkByName(port(a))
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetMaster(link, n.bridge), netlink.LinkSetUp(link))
}
