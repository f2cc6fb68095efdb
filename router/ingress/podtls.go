package ingress

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router"
)

// This file decides what is spoken with the Pods of a backend: what the annotations of its Ingress say, else the appProtocol of the Service's port.
// Both are for the Ingress's own routes only.

// podTLS is what the annotations of one Ingress say about TLS with its Pods. It is immutable.
type podTLS struct {
	// settings are nil where they cannot be used.
	settings *router.PodTLS
}

// pods reads the annotations about Pods. The Secret is read only when a backend needs it: see podSettings.
func (c *compiler) pods() {
	c.scheme, _ = c.out.policies.value(router.PodSchemeFamily).(router.PodScheme)
}

// speak completes b, whose port was found: what its Pods speak.
func (c *compiler) speak(b *router.Backend) {
	if c.scheme != router.PodDefault {
		b.Scheme = c.scheme
	}
	if b.Scheme == router.PodPlain {
		b.Scheme = router.PodDefault
	}
	if !b.Scheme.Encrypted() || b.Unavailable != router.Available {
		return
	}
	t := c.podSettings()
	if t.settings == nil {
		b.Unavailable = router.PodTLSUnusable
		return
	}
	b.TLS = t.settings
}

// podTLSField is the field of the annotation that speaks for the settings.
func (c *compiler) podTLSField() string {
	if annotation := c.policies.firstOf(c.out.policies, router.PodTLSFamily); annotation != "" {
		return annotationField(annotation)
	}
	return "metadata.annotations"
}

// podSettings returns the settings of TLS with Pods. They are made once, when they are needed.
func (c *compiler) podSettings() *podTLS {
	if c.podTLS == nil {
		settings, problem := c.makePodTLS()
		if c.podTLS = (&podTLS{settings}); problem != nil {
			problem.Effect = RouteDenied
			problem.Message += "; until then requests to Pods with TLS get 503"
			c.report(c.podTLSField(), *problem)
		}
	}
	return c.podTLS
}

// makePodTLS returns the settings, or why there are none.
func (c *compiler) makePodTLS() (*router.PodTLS, *Problem) {
	options, _ := c.out.policies.value(router.PodTLSFamily).(router.PodTLSOptions)
	if options.Secret == "" {
		return router.NewPodTLS(options, nil, nil), nil
	}
	name, ok := ownSecret(c.ingress.Namespace, options.Secret)
	if !ok {
		return nil, &Problem{Reason: SecretForbidden, Message: fmt.Sprintf("%q is not a Secret of the Ingress's own namespace %q, and only those are read: copy it there", options.Secret, c.ingress.Namespace)}
	}
	c.out.secrets = append(c.out.secrets, name)
	secret := c.secret(name)
	if secret == nil {
		return nil, &Problem{Reason: SecretMissing, Message: fmt.Sprintf("there is no Secret %q in namespace %q", name.Name, name.Namespace)}
	}
	authorities, certificate, err := c.podSecret(name, secret, options)
	if err != nil {
		return nil, &Problem{Reason: SecretInvalid, Message: fmt.Sprintf("Secret %q cannot be used for TLS with Pods: %v", name.Name, err)}
	}
	return router.NewPodTLS(options, authorities, certificate), nil
}

// podSecret reads what a Secret has for TLS with Pods: all that is asked for, and all that is there, must be good.
func (c *compiler) podSecret(name types.NamespacedName, s *corev1.Secret, o router.PodTLSOptions) ([]*x509.Certificate, *tls.Certificate, error) {
	var authorities []*x509.Certificate
	if _, given := s.Data[authorityKey]; given || o.Verify {
		a, _ := c.authority(name)
		if a.err != nil {
			return nil, nil, a.err
		}
		if authorities = a.authority.Certificates; !o.Verify {
			authorities = nil // nobody asks them
		}
	}
	_, certificate := s.Data[corev1.TLSCertKey]
	_, key := s.Data[corev1.TLSPrivateKeyKey]
	if !certificate && !key {
		return authorities, nil, nil
	}
	pair, _ := c.keyPair(name)
	return authorities, pair.pair, pair.err
}

// tellProtocol reports an appProtocol that means nothing here.
func (c *compiler) tellProtocol(b *networkingv1.IngressBackend, field func() string) {
	if b.Service == nil || c.scheme != router.PodDefault {
		return
	}
	service := c.service(types.NamespacedName{Namespace: c.ingress.Namespace, Name: b.Service.Name})
	if service == nil {
		return
	}
	p := findPort(service, b.Service.Port)
	if p == nil || p.AppProtocol == nil {
		return
	}
	if _, known := router.PodSchemeOf(*p.AppProtocol); !known {
		c.report(field(), Problem{Reason: UnknownAppProtocol, Effect: Notice, Message: fmt.Sprintf(
			"port %s of Service %q has the appProtocol %q, which means nothing to Podlane: HTTP/1.1 is spoken with its Pods", portText(p), service.Name, *p.AppProtocol)})
	}
}

// schemeOf returns what a Service's port says.
func schemeOf(p *corev1.ServicePort) router.PodScheme {
	if p.AppProtocol == nil {
		return router.PodDefault
	}
	s, _ := router.PodSchemeOf(*p.AppProtocol)
	return s
}
