package ingress

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// SameIngress says whether Build makes the same of two versions of an Ingress: whoever wrote its status or labels changed nothing that is served.
func SameIngress(a, b *networkingv1.Ingress) bool { return a == b || sameIngress(a, b) }

// SameService is SameIngress for Services.
func SameService(a, b *corev1.Service) bool {
	return a == b || a.UID == b.UID && reflect.DeepEqual(a.Spec, b.Spec)
}
