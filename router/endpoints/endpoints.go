// Package endpoints turns what the cluster says about the endpoints of one Service into addresses by port name. It owns the
// reading of EndpointSlices and of core Endpoints: readiness, address families, duplicates, addresses that are never
// dialled. It is pure, and knows nothing of watches, pools or connections.
package endpoints

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"podlane.dev/podlane/router"
)

// Scope says where addresses may point. Unspecified, multicast and link-local addresses, where machines' metadata services
// live, are never used: whoever may write endpoints must not reach through the proxy what they cannot reach themselves.
type Scope uint8

const (
	// Cluster refuses loopback addresses, too.
	Cluster Scope = iota
	// Local allows loopback addresses, for Pods that are processes of this machine.
	Local
)

// Addresses returns the addresses of a Service by port name; ports without an entry have none. slicesOfService are its
// EndpointSlices, made by hand or not; core is its Endpoints object, which counts only where there is no slice; both may be
// nil, as may service. Lists are sorted by address, and without duplicates of address, port and Pod: the same endpoint in
// two slices is ready if one says so.
//
// One address family is used per Service: the first of spec.ipFamilies that has an endpoint at all, ready or not, and
// where that field is not set, IPv4 before IPv6. Only TCP ports count. The result is not shared with the objects.
func (s Scope) Addresses(service *corev1.Service, slicesOfService []*discoveryv1.EndpointSlice, core *corev1.Endpoints) map[string][]router.Address {
	if service != nil && service.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	c := collector{scope: s, service: service}
	hasSlice := false
	for _, slice := range slicesOfService {
		if slice != nil && slice.AddressType != discoveryv1.AddressTypeFQDN {
			hasSlice = true
			c.slice(slice)
		}
	}
	if !hasSlice && core != nil {
		c.core(core)
	}
	return c.byPort()
}

// collector gathers addresses.
type collector struct {
	scope   Scope
	service *corev1.Service
	found   []portAddress
}

// portAddress is an address behind a port.
type portAddress struct {
	port string
	router.Address
}

// slice adds the endpoints of an EndpointSlice.
func (c *collector) slice(slice *discoveryv1.EndpointSlice) {
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		a := router.Address{
			Node: value(e.NodeName, ""), Zone: value(e.Zone, ""),
			// The API: "nil should be interpreted as true", and for serving as ready.
			Ready: value(e.Conditions.Ready, true), Terminating: value(e.Conditions.Terminating, false),
		}
		a.Serving = value(e.Conditions.Serving, a.Ready)
		if !c.target(&a, e.TargetRef) {
			continue
		}
		// All addresses of an endpoint are interchangeable, says the API; who writes two by hand means both.
		for _, text := range e.Addresses {
			ip, ok := c.address(text)
			if !ok || ip.Is4() != (slice.AddressType == discoveryv1.AddressTypeIPv4) {
				continue
			}
			for _, p := range slice.Ports {
				// A nil port stands for all ports of a Service without any, which no Ingress can name.
				if value(p.Protocol, corev1.ProtocolTCP) == corev1.ProtocolTCP {
					c.add(value(p.Name, ""), a, ip, value(p.Port, 0))
				}
			}
		}
	}
}

// core adds the addresses of an Endpoints object.
func (c *collector) core(core *corev1.Endpoints) {
	// In slices, the endpoint controller has turned this field into readiness already; here it has not.
	publish := c.service != nil && c.service.Spec.PublishNotReadyAddresses
	for i := range core.Subsets {
		subset := &core.Subsets[i]
		for _, list := range []struct {
			addresses []corev1.EndpointAddress
			ready     bool
		}{{subset.Addresses, true}, {subset.NotReadyAddresses, publish}} {
			for k := range list.addresses {
				c.coreAddress(&list.addresses[k], list.ready, subset.Ports)
			}
		}
	}
}

// coreAddress adds one address of an Endpoints object.
func (c *collector) coreAddress(e *corev1.EndpointAddress, ready bool, ports []corev1.EndpointPort) {
	a := router.Address{Node: value(e.NodeName, ""), Ready: ready, Serving: ready}
	ip, ok := c.address(e.IP)
	if !ok || !c.target(&a, e.TargetRef) {
		return
	}
	for _, p := range ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			c.add(p.Name, a, ip, p.Port)
		}
	}
}

// target notes the Pod behind an endpoint. An endpoint that claims to be a Pod of another namespace is refused: nobody but
// the endpoint controller writes Pods into endpoints, and it never crosses namespaces.
func (c *collector) target(a *router.Address, ref *corev1.ObjectReference) bool {
	if ref == nil {
		return true
	}
	a.UID = string(ref.UID)
	if ref.Kind != "Pod" {
		return true
	}
	a.Pod = ref.Name
	return c.service == nil || ref.Namespace == "" || ref.Namespace == c.service.Namespace
}

// address parses an IP address, and refuses those that are never dialled.
func (c *collector) address(text string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, false
	}
	ip = ip.Unmap()
	if ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, false
	}
	return ip, !ip.IsLoopback() || c.scope == Local
}

// add notes an address behind a port.
func (c *collector) add(name string, a router.Address, ip netip.Addr, port int32) {
	if port < 1 || port > 65535 {
		return
	}
	a.AddrPort = netip.AddrPortFrom(ip, uint16(port))
	c.found = append(c.found, portAddress{name, a})
}

// byPort chooses the family, sorts, and removes duplicates.
func (c *collector) byPort() map[string][]router.Address {
	is4, ok := c.family()
	if !ok {
		return nil
	}
	slices.SortFunc(c.found, comparePortAddresses)
	byPort := make(map[string][]router.Address)
	for i, a := range c.found {
		if a.AddrPort.Addr().Is4() != is4 {
			continue
		}
		// Of equal endpoints the best comes first.
		if i > 0 && c.found[i-1].port == a.port && sameEndpoint(c.found[i-1].Address, a.Address) {
			continue
		}
		byPort[a.port] = append(byPort[a.port], a.Address)
	}
	return byPort
}

// family returns the Service's address family; ok is false where there is no address.
func (c *collector) family() (is4, ok bool) {
	families := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	if c.service != nil && len(c.service.Spec.IPFamilies) > 0 {
		families = c.service.Spec.IPFamilies
	}
	for _, f := range families {
		is4 = f == corev1.IPv4Protocol
		if slices.ContainsFunc(c.found, func(a portAddress) bool { return a.AddrPort.Addr().Is4() == is4 }) {
			return is4, true
		}
	}
	return false, false
}

// sameEndpoint says whether two addresses are one endpoint.
func sameEndpoint(a, b router.Address) bool { return a.AddrPort == b.AddrPort && a.UID == b.UID }

// comparePortAddresses sorts by port, address and UID; of what is then equal the most useful comes first, and the rest is
// only there to make the choice the same every time.
func comparePortAddresses(a, b portAddress) int {
	return cmp.Or(
		strings.Compare(a.port, b.port), a.AddrPort.Compare(b.AddrPort), strings.Compare(a.UID, b.UID),
		-compareBool(a.Ready, b.Ready), -compareBool(a.Serving, b.Serving), compareBool(a.Terminating, b.Terminating),
		strings.Compare(a.Pod, b.Pod), strings.Compare(a.Node, b.Node), -strings.Compare(a.Zone, b.Zone),
	)
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// value returns *p, or absent where p is nil.
func value[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}
