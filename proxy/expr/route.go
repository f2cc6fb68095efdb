package expr

import (
	"cmp"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
)

// serverName appends the rule's host as ingress-nginx names its servers: "_" is the one of requests to no host that a rule names.
func serverName(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Route == nil || x.Route.ID.Host == "" {
		return append(dst, '_'), true
	}
	return append(dst, x.Route.ID.Host...), true
}

func namespace(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Route == nil {
		return dst, false
	}
	return append(dst, x.Route.ID.Namespace...), true
}

func ingressName(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Route == nil {
		return dst, false
	}
	return append(dst, x.Route.ID.Ingress...), true
}

func locationPath(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Route == nil {
		return dst, false
	}
	return append(dst, x.Route.ID.Path...), true
}

// own returns the Ingress's own Service, which is the first Backend; the others are canaries.
func own(x *exchange.Exchange) (router.ServicePort, bool) {
	if x.Route == nil || len(x.Route.Backends) == 0 {
		return router.ServicePort{}, false
	}
	return x.Route.Backends[0].Service, true
}

func serviceName(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	service, found := own(x)
	return append(dst, service.Name...), found
}

func servicePort(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Route == nil || len(x.Route.Backends) == 0 {
		return dst, false
	}
	b := &x.Route.Backends[0]
	return append(dst, cmp.Or(b.Written, b.Service.Port)...), true
}

func upstreamName(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	service, found := own(x)
	if !found {
		return dst, false
	}
	return joined(dst, service), true
}

// alternativeName appends nothing where the request went to the Ingress's own Service: not "-", because ingress-nginx sets this variable to
// the empty text for every request.
func alternativeName(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	service, found := own(x)
	if went := x.Upstream.Service; found && went != service && went != (router.ServicePort{}) {
		dst = joined(dst, went)
	}
	return dst, true
}

// joined appends a Service as ingress-nginx names upstreams. A port without a name is left out.
func joined(dst []byte, s router.ServicePort) []byte {
	dst = append(append(dst, s.Namespace...), '-')
	dst = append(dst, s.Name...)
	if s.Port != "" {
		dst = append(append(dst, '-'), s.Port...)
	}
	return dst
}
