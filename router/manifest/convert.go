package manifest

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// decodeOldIngress converts an Ingress of extensions/v1beta1 or networking.k8s.io/v1beta1, which have the same fields, as
// API servers did until Kubernetes 1.22. A path without pathType is ImplementationSpecific, as it was there.
func decodeOldIngress(f *file, o *origin, key objectKey, data []byte) (metav1.Object, error) {
	old := new(networkingv1beta1.Ingress)
	if !f.strict(o, key, data, old) {
		return nil, nil
	}
	i := &networkingv1.Ingress{ObjectMeta: old.ObjectMeta}
	i.Spec.IngressClassName = old.Spec.IngressClassName
	example := ""
	convert := func(b *networkingv1beta1.IngressBackend) *networkingv1.IngressBackend {
		backend := convertBackend(b)
		if example == "" && backend.Service != nil {
			example = backendText(backend.Service)
		}
		return backend
	}
	for _, rule := range old.Spec.Rules {
		converted := networkingv1.IngressRule{Host: rule.Host}
		if rule.HTTP != nil {
			converted.HTTP = &networkingv1.HTTPIngressRuleValue{}
			for p := range rule.HTTP.Paths {
				path := &rule.HTTP.Paths[p]
				pathType := networkingv1.PathTypeImplementationSpecific
				if path.PathType != nil {
					pathType = networkingv1.PathType(*path.PathType)
				}
				converted.HTTP.Paths = append(converted.HTTP.Paths, networkingv1.HTTPIngressPath{Path: path.Path, PathType: &pathType, Backend: *convert(&path.Backend)})
			}
		}
		i.Spec.Rules = append(i.Spec.Rules, converted)
	}
	if b := old.Spec.Backend; b != nil {
		i.Spec.DefaultBackend = convert(b)
	}
	for _, t := range old.Spec.TLS {
		i.Spec.TLS = append(i.Spec.TLS, networkingv1.IngressTLS{Hosts: t.Hosts, SecretName: t.SecretName})
	}
	f.old(o, key, old.APIVersion, changesText(example, &old.Spec))
	return i, nil
}

// convertBackend converts serviceName and servicePort.
func convertBackend(old *networkingv1beta1.IngressBackend) *networkingv1.IngressBackend {
	b := &networkingv1.IngressBackend{Resource: old.Resource}
	if old.ServiceName != "" || old.Resource == nil {
		b.Service = &networkingv1.IngressServiceBackend{Name: old.ServiceName}
		if old.ServicePort.Type == intstr.String {
			b.Service.Port.Name = old.ServicePort.StrVal
		} else {
			b.Service.Port.Number = old.ServicePort.IntVal
		}
	}
	return b
}

// backendText is a backend as it is written today.
func backendText(b *networkingv1.IngressServiceBackend) string {
	if b.Port.Name != "" {
		return fmt.Sprintf("{service: {name: %s, port: {name: %s}}}", b.Name, b.Port.Name)
	}
	return fmt.Sprintf("{service: {name: %s, port: {number: %d}}}", b.Name, b.Port.Number)
}

// changesText says how an Ingress is written today, by the example of its own first backend.
func changesText(example string, old *networkingv1beta1.IngressSpec) string {
	text := "each path needs a pathType (Prefix, say)"
	if example != "" {
		text += ", and serviceName and servicePort become backend: " + example
	}
	if old.Backend != nil {
		text += "; spec.backend is spec.defaultBackend now"
	}
	return text
}
