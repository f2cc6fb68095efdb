package ingress

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/router/policy"
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
	// LastGood has what stands in for objects that a change broke; nil lets nothing stand in.
	LastGood *LastGood
	// Taken is the time of this Snapshot. Problems say since when something stands in, and which certificates are not valid at that time; the zero
	// time says nothing about certificates.
	Taken time.Time
}

// Options are the operator's settings that change what Ingress objects mean.
type Options struct {
	// ControllerClass is the spec.controller of the IngressClasses that are ours.
	ControllerClass string
	// SomeClasses says that the Snapshot need not have every IngressClass: nothing is said then about a class that it does not have.
	SomeClasses bool
	// ClaimNginx makes the IngressClasses of ingress-nginx ours too.
	ClaimNginx bool
	// Compat says which Ingresses are read as ingress-nginx reads them.
	Compat Compat
	// Settings is namespace/name of the ConfigMap with the operator's values of policies; "" is none.
	Settings string
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
	// References are the keys of policies that name objects.
	References References
	// AnnotationPrefixes are the prefixes, without "/", that carry policies; a later one wins over an earlier one.
	AnnotationPrefixes []string
}

// answersAsNginx says whether requests that no host owns are answered as ingress-nginx does: where its classes are served.
func (o *Options) answersAsNginx() bool {
	return o.Compat == CompatNginx || o.Compat == CompatByClass && (o.ClaimNginx || o.ControllerClass == NginxClass)
}

// References are the keys whose values name objects, as users write them: of annotations without prefix, and of the ConfigMap.
type References struct {
	SecretAnnotations, ConfigMapAnnotations []string
	SecretSettings, ConfigMapSettings       []string
}

// ReferencesOf returns the keys of families that name objects.
func ReferencesOf(families []policy.Family) References {
	var r References
	for _, f := range families {
		for _, k := range f.FamilyKeys() {
			annotations, settings := &r.SecretAnnotations, &r.SecretSettings
			if k.Kind == policy.ConfigMapName {
				annotations, settings = &r.ConfigMapAnnotations, &r.ConfigMapSettings
			}
			if k.Kind != policy.SecretName && k.Kind != policy.ConfigMapName {
				continue
			}
			if k.InAnnotations() {
				*annotations = append(*annotations, k.Name)
				if k.Alias != "" {
					*annotations = append(*annotations, k.Alias)
				}
			}
			if k.InConfigMap() {
				*settings = append(*settings, k.SettingName())
			}
		}
	}
	return r
}

// NginxClass is the spec.controller of ingress-nginx's IngressClasses.
const NginxClass = "k8s.io/ingress-nginx"

// Compat says which Ingresses are read as ingress-nginx reads them.
type Compat string

// The values of Compat.
const (
	// CompatByClass: those whose class is ingress-nginx's.
	CompatByClass Compat = ""
	// CompatNginx: all.
	CompatNginx Compat = "ingress-nginx"
	// CompatOff: none.
	CompatOff Compat = "off"
)
