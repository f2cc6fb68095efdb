package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A network is the node's: its namespace, by a file that programs enter it by.
type network struct {
	handle netns.NsHandle
	file   string
	links  *netlink.Handle
}

// outsideIPs is how many addresses the outside has, from outsideIP on: clients of one address would run out of ports.
const outsideIPs = 8

// startNetwork makes the node's namespace, and the link between it and this one.
func (n *Node) startNetwork(context.Context) error {
	for _, dir := range []string{"log", "run", "net", "pki", "pods"} {
		if err := os.MkdirAll(n.path(dir), 0o755); err != nil {
			return err
		}
	}
	n.net.file = n.path("net", "node")
	if err := n.net.make(); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(n.net.handle)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make a link to the node: %w", err)
	}
	outside, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	ip := outsideIP
	for range outsideIPs {
		if err := addAddress(outside, "lan0", netip.PrefixFrom(ip, 24)); err != nil {
			return err
		}
		ip = ip.Next()
	}
	if err := errors.Join(up(outside, "lan0"), addAddress(n.net.links, "eth0", netip.PrefixFrom(nodeIP, 24)), up(n.net.links, "lo"), up(n.net.links, "eth0")); err != nil {
		return err
	}
	// Whatever leaves the node leaves by the outside, which forwards nothing.
	if err := n.net.links.RouteAdd(&netlink.Route{Gw: outsideIP.AsSlice()}); err != nil {
		return fmt.Errorf("default route of the node: %w", err)
	}
	if err := set("net/ipv4/ip_local_port_range", "10000 65000"); err != nil {
		return err
	}
	return n.net.do(func() error {
		// Without the last, the answers of a Service's Pod to another Pod on the same bridge would keep the Pod's address.
		return errors.Join(set("net/ipv4/ip_forward", "1"), set("net/bridge/bridge-nf-call-iptables", "1"))
	})
}

// make makes the namespace. A thread that was in it and could not come back would be of no use to anybody, so it ends with its goroutine.
func (w *network) make() error {
	if err := os.WriteFile(w.file, nil, 0o644); err != nil {
		return err
	}
	made := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()), w.file, "", unix.MS_BIND, "")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		return err
	}
	var err error
	if w.handle, err = netns.GetFromPath(w.file); err != nil {
		return err
	}
	w.links, err = netlink.NewHandleAt(w.handle)
	return err
}

// do calls f on a thread that is in the namespace.
func (w *network) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := netns.Set(w.handle)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// listen opens a socket in the namespace; it may be used from any thread.
func (w *network) listen(ctx context.Context, address string) (l net.Listener, err error) {
	err = w.do(func() error {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", address)
		return err
	})
	return l, err
}

func addAddress(h *netlink.Handle, link string, ip netip.Prefix) error {
	l, err := h.LinkByName(link)
	if err != nil {
		return fmt.Errorf("link %s: %w", link, err)
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: ip.Addr().AsSlice(), Mask: net.CIDRMask(ip.Bits(), 32)}}
	if err := h.AddrAdd(l, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give %s the address %s: %w", link, ip, err)
	}
	return nil
}

func removeAddress(h *netlink.Handle, link string, ip netip.Prefix) error {
	l, err := h.LinkByName(link)
	if err != nil {
		return fmt.Errorf("link %s: %w", link, err)
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: ip.Addr().AsSlice(), Mask: net.CIDRMask(ip.Bits(), 32)}}
	if err := h.AddrDel(l, a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("take the address %s from %s: %w", ip, link, err)
	}
	return nil
}

func up(h *netlink.Handle, link string) error {
	l, err := h.LinkByName(link)
	if err == nil {
		err = h.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("bring %s up: %w", link, err)
	}
	return nil
}

// set sets a value below /proc/sys, where what is below net is the calling thread's namespace's.
func set(name, value string) error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0o644) }
