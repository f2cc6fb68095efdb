package ingress

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// objects are where the objects of a Snapshot are found; the functions return nil for what is not there.
type objects struct {
	secret    func(types.NamespacedName) *corev1.Secret
	configMap func(types.NamespacedName) *corev1.ConfigMap
}

// source is the policy.Source of one reading: it knows what was given, and remembers what was looked at.
type source struct {
	objects
	// namespace is where names without a namespace are looked for; foreign lets names have another one.
	namespace string
	foreign   bool
	compat    bool
	// values are the merged values; ofOperator says which come from the operator's ConfigMap, whose namespace is operator.
	values     map[string]string
	ofOperator map[string]bool
	operator   string
	looked     references
}

// references are the Secrets and ConfigMaps that were looked at, there or not.
type references struct {
	secrets    map[types.NamespacedName]*corev1.Secret
	configMaps map[types.NamespacedName]*corev1.ConfigMap
}

// current says whether all that was looked at is what it was.
func (r references) current(o objects) bool {
	for name, s := range r.secrets {
		if now := o.secret(name); now != s && (now == nil || s == nil || !sameSecret(now, s)) {
			return false
		}
	}
	for name, c := range r.configMaps {
		if now := o.configMap(name); !sameConfigMap(now, c) {
			return false
		}
	}
	return true
}

// sameConfigMap says whether two versions of a ConfigMap, either of which may be nil, are the same to Build.
func sameConfigMap(a, b *corev1.ConfigMap) bool {
	return a == b || a != nil && b != nil && a.UID == b.UID && maps.Equal(a.Data, b.Data)
}

// referenceError says that an object that a value names cannot be used.
type referenceError struct {
	key    string
	reason Reason
	text   string
}

func (e *referenceError) Error() string { return e.key + ": " + e.text }

// Secret implements policy.Source.
func (s *source) Secret(key string) (map[string][]byte, error) {
	name, err := s.name(key, "Secret", SecretForbidden)
	if err != nil {
		return nil, err
	}
	found := s.secret(name)
	if s.looked.secrets == nil {
		s.looked.secrets = make(map[types.NamespacedName]*corev1.Secret)
	}
	s.looked.secrets[name] = found
	if found == nil {
		return nil, &referenceError{key, SecretMissing, fmt.Sprintf("there is no Secret %q in namespace %q", name.Name, name.Namespace)}
	}
	return found.Data, nil
}

// ConfigMap implements policy.Source.
func (s *source) ConfigMap(key string) (map[string]string, error) {
	name, err := s.name(key, "ConfigMap", ConfigMapForbidden)
	if err != nil {
		return nil, err
	}
	found := s.configMap(name)
	if s.looked.configMaps == nil {
		s.looked.configMaps = make(map[types.NamespacedName]*corev1.ConfigMap)
	}
	s.looked.configMaps[name] = found
	if found == nil {
		return nil, &referenceError{key, ConfigMapMissing, fmt.Sprintf("there is no ConfigMap %q in namespace %q", name.Name, name.Namespace)}
	}
	return found.Data, nil
}

// Compat implements policy.Source.
func (s *source) Compat() bool { return s.compat }

// name returns what key's value names.
func (s *source) name(key, kind string, forbidden Reason) (types.NamespacedName, error) {
	home, foreign := s.namespace, s.foreign
	if s.ofOperator[key] {
		home, foreign = s.operator, true
	}
	written := strings.TrimSpace(s.values[key])
	namespace, name, ok := strings.Cut(written, "/")
	if !ok {
		namespace, name = home, written
	}
	switch {
	case namespace == "" || name == "" || strings.Contains(name, "/"):
		return types.NamespacedName{}, &referenceError{key, forbidden, fmt.Sprintf("%q names no %s: write its name, or namespace/name", written, kind)}
	case namespace != home && !foreign:
		return types.NamespacedName{}, &referenceError{key, forbidden, fmt.Sprintf("%q is not a %s of the Ingress's own namespace %q, and only those are read: copy it there", written, kind, home)}
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}
