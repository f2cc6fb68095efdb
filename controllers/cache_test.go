package controllers

import (
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/router/ingress"
)

func TestTrim(t *testing.T) {
	s := newService("s")
	s.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	s.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "keep": "me"}
	if _, err := trim(s); err != nil {
		t.Fatal(err)
	}
	if s.ManagedFields != nil || len(s.Annotations) != 1 || s.Annotations["keep"] != "me" {
		t.Errorf("trimmed to %+v", s.ObjectMeta)
	}
	// What is no object passes through every transform.
	tombstone := toolscache.DeletedFinalStateUnknown{Key: "ns/x"}
	for _, f := range []toolscache.TransformFunc{trim, trimSlice, trimEndpoints, trimMetadata, newReferents(secretKind(), logr.Discard(), nil).arrive} {
		if got, err := f(tombstone); err != nil || got != any(tombstone) {
			t.Errorf("a tombstone became %v, %v", got, err)
		}
	}
}

func TestTrimSlice(t *testing.T) {
	s := newSlice("s-1", "s", 1)
	s.UID, s.ResourceVersion = "uid", "7"
	s.OwnerReferences = []metav1.OwnerReference{{Name: "s"}}
	s.Labels["other"] = "x"
	s.AddressType = discoveryv1.AddressTypeIPv4
	ready, node, zone, hostname := true, "node", "zone", "host"
	s.Endpoints[0] = discoveryv1.Endpoint{
		Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, NodeName: &node, Zone: &zone, Hostname: &hostname,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "p", UID: "u", ResourceVersion: "8"},
	}
	o, err := trimSlice(s)
	if err != nil {
		t.Fatal(err)
	}
	got := o.(*discoveryv1.EndpointSlice)
	e := got.Endpoints[0]
	if got.ResourceVersion != "7" || len(got.Labels) != 1 || got.OwnerReferences != nil || e.Hostname != nil || e.TargetRef.ResourceVersion != "" {
		t.Errorf("too much is kept: %+v", got)
	}
	if e.Addresses[0] != "10.0.0.1" || !*e.Conditions.Ready || *e.NodeName != "node" || *e.Zone != "zone" || e.TargetRef.UID != "u" || got.AddressType != s.AddressType {
		t.Errorf("too little is kept: %+v", got)
	}
}

func TestEndpointsOfTheControlPlaneAreNotWatched(t *testing.T) {
	for o, by := range cacheOptions(Options{}, newLinks()).ByObject {
		if _, ok := o.(*corev1.Endpoints); ok {
			if got := by.Label.String(); got != "!endpoints.kubernetes.io/managed-by" {
				t.Errorf("Endpoints are selected by %q", got)
			}
		}
	}
}

// selectors returns "namespace: selector" of one kind.
func selectors(o cache.Options, kind client.Object) map[string]string {
	got := map[string]string{}
	for k, by := range o.ByObject {
		if strings.TrimPrefix(typeName(k), "*") != strings.TrimPrefix(typeName(kind), "*") {
			continue
		}
		for n, c := range by.Namespaces {
			switch {
			case c.FieldSelector != nil:
				got[n] = c.FieldSelector.String()
			case c.LabelSelector != nil:
				got[n] = c.LabelSelector.String()
			default:
				got[n] = ""
			}
		}
	}
	return got
}

func TestCacheOfSomeNamespaces(t *testing.T) {
	o := cacheOptions(Options{
		Namespaces: []string{"a", "b"},
		Ingress:    ingress.Options{DefaultBackend: "system/fallback", Settings: "system/podlane"},
		Status:     StatusOptions{PublishService: named("system", "podlane")},
	}, newLinks())
	tests := []struct {
		kind client.Object
		want map[string]string
	}{
		// Two names in one namespace cannot be selected: all of it is watched.
		{&corev1.Service{}, map[string]string{"a": "", "b": "", "system": ""}},
		{&discoveryv1.EndpointSlice{}, map[string]string{"a": "", "b": "", "system": "kubernetes.io/service-name=fallback"}},
		{&corev1.Endpoints{}, map[string]string{"a": "", "b": "", "system": "metadata.name=fallback"}},
		{&corev1.ConfigMap{}, map[string]string{"system": "metadata.name=podlane"}},
	}
	for _, tt := range tests {
		got := selectors(o, tt.kind)
		if len(got) != len(tt.want) {
			t.Errorf("%T: %v, want %v", tt.kind, got, tt.want)
		}
		for n, s := range tt.want {
			if g, ok := got[n]; !ok || g != s {
				t.Errorf("%T in %s is selected by %q (%t), want %q", tt.kind, n, g, ok, s)
			}
		}
	}
	if len(o.DefaultNamespaces) != 2 || !o.ReaderFailOnMissingInformer {
		t.Errorf("namespaces %v, fail on missing %t", o.DefaultNamespaces, o.ReaderFailOnMissingInformer)
	}
}

func TestRESTMapperKnowsWhatIsRead(t *testing.T) {
	m, err := restMapper(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for gvk, resource := range map[schema.GroupVersionKind]string{
		corev1.SchemeGroupVersion.WithKind("Service"):            "services",
		corev1.SchemeGroupVersion.WithKind("Endpoints"):          "endpoints",
		corev1.SchemeGroupVersion.WithKind("Secret"):             "secrets",
		corev1.SchemeGroupVersion.WithKind("ConfigMap"):          "configmaps",
		corev1.SchemeGroupVersion.WithKind("Pod"):                "pods",
		corev1.SchemeGroupVersion.WithKind("Node"):               "nodes",
		networkingv1.SchemeGroupVersion.WithKind("Ingress"):      "ingresses",
		networkingv1.SchemeGroupVersion.WithKind("IngressClass"): "ingressclasses",
		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"): "endpointslices",
		eventsv1.SchemeGroupVersion.WithKind("Event"):            "events",
	} {
		mapping, err := m.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil || mapping.Resource.Resource != resource {
			t.Errorf("%s maps to %v, %v", gvk.Kind, mapping, err)
		}
	}
}
