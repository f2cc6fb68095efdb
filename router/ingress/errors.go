package ingress

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router"
)

// This file finds Services of which only the name is said: the first port is meant, and what its appProtocol says is spoken.

// errors finds the Service that answers in place of Pods.
func (c *compiler) errors() {
	custom, _ := c.out.policies.value(router.CustomErrorsFamily).(router.CustomErrors)
	name := types.NamespacedName{Namespace: c.ingress.Namespace, Name: custom.Service}
	own := custom.Service != ""
	if !own {
		var ok bool
		if name, ok = splitName(c.options.DefaultBackend); !ok || len(custom.Statuses) == 0 {
			return
		}
	}
	c.out.services = append(c.out.services, name)
	backend, problem := firstPort(name, c.service, c.options)
	switch {
	case problem == nil:
		c.out.errorBackend = &backend
	case own: // what is wrong with the operator's is said elsewhere
		c.report(annotationField(c.policies.annotationOf(c.out.policies, "default-backend")), Problem{
			Reason: problem.reason, Effect: Ignored, Message: problem.text + "; until then errors are answered as if there were no default-backend",
		})
	}
}

// annotationOf returns the annotation of s that says a key, under the prefix that wins; "" where there is none.
func (r *policyReader) annotationOf(s *policySet, key string) string {
	for _, prefix := range slices.Backward(r.prefixes) {
		if _, ok := s.read[prefix+key]; ok {
			return prefix + key
		}
	}
	return ""
}

// firstPort returns the Backend of the first TCP port of a Service.
func firstPort(name types.NamespacedName, find func(types.NamespacedName) *corev1.Service, o Options) (router.Backend, *unusable) {
	wanted := &networkingv1.IngressServiceBackend{Name: name.Name}
	service := find(name)
	if service != nil {
		for i := range service.Spec.Ports {
			if p := &service.Spec.Ports[i]; isTCP(p) {
				wanted.Port = networkingv1.ServiceBackendPort{Name: p.Name}
				if p.Name == "" {
					wanted.Port.Number = p.Port
				}
				break
			}
		}
	}
	backend, problem := resolveBackend(&networkingv1.IngressBackend{Service: wanted}, name.Namespace, find, o.AllowExternalName)
	switch {
	case service == nil:
		backend.Unavailable = router.ServiceNotFound
		problem = &unusable{reason: ServiceMissing, text: fmt.Sprintf("there is no Service %q in namespace %q", name.Name, name.Namespace)}
	case problem != nil && problem.reason == BackendInvalid:
		backend.Unavailable = router.PortNotFound
		problem = &unusable{reason: PortMissing, text: fmt.Sprintf("Service %q has no TCP port", name.Name)}
	}
	if backend.Scheme == router.PodPlain {
		backend.Scheme = router.PodDefault
	}
	if backend.Scheme.Encrypted() {
		backend.TLS = router.NewPodTLS(router.PodTLSOptions{}, nil, nil)
	}
	return backend, problem
}
