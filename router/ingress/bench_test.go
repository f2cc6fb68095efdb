package ingress_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/router/ingress"
)

// cluster returns n Ingresses of one host, two paths and two annotations each, over n Services, and n/10 certificates.
func cluster(tb testing.TB, n int) ingress.Snapshot {
	tb.Helper()
	s := ingress.Snapshot{Options: testOptions()}
	cert, key := makePair(tb, 0, "*.example.com")
	prefix := networkingv1.PathTypePrefix
	for i := range n {
		namespace, name := fmt.Sprintf("team-%d", i%100), fmt.Sprintf("app-%d", i)
		o := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(fmt.Sprintf("uid-%d", i)), CreationTimestamp: metav1.NewTime(time.Unix(int64(i), 0)),
			Annotations: map[string]string{"nginx.ingress.kubernetes.io/limit-rps": "10", "nginx.ingress.kubernetes.io/proxy-body-size": "8m"},
		}}
		host := fmt.Sprintf("app-%d.example.com", i)
		o.Spec.Rules = []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
			Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: backendTo(name, 80)}, {Path: "/api", PathType: &prefix, Backend: backendTo(name, 80)}},
		}}}}
		if i%10 == 0 {
			o.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{host}, SecretName: name}}
			s.Secrets = append(s.Secrets, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: corev1.SecretTypeTLS,
				Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
			})
		}
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		service.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
		s.Ingresses, s.Services = append(s.Ingresses, o), append(s.Services, service)
	}
	return s
}

// BenchmarkBuild builds 10,000 Ingresses (20,000 routes, 1,000 certificates, 10,000 Problems) from nothing.
func BenchmarkBuild(b *testing.B) {
	s := cluster(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		ingress.Build(s, testFamilies())
	}
}

// BenchmarkBuildAfter is what one change among 10,000 Ingresses costs.
func BenchmarkBuildAfter(b *testing.B) {
	type change func(s *ingress.Snapshot, n int)
	changes := map[string]change{
		"nothing": func(*ingress.Snapshot, int) {},
		"path": func(s *ingress.Snapshot, n int) {
			i := n % len(s.Ingresses)
			s.Ingresses[i] = s.Ingresses[i].DeepCopy()
			s.Ingresses[i].Spec.Rules[0].HTTP.Paths[1].Path = fmt.Sprintf("/api-%d", n)
		},
		"problem": func(s *ingress.Snapshot, n int) {
			i := n % len(s.Ingresses)
			s.Ingresses[i] = s.Ingresses[i].DeepCopy()
			s.Ingresses[i].Annotations["podlane.dev/unknown"+fmt.Sprint(n)] = "x"
		},
		"new-ingress": func(s *ingress.Snapshot, n int) {
			o := s.Ingresses[0].DeepCopy()
			o.Name, o.Spec.Rules[0].Host = fmt.Sprintf("new-%d", n), fmt.Sprintf("new-%d.example.com", n)
			s.Ingresses = slices.Insert(s.Ingresses, (n*7919)%len(s.Ingresses), o)
		},
		"service": func(s *ingress.Snapshot, n int) {
			i := n % len(s.Services)
			s.Services[i] = s.Services[i].DeepCopy()
			s.Services[i].Spec.Ports[0].Name = fmt.Sprintf("http-%d", n)
		},
		"status": func(s *ingress.Snapshot, n int) {
			i := n % len(s.Ingresses)
			s.Ingresses[i] = s.Ingresses[i].DeepCopy()
			s.Ingresses[i].Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}
		},
		"certificate": func(s *ingress.Snapshot, n int) {
			i := n % len(s.Secrets)
			cert, key := makePair(b, int64(n%8), "*.example.com")
			s.Secrets[i] = s.Secrets[i].DeepCopy()
			s.Secrets[i].Data = map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key}
		},
		"reordered": func(s *ingress.Snapshot, n int) {
			slices.Reverse(s.Ingresses)
			slices.Reverse(s.Services)
			s.Ingresses[0] = s.Ingresses[0].DeepCopy()
			s.Ingresses[0].Spec.Rules[0].HTTP.Paths[1].Path = fmt.Sprintf("/api-%d", n)
		},
	}
	for name, change := range changes {
		b.Run(name, func(b *testing.B) {
			s := cluster(b, 10_000)
			builder := ingress.NewBuilder(testFamilies())
			builder.Build(s)
			runtime.GC()
			b.ReportAllocs()
			for n := 1; b.Loop(); n++ {
				change(&s, n)
				builder.Build(s)
			}
		})
	}
}

// BenchmarkTableMemory prints what a Table keeps per route, and what a Builder keeps besides.
func BenchmarkTableMemory(b *testing.B) {
	s := cluster(b, 10_000)
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		before := heap()
		builder := ingress.NewBuilder(testFamilies())
		table, problems := builder.Build(s)
		all := heap()
		runtime.KeepAlive(builder)
		alone := heap()
		b.ReportMetric((alone-before)/float64(table.Len()), "table-bytes/route")
		b.ReportMetric((all-alone)/float64(table.Len()), "builder-bytes/route")
		runtime.KeepAlive(problems)
	}
	runtime.KeepAlive(s)
}
