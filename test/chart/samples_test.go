package chart_test

import (
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// demo is the file that only `podlane serve` takes.
const demo = "demo-endpoints.yaml"

// samples decodes config/samples/*.yaml by file name.
func samples(t *testing.T) map[string]objects {
	t.Helper()
	files, err := filepath.Glob(path(t, "config/samples/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	found := map[string]objects{}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "kustomization.yaml" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = decode(t, content)
	}
	return found
}

func everything(files map[string]objects) objects {
	var all objects
	for _, o := range files {
		all = append(all, o...)
	}
	return all
}

func TestSamplesAreComplete(t *testing.T) {
	t.Parallel()
	all := everything(samples(t))
	services := map[string]*corev1.Service{}
	for _, s := range of[*corev1.Service](all) {
		services[s.Name] = s
	}
	class := one[*networkingv1.IngressClass](t, all)
	for _, ingress := range of[*networkingv1.Ingress](all) {
		if ingress.Spec.IngressClassName == nil || *ingress.Spec.IngressClassName != class.Name {
			t.Errorf("Ingress %s is not of the class %s", ingress.Name, class.Name)
		}
		for _, rule := range ingress.Spec.Rules {
			for _, p := range rule.HTTP.Paths {
				checkBackend(t, ingress.Name, services, p.Backend.Service)
			}
		}
	}
	for name := range services {
		if addresses := demoAddresses(t, all, name); len(addresses) == 0 {
			t.Errorf("Service %s has no endpoint in %s", name, demo)
		}
	}
}

func checkBackend(t *testing.T, ingress string, services map[string]*corev1.Service, b *networkingv1.IngressServiceBackend) {
	t.Helper()
	service := services[b.Name]
	if service == nil {
		t.Errorf("Ingress %s: no Service %s", ingress, b.Name)
		return
	}
	if !slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool {
		return b.Port.Name != "" && p.Name == b.Port.Name || b.Port.Number != 0 && p.Port == b.Port.Number
	}) {
		t.Errorf("Ingress %s: Service %s has no port %v", ingress, b.Name, b.Port)
	}
}

// demoAddresses are the addresses that the demo gives a Service.
func demoAddresses(t *testing.T, all objects, service string) []string {
	t.Helper()
	var found []string
	for _, s := range of[*discoveryv1.EndpointSlice](all) {
		if s.Labels[discoveryv1.LabelServiceName] == service {
			found = append(found, s.Endpoints[0].Addresses...)
		}
	}
	for _, e := range of[*corev1.Endpoints](all) {
		if e.Name == service {
			for _, subset := range e.Subsets {
				found = append(found, subset.Addresses[0].IP)
			}
		}
	}
	return found
}

// TestDemoStaysOnLoopback: the demo talks to this machine only, and only its own file may, since an API server refuses it.
func TestDemoStaysOnLoopback(t *testing.T) {
	t.Parallel()
	files := samples(t)
	for name, list := range files {
		slicesHere := len(of[*discoveryv1.EndpointSlice](list)) + len(of[*corev1.Endpoints](list))
		if (slicesHere > 0) != (name == demo) {
			t.Errorf("%s holds %d endpoint objects", name, slicesHere)
		}
	}
	ports := map[int32]bool{}
	for _, s := range of[*discoveryv1.EndpointSlice](files[demo]) {
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				if ip, err := netip.ParseAddr(a); err != nil || !ip.IsLoopback() {
					t.Errorf("EndpointSlice %s has the address %s", s.Name, a)
				}
			}
		}
		ports[*s.Ports[0].Port] = true
	}
	if len(ports) != 2 || !ports[18001] || !ports[18002] {
		t.Errorf("the demo's Pods are at %v, want 18001 and 18002", ports)
	}
}

// TestSamplesForACluster: the kustomization leaves out what a cluster makes itself, and nothing else.
func TestSamplesForACluster(t *testing.T) {
	t.Parallel()
	got := byID(t, kustomize(t, "config/samples"))
	for name, list := range samples(t) {
		for _, o := range list {
			_, built := got[id(t, o)]
			if want := name != demo && name != "ingressclass.yaml"; built != want {
				t.Errorf("%s of %s: in the kustomization is %t", id(t, o), name, built)
			}
		}
	}
}

func TestSampleDeployment(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(path(t, "config/samples/cluster/goweb.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d := one[*appsv1.Deployment](t, decode(t, content))
	if found := breaches(d.Spec.Template.Spec); len(found) > 0 {
		t.Errorf("against the restricted standard: %q", found)
	}
	for _, s := range of[*corev1.Service](samples(t)["goweb.yaml"]) {
		if s.Spec.Selector["app"] != d.Spec.Template.Labels["app"] || s.Spec.Ports[0].TargetPort.IntVal != d.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort {
			t.Errorf("Service %s does not lead to the Pods of %s", s.Name, d.Name)
		}
	}
}

func TestSampleCertificate(t *testing.T) {
	t.Parallel()
	all := samples(t)["tls.yaml"]
	secret, ingress := one[*corev1.Secret](t, all), one[*networkingv1.Ingress](t, all)
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range ingress.Spec.TLS[0].Hosts {
		if err := pair.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if life := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore); life < 10*365*24*time.Hour || ingress.Spec.TLS[0].SecretName != secret.Name {
		t.Errorf("the sample certificate lives %s, Secret %s", life, ingress.Spec.TLS[0].SecretName)
	}
	// Whoever finds this key must see at once that it protects nothing.
	content, err := os.ReadFile(path(t, "config/samples/tls.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), "NEVER USE IT FOR ANYTHING REAL") || !strings.Contains(pair.Leaf.Subject.String(), "not for production") {
		t.Error("the sample key does not say that it is one")
	}
}
