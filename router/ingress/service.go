package ingress

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router"
)

// unusable says why a backend answers 503.
type unusable struct {
	field  string // under the backend's own field
	why    router.Unavailable
	reason Reason
	text   string
}

// resolveBackend returns the Backend that b of an Ingress in namespace stands for. It is returned even if it is unusable:
// its requests belong to it, and are answered 503. services finds a Service, or returns nil.
func resolveBackend(b *networkingv1.IngressBackend, namespace string, services func(types.NamespacedName) *corev1.Service, allowExternal bool) (router.Backend, *unusable) {
	out := router.Backend{Weight: 1}
	fail := func(u unusable) (router.Backend, *unusable) {
		out.Unavailable = u.why
		return out, &u
	}
	switch {
	case b.Resource != nil && b.Service == nil:
		return fail(unusable{"resource", router.ResourceBackend, BackendResource, fmt.Sprintf("%s %q cannot be a backend: name a Service", b.Resource.Kind, b.Resource.Name)})
	case b.Resource != nil:
		return fail(unusable{"", router.InvalidBackend, BackendInvalid, "a backend has a service or a resource, not both"})
	case b.Service == nil || b.Service.Name == "":
		return fail(unusable{"service.name", router.InvalidBackend, BackendInvalid, "the backend names no Service"})
	}
	name, port := types.NamespacedName{Namespace: namespace, Name: b.Service.Name}, b.Service.Port
	out.Service = router.ServicePort{Namespace: namespace, Name: b.Service.Name, Port: port.Name}
	if port.Name == "" && port.Number != 0 {
		out.Service.Port = strconv.Itoa(int(port.Number))
	}
	out.Written = out.Service.Port
	if (port.Name == "") == (port.Number == 0) {
		return fail(unusable{"service.port", router.InvalidBackend, BackendInvalid, "write either the name or the number of the Service's port"})
	}
	service := services(name)
	switch {
	case service == nil:
		return fail(unusable{"service.name", router.ServiceNotFound, ServiceMissing, fmt.Sprintf("there is no Service %q in namespace %q", name.Name, namespace)})
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		return resolveExternal(out, service, port, allowExternal)
	}
	p := findPort(service, port)
	if p == nil {
		return fail(unusable{"service.port", router.PortNotFound, PortMissing, missingPort(service, port)})
	}
	out.Service.Port = p.Name
	out.Affinity, out.Scheme = clientAffinity(service), schemeOf(p)
	return out, nil
}

// resolveExternal completes a Backend of an ExternalName Service. Its traffic goes to the target port where the Service
// lists one, as kube-proxy would have it if it could; without ports the Ingress's own number is the port.
func resolveExternal(out router.Backend, s *corev1.Service, port networkingv1.ServiceBackendPort, allowed bool) (router.Backend, *unusable) { //nolint:revive // the operator's option, not a mode
	fail := func(field string, reason Reason, text string) (router.Backend, *unusable) {
		u := &unusable{field, router.ExternalNameDenied, reason, text}
		if reason == PortMissing {
			u.why = router.PortNotFound
		}
		out.Unavailable = u.why
		return out, u
	}
	if !allowed {
		return fail("service.name", ExternalNameRefused, fmt.Sprintf("Service %q is of type ExternalName, which is off: the operator can allow it with --allow-external-name", s.Name))
	}
	host := strings.ToLower(strings.TrimSuffix(s.Spec.ExternalName, "."))
	if host == "" || namesThisMachine(host) {
		return fail("service.name", ExternalNameRefused, fmt.Sprintf("Service %q has the external name %q, which is this machine or its link: it is never dialled", s.Name, s.Spec.ExternalName))
	}
	number := port.Number
	if len(s.Spec.Ports) > 0 || number == 0 {
		p := findPort(s, port)
		if p == nil {
			return fail("service.port", PortMissing, missingPort(s, port))
		}
		out.Service.Port, out.Scheme = p.Name, schemeOf(p)
		if number = p.Port; p.TargetPort.IntVal > 0 {
			number = p.TargetPort.IntVal
		}
	}
	if number < 1 || number > 65535 {
		return fail("service.port", PortMissing, fmt.Sprintf("%d is not a port", number))
	}
	out.ExternalName, out.ExternalPort = host, uint16(number)
	return out, nil
}

// namesThisMachine says whether an external name is, by its text alone, an address or a name of this machine or of its
// links, where metadata services live. Names that only resolve to such addresses are refused when they are dialled.
func namesThisMachine(host string) bool {
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addr = addr.Unmap()
		return addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsInterfaceLocalMulticast()
	}
	if strings.HasSuffix(host, ".localhost") {
		return true
	}
	switch host {
	case "localhost", "localhost.localdomain", "localhost6", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback":
		return true
	}
	return false
}

// findPort returns the TCP port of s that has the name or number of port.
func findPort(s *corev1.Service, port networkingv1.ServiceBackendPort) *corev1.ServicePort {
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if !isTCP(p) {
			continue
		}
		if port.Name != "" && p.Name == port.Name || port.Name == "" && p.Port == port.Number {
			return p
		}
	}
	return nil
}

func isTCP(p *corev1.ServicePort) bool { return p.Protocol == corev1.ProtocolTCP || p.Protocol == "" }

// missingPort says which port is missing, and guesses what the user meant.
func missingPort(s *corev1.Service, port networkingv1.ServiceBackendPort) string {
	wanted := strconv.Quote(port.Name)
	if port.Name == "" {
		wanted = strconv.Itoa(int(port.Number))
	}
	var ports []string
	hint := ""
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if isTCP(p) {
			ports = append(ports, portText(p))
		}
		switch {
		case !isTCP(p) && (p.Port == port.Number && port.Number != 0 || p.Name == port.Name && port.Name != ""):
			hint = fmt.Sprintf("; that port is %s", p.Protocol)
		case hint == "" && p.TargetPort.String() == strings.Trim(wanted, `"`):
			hint = fmt.Sprintf("; %s is the Pods' port, the Service's is %s", wanted, portText(p))
		}
	}
	if len(ports) == 0 {
		return fmt.Sprintf("Service %q has no TCP ports%s", s.Name, hint)
	}
	return fmt.Sprintf("Service %q has no port %s, but %s%s", s.Name, wanted, strings.Join(ports, ", "), hint)
}

// portText returns a Service's port as users refer to it.
func portText(p *corev1.ServicePort) string {
	if p.Name == "" {
		return strconv.Itoa(int(p.Port))
	}
	return fmt.Sprintf("%d (%q)", p.Port, p.Name)
}

// viaService sends the requests of a Backend to the address of its Service, where the Ingress says so and there is one.
func (c *compiler) viaService(out *router.Backend, b *networkingv1.IngressBackend, field func() string) {
	if via, _ := c.out.policies.value(router.ServiceFamily).(bool); !via || out.Unavailable != router.Available || out.ExternalName != "" {
		return
	}
	service := c.service(types.NamespacedName{Namespace: out.Service.Namespace, Name: out.Service.Name})
	addr, err := netip.ParseAddr(service.Spec.ClusterIP)
	if err != nil {
		c.report(field()+".service.name", Problem{Reason: InvalidAnnotation, Effect: Ignored, Message: fmt.Sprintf("service-upstream has no effect: Service %q has no address of its own, so requests go to its Pods", service.Name)})
		return
	}
	out.ClusterIP = netip.AddrPortFrom(addr.Unmap(), uint16(findPort(service, b.Service.Port).Port))
	out.Service.Port, out.Affinity = out.ClusterIP.String(), 0
}

// clientAffinity returns the timeout of sessionAffinity: ClientIP, 0 for none. Three hours is the API's default.
func clientAffinity(s *corev1.Service) time.Duration {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil && *c.ClientIP.TimeoutSeconds > 0 {
		return time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	return time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
}
