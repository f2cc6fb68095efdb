package ingress

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Snapshot is everything that Build reads. The objects are shared with the cache that they came from: neither Build nor
// the proxy ever writes to them, and an object that changed is another pointer.
type Snapshot struct {
	Ingresses  []*networkingv1.Ingress
	Classes    []*networkingv1.IngressClass
	Services   []*corev1.Service
	Secrets    []*corev1.Secret
	ConfigMaps []*corev1.ConfigMap
	Options    Options
}

// Options are the operator's settings that change what Ingress objects mean.
type Options struct {
	// ControllerClass is the spec.controller of the IngressClasses that are ours.
	ControllerClass string
	// IngressClass is the class name that the old annotation kubernetes.io/ingress.class must have, and, with
	// IngressClassByName, an IngressClass may have whatever its spec.controller.
	IngressClass       string
	IngressClassByName bool
	// WithoutClass takes Ingresses that name no class.
	WithoutClass bool
	// EveryClass takes every Ingress, as `podlane serve` does.
	EveryClass bool
	// DefaultBackend is namespace/name of the Service (its first port) for requests without a route; "" means 404.
	DefaultBackend string
	// DefaultCertificate is namespace/name of the Secret for unknown server names; "" means self-signed.
	DefaultCertificate string
	// TicketKeys is namespace/name of the Secret with the keys of TLS session tickets; "" lets every replica have its own.
	TicketKeys string
	// AllowExternalName lets Services of type ExternalName be backends.
	AllowExternalName bool
	// AnnotationPrefixes are the prefixes, without "/", that carry policies; a later one wins over an earlier one.
	AnnotationPrefixes []string
}
