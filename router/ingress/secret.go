package ingress

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// keyPair is what a Secret parsed to: a pair, or why there is none.
type keyPair struct {
	pair *tls.Certificate
	err  error
}

// parseSecret parses tls.crt and tls.key. The type of the Secret does not matter. The error never holds data of it.
func parseSecret(s *corev1.Secret) keyPair {
	for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(s.Data[key]) == 0 {
			return keyPair{err: fmt.Errorf("it has no %s", key)}
		}
	}
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return keyPair{err: err}
	}
	if pair.Leaf == nil {
		return keyPair{err: errors.New("its certificate does not parse")}
	}
	return keyPair{pair: &pair}
}

// sameSecret says whether two versions of a Secret are the same to Build.
func sameSecret(a, b *corev1.Secret) bool {
	return maps.EqualFunc(a.Data, b.Data, bytes.Equal)
}

// tlsSecrets returns the Secrets that the spec.tls of i names, as far as they are in its own namespace.
func tlsSecrets(i *networkingv1.Ingress) []types.NamespacedName {
	var names []types.NamespacedName
	for _, t := range i.Spec.TLS {
		if name, ok := secretName(i.Namespace, t.SecretName); ok {
			names = append(names, name)
		}
	}
	return names
}

// ownSecret is secretName for annotations, in which ingress-nginx writes the namespace too: ok is false unless it is the Ingress's own.
func ownSecret(namespace, written string) (types.NamespacedName, bool) {
	if of, name, ok := strings.Cut(written, "/"); ok {
		if of != namespace {
			return types.NamespacedName{}, false
		}
		written = name
	}
	return secretName(namespace, written)
}

// secretName returns the full name of a Secret that an Ingress in namespace may read; ok is false for no name and for one
// that names a namespace.
func secretName(namespace, name string) (types.NamespacedName, bool) {
	if name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, true
}

// covers says whether a certificate is for host, which may be a wildcard.
func covers(pair *tls.Certificate, host string) bool { return pair.Leaf.VerifyHostname(host) == nil }

// certificateNames returns the names that a certificate is for, as a message has them.
func certificateNames(pair *tls.Certificate) string {
	names := pair.Leaf.DNSNames
	const most = 5
	switch {
	case len(names) == 0:
		return "no DNS name"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
