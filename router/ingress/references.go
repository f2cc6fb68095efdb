package ingress

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// This file says, before a Build, which objects it will look for: whoever fetches them needs to know.

// crossNamespace is the key of the ConfigMap that lets annotations name objects of other namespaces.
const crossNamespace = "allow-cross-namespace-resources"

// SecretRefs returns the names of the Secrets that Build reads for s, sorted, once each, whether they are in s or not.
// Secrets of these names must be in the Snapshot whatever their type. Of s.Options, those count that name Secrets or say where they are named.
func SecretRefs(s Snapshot) []types.NamespacedName {
	r := newReferrer(s)
	for _, option := range []string{s.Options.DefaultCertificate, s.Options.TicketKeys} {
		r.add("", option)
	}
	refs := s.Options.References
	r.settings(refs.SecretSettings)
	for _, i := range formsOf(s) {
		for _, name := range tlsSecrets(i) {
			r.found[name] = struct{}{}
		}
		r.annotations(i, refs.SecretAnnotations)
	}
	return r.sorted()
}

// ConfigMapRefs is SecretRefs for ConfigMaps.
func ConfigMapRefs(s Snapshot) []types.NamespacedName {
	r := newReferrer(s)
	r.add("", s.Options.Settings)
	refs := s.Options.References
	r.settings(refs.ConfigMapSettings)
	for _, i := range formsOf(s) {
		r.annotations(i, refs.ConfigMapAnnotations)
	}
	return r.sorted()
}

// formsOf returns the Ingresses of s that are ours, and their last good forms where those are others.
func formsOf(s Snapshot) []*networkingv1.Ingress {
	forms := Owned(s)
	for _, i := range forms {
		if last := s.LastGood.ingress(nameOf(i.Namespace, i.Name)).object; last != nil && last != i {
			forms = append(forms, last)
		}
	}
	return forms
}

// referrer collects names.
type referrer struct {
	prefixes []string
	objects  []*corev1.ConfigMap // with the settings: the present form and the last good one
	foreign  bool                // names of other namespaces count
	found    map[types.NamespacedName]struct{}
}

func newReferrer(s Snapshot) *referrer {
	r := &referrer{prefixes: s.Options.AnnotationPrefixes, found: make(map[types.NamespacedName]struct{})}
	name, ok := splitName(s.Options.Settings)
	if !ok {
		return r
	}
	for _, c := range append(slices.Clone(s.ConfigMaps), s.LastGood.configMap().object) {
		if c != nil && c.Namespace == name.Namespace && c.Name == name.Name && !slices.Contains(r.objects, c) {
			r.objects, r.foreign = append(r.objects, c), r.foreign || c.Data[crossNamespace] == "true"
		}
	}
	return r
}

// add adds what written names for somebody in namespace, if anything.
func (r *referrer) add(namespace, written string) {
	written = strings.TrimSpace(written)
	if !strings.Contains(written, "/") {
		written = namespace + "/" + written
	}
	if name, ok := splitName(written); ok {
		r.found[name] = struct{}{}
	}
}

// settings adds what the keys of the operator's ConfigMap name.
func (r *referrer) settings(keys []string) {
	for _, object := range r.objects {
		for _, key := range keys {
			if value, ok := object.Data[key]; ok {
				r.add(object.Namespace, value)
			}
		}
	}
}

// annotations adds what the annotations of i name.
func (r *referrer) annotations(i *networkingv1.Ingress, keys []string) {
	for _, key := range keys {
		for _, prefix := range slices.Backward(r.prefixes) {
			value, ok := i.Annotations[prefix+"/"+key]
			if !ok {
				continue
			}
			if namespace, _, named := strings.Cut(value, "/"); r.foreign || !named || strings.TrimSpace(namespace) == i.Namespace {
				r.add(i.Namespace, value)
			}
			break
		}
	}
}

func (r *referrer) sorted() []types.NamespacedName {
	names := make([]types.NamespacedName, 0, len(r.found))
	for name := range r.found {
		names = append(names, name)
	}
	slices.SortFunc(names, compareNames)
	return names
}
