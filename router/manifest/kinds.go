package manifest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// object is one object of a file.
type object struct {
	key    objectKey
	origin *origin
	// value is the object as it was decoded, with defaults. completed is what Sets have: a copy where an age was made up.
	value, completed metav1.Object
	age              int64 // that completed has
}

// complete gives an object that has no age one by its place among all objects, so that the first to be written is the
// oldest. An object that keeps its place stays the same pointer.
func (o *object) complete(place int64) {
	if o.completed != nil && (o.completed == o.value || o.age == place) {
		return
	}
	o.completed, o.age = o.value, place
	age := metav1.NewTime(time.Unix(place, 0))
	switch v := o.value.(type) {
	case *networkingv1.Ingress:
		if v.CreationTimestamp.IsZero() {
			aged := *v
			aged.CreationTimestamp = age
			o.completed = &aged
		}
	case *networkingv1.IngressClass:
		if v.CreationTimestamp.IsZero() {
			aged := *v
			aged.CreationTimestamp = age
			o.completed = &aged
		}
	}
}

// addTo adds a completed object to a Set.
func (o *object) addTo(s *Set) {
	switch v := o.completed.(type) {
	case *networkingv1.Ingress:
		s.Snapshot.Ingresses = append(s.Snapshot.Ingresses, v)
	case *networkingv1.IngressClass:
		s.Snapshot.Classes = append(s.Snapshot.Classes, v)
	case *corev1.Service:
		s.Snapshot.Services = append(s.Snapshot.Services, v)
	case *corev1.Secret:
		s.Snapshot.Secrets = append(s.Snapshot.Secrets, v)
	case *corev1.ConfigMap:
		s.Snapshot.ConfigMaps = append(s.Snapshot.ConfigMaps, v)
	case *corev1.Endpoints:
		s.Endpoints[router.Service{Namespace: v.Namespace, Name: v.Name}] = v
	case *discoveryv1.EndpointSlice:
		service := router.Service{Namespace: v.Namespace, Name: v.Labels[discoveryv1.LabelServiceName]}
		s.Slices[service] = append(s.Slices[service], v)
	}
}

// decode decodes one object of a kind that is needed; others are nobody's business here.
func (f *file) decode(o *origin, h header, data []byte) {
	key := objectKey{h.Kind, h.Metadata.Namespace, h.Metadata.Name}
	if key.namespace == "" {
		key.namespace = metav1.NamespaceDefault
	}
	if h.Kind == "IngressClass" {
		key.namespace = ""
	}
	decode := decoderOf(h.APIVersion, h.Kind)
	if decode == nil {
		if want := servedVersion(h.APIVersion, h.Kind); want != "" {
			f.problems = append(f.problems, ingress.Problem{
				Object: key.object(), Field: "apiVersion", Reason: ingress.OldVersion, Effect: ingress.RouteDropped,
				Message: fmt.Sprintf("%s of version %s is not read: write apiVersion: %s", h.Kind, h.APIVersion, want), Source: o.source("apiVersion"),
			})
		}
		return
	}
	if h.Metadata.Name == "" {
		f.broken(o, o.lineOf("metadata"), fmt.Errorf("%s has no metadata.name", h.Kind))
		return
	}
	value, err := decode(f, o, key, data)
	switch {
	case err != nil:
		f.broken(o, o.lineOf(""), fmt.Errorf("%s: %w", key.object(), err))
	case value != nil:
		value.SetNamespace(key.namespace)
		if value.GetUID() == "" {
			value.SetUID(types.UID("manifest:" + key.namespace + "/" + key.name))
		}
		f.objects = append(f.objects, &object{key: key, origin: o, value: value})
	}
}

// decoder decodes one kind. It returns nil and no error for what it has reported itself.
type decoder func(f *file, o *origin, key objectKey, data []byte) (metav1.Object, error)

// decoderOf returns the decoder of a kind that is read, or nil.
func decoderOf(apiVersion, kind string) decoder {
	switch apiVersion + "/" + kind {
	case "networking.k8s.io/v1/Ingress":
		return plain(func(*networkingv1.Ingress) error { return nil })
	case "networking.k8s.io/v1beta1/Ingress", "extensions/v1beta1/Ingress":
		return decodeOldIngress
	case "networking.k8s.io/v1/IngressClass":
		return plain(func(*networkingv1.IngressClass) error { return nil })
	case "networking.k8s.io/v1beta1/IngressClass":
		return decodeOldClass
	case "v1/Service":
		return plain(defaultService)
	case "v1/Endpoints":
		return plain(func(*corev1.Endpoints) error { return nil })
	case "v1/Secret":
		return plain(mergeStringData)
	case "v1/ConfigMap":
		return plain(func(*corev1.ConfigMap) error { return nil })
	case "discovery.k8s.io/v1/EndpointSlice":
		return decodeSlice
	}
	return nil
}

// servedVersion returns today's version of a kind that is read, for manifests of another version; "" for other kinds.
func servedVersion(apiVersion, kind string) string {
	group, _, _ := strings.Cut(apiVersion, "/")
	switch group + "/" + kind {
	case "networking.k8s.io/Ingress", "extensions/Ingress", "networking.k8s.io/IngressClass":
		return "networking.k8s.io/v1"
	case "discovery.k8s.io/EndpointSlice":
		return "discovery.k8s.io/v1"
	}
	return ""
}

// plain decodes a T and completes it. An error says that an API server would refuse the object.
func plain[T any, P interface {
	*T
	metav1.Object
}](complete func(P) error) decoder {
	return func(f *file, o *origin, key objectKey, data []byte) (metav1.Object, error) {
		v := P(new(T))
		if !f.strict(o, key, data, v) {
			return nil, nil
		}
		if err := complete(v); err != nil {
			return nil, err
		}
		return v, nil
	}
}

// defaultService sets what an API server sets of what Build reads.
func defaultService(s *corev1.Service) error {
	if s.Spec.Type == "" {
		s.Spec.Type = corev1.ServiceTypeClusterIP
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
		if p.Name == "" && len(s.Spec.Ports) > 1 {
			return fmt.Errorf("spec.ports[%d].name is missing: where there are several ports, each needs a name", i)
		}
	}
	return nil
}

// mergeStringData does what an API server does with stringData.
func mergeStringData(s *corev1.Secret) error {
	if len(s.StringData) > 0 {
		data := make(map[string][]byte, len(s.Data)+len(s.StringData))
		maps.Copy(data, s.Data)
		for key, text := range s.StringData {
			data[key] = []byte(text)
		}
		s.Data, s.StringData = data, nil
	}
	return nil
}

// decodeSlice decodes an EndpointSlice. One that names no Service is nobody's.
func decodeSlice(f *file, o *origin, key objectKey, data []byte) (metav1.Object, error) {
	s := new(discoveryv1.EndpointSlice)
	if !f.strict(o, key, data, s) {
		return nil, nil
	}
	switch s.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	case "":
		return nil, errors.New("addressType is missing: write IPv4 or IPv6")
	default:
		return nil, fmt.Errorf("addressType %q is not one of IPv4, IPv6 and FQDN", s.AddressType)
	}
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		f.problems = append(f.problems, ingress.Problem{
			Object: key.object(), Field: "metadata.labels", Reason: ingress.NoService, Effect: ingress.Ignored,
			Message: "it belongs to no Service: write the label " + discoveryv1.LabelServiceName, Source: o.source("metadata.labels"),
		})
		return nil, nil
	}
	return s, nil
}

// decodeOldClass converts an IngressClass of v1beta1, whose fields are those of v1.
func decodeOldClass(f *file, o *origin, key objectKey, data []byte) (metav1.Object, error) {
	old := new(networkingv1beta1.IngressClass)
	if !f.strict(o, key, data, old) {
		return nil, nil
	}
	f.old(o, key, old.APIVersion, "nothing else changes")
	c := &networkingv1.IngressClass{ObjectMeta: old.ObjectMeta}
	c.Spec.Controller = old.Spec.Controller
	return c, nil
}

// old reports an object of a version that API servers do not serve any more.
func (f *file) old(o *origin, key objectKey, version, changes string) {
	f.problems = append(f.problems, ingress.Problem{
		Object: key.object(), Field: "apiVersion", Reason: ingress.OldVersion, Effect: ingress.Notice,
		Message: fmt.Sprintf("%s has not been served since Kubernetes 1.22: write apiVersion: networking.k8s.io/v1; %s", version, changes), Source: o.source("apiVersion"),
	})
}
