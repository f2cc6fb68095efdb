package controllers

import (
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// managedEndpoints is the label that kube-controller-manager (1.33 and newer) puts on the core Endpoints that it derives from
// selectors. Their Services have slices, so they are not watched at all.
const managedEndpoints = "endpoints.kubernetes.io/managed-by"

// restMapper knows the kinds that the controllers read and write, so that no discovery is needed: a start is faster by several round
// trips and waits for an API server that is away instead of failing.
func restMapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	m := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion, networkingv1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, eventsv1.SchemeGroupVersion})
	for _, kind := range []string{"Service", "Endpoints", "Secret", "ConfigMap", "Pod"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	m.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	m.Add(networkingv1.SchemeGroupVersion.WithKind("Ingress"), meta.RESTScopeNamespace)
	m.Add(networkingv1.SchemeGroupVersion.WithKind("IngressClass"), meta.RESTScopeRoot)
	m.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	m.Add(eventsv1.SchemeGroupVersion.WithKind("Event"), meta.RESTScopeNamespace)
	return m, nil
}

// cacheOptions restricts the manager's cache to what the mirror reads. Secrets are not in it, and of ConfigMaps the operator's only; see caches.
func cacheOptions(o Options, l *links) cache.Options {
	services, slices, endpoints := cache.ByObject{}, cache.ByObject{Transform: trimSlice}, cache.ByObject{Transform: trimEndpoints}
	unmanaged, err := labels.NewRequirement(managedEndpoints, "!", nil)
	if err != nil {
		panic(err) // a constant that is tested
	}
	endpoints.Label = labels.NewSelector().Add(*unmanaged)
	if len(o.Namespaces) > 0 {
		services.Namespaces = map[string]cache.Config{}
		slices.Namespaces = map[string]cache.Config{}
		endpoints.Namespaces = map[string]cache.Config{}
		for _, n := range o.Namespaces {
			services.Namespaces[n] = cache.Config{}
			slices.Namespaces[n] = cache.Config{}
			endpoints.Namespaces[n] = cache.Config{}
		}
		only(services.Namespaces, o.Status.PublishService, byName)
		if backend, ok := parseName(o.Ingress.DefaultBackend); ok {
			only(services.Namespaces, backend, byName)
			only(slices.Namespaces, backend, byServiceName)
			only(endpoints.Namespaces, backend, byName)
		}
	}
	options := cache.Options{
		DefaultTransform:            trim,
		ReaderFailOnMissingInformer: true,
		NewInformer:                 l.newInformer,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}:            services,
			&discoveryv1.EndpointSlice{}: slices,
			&corev1.Endpoints{}:          endpoints,
		},
	}
	if len(o.Namespaces) > 0 {
		options.DefaultNamespaces = namespaces(o.Namespaces)
	}
	if settings, ok := parseName(o.Ingress.Settings); ok {
		options.ByObject[&corev1.ConfigMap{}] = cache.ByObject{Namespaces: map[string]cache.Config{settings.Namespace: byName(settings.Name)}}
	}
	return options
}

// namespaces restricts a cache to some namespaces.
func namespaces(names []string) map[string]cache.Config {
	in := make(map[string]cache.Config, len(names))
	for _, n := range names {
		in[n] = cache.Config{}
	}
	return in
}

// only adds one object to the namespaces of a kind, unless its whole namespace, or another object there, is watched already: then the
// namespace is watched whole, for two names cannot be selected.
func only(in map[string]cache.Config, key types.NamespacedName, selected func(name string) cache.Config) {
	if key.Name == "" {
		return
	}
	if _, watched := in[key.Namespace]; watched {
		in[key.Namespace] = cache.Config{}
		return
	}
	in[key.Namespace] = selected(key.Name)
}

func byName(name string) cache.Config {
	return cache.Config{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name)}
}

func byServiceName(name string) cache.Config {
	return cache.Config{LabelSelector: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: name})}
}

// trim drops metadata that nobody reads, before an object is stored.
func trim(o any) (any, error) {
	// Transforms see objects that are stored already, too, which must not be written to: hence the tests.
	m, err := meta.Accessor(o)
	if err != nil {
		return o, nil //nolint:nilerr // a tombstone, for instance, passes as it is
	}
	if m.GetManagedFields() != nil {
		m.SetManagedFields(nil)
	}
	if _, ok := m.GetAnnotations()[corev1.LastAppliedConfigAnnotation]; ok { //nolint:staticcheck // S1033: deleting what is not there is a write, too
		delete(m.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
	}
	return o, nil
}

// trimSlice keeps of an EndpointSlice what decides addresses: a few hundred bytes in a thousand.
func trimSlice(o any) (any, error) {
	s, ok := o.(*discoveryv1.EndpointSlice)
	if !ok {
		return o, nil
	}
	service, labelled := s.Labels[discoveryv1.LabelServiceName]
	kept := &discoveryv1.EndpointSlice{
		ObjectMeta:  identity(s),
		AddressType: s.AddressType,
		Ports:       s.Ports,
		Endpoints:   make([]discoveryv1.Endpoint, len(s.Endpoints)),
	}
	if labelled {
		kept.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		kept.Endpoints[i] = discoveryv1.Endpoint{
			Addresses:  e.Addresses,
			Conditions: e.Conditions,
			TargetRef:  trimRef(e.TargetRef),
			NodeName:   e.NodeName,
			Zone:       e.Zone,
		}
	}
	return kept, nil
}

// trimEndpoints keeps of core Endpoints what decides addresses.
func trimEndpoints(o any) (any, error) {
	e, ok := o.(*corev1.Endpoints)
	if !ok {
		return o, nil
	}
	return &corev1.Endpoints{ObjectMeta: identity(e), Subsets: e.Subsets}, nil
}

// trimRef keeps of a reference what names and identifies the Pod.
func trimRef(r *corev1.ObjectReference) *corev1.ObjectReference {
	if r == nil {
		return nil
	}
	return &corev1.ObjectReference{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, UID: r.UID}
}
