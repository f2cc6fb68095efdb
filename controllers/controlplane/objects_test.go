package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"podlane.dev/podlane/test/cluster"
)

func newIngress(name, host, service string, secrets ...string) *networkingv1.Ingress {
	pathType := networkingv1.PathTypePrefix
	i := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: &pathType,
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}}},
			}}},
		}}}},
	}
	for n, s := range secrets {
		i.Spec.TLS = append(i.Spec.TLS, networkingv1.IngressTLS{Hosts: []string{fmt.Sprintf("tls%d.%s", n, host)}, SecretName: s})
	}
	return i
}

func newService(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8000)},
		}},
	}
}

// newSlice has n endpoints; first tells the addresses of Services apart.
func newSlice(service string, first, n int) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8000)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for i := range n {
		x := first + i
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 100+x>>16, x>>8&255, x&255)}})
	}
	return s
}

func newSecret(t *testing.T, name string, kind corev1.SecretType, hosts ...string) *corev1.Secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), DNSNames: hosts}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: kind, Data: map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}}
}

// must ends the test on the error of a request.
func must(t *testing.T) func(any, error) {
	t.Helper()
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// create makes objects in a namespace.
func create(t *testing.T, c *cluster.Cluster, namespace string, objects ...any) {
	t.Helper()
	ctx, o := t.Context(), metav1.CreateOptions{}
	for _, object := range objects {
		var err error
		switch x := object.(type) {
		case *networkingv1.Ingress:
			_, err = c.Client.NetworkingV1().Ingresses(namespace).Create(ctx, x, o)
		case *corev1.Service:
			_, err = c.Client.CoreV1().Services(namespace).Create(ctx, x, o)
		case *discoveryv1.EndpointSlice:
			_, err = c.Client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, x, o)
		case *corev1.Secret:
			_, err = c.Client.CoreV1().Secrets(namespace).Create(ctx, x, o)
		case *corev1.ConfigMap:
			_, err = c.Client.CoreV1().ConfigMaps(namespace).Create(ctx, x, o)
		case *corev1.Endpoints:
			_, err = c.Client.CoreV1().Endpoints(namespace).Create(ctx, x, o)
		default:
			t.Fatalf("%T", object)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
