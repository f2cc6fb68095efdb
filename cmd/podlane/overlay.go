package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/manifest"
)

// readNew reads files of manifests as `kubectl apply` would take them: what names no namespace belongs to the given one. "-" is in. Problems are those
// of reading; a file that cannot be read whole is an error.
func readNew(files []string, namespace string, in io.Reader) (set *manifest.Set, err error) {
	dir, err := os.MkdirTemp("", "podlane-diff-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	written := 0
	for _, file := range files {
		objects, err := objectsIn(file, namespace, in)
		if err != nil {
			return nil, fmt.Errorf("--filename %s: %w", file, err)
		}
		for _, o := range objects {
			// The names keep the order.
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%08d.json", written)), o, 0o600); err != nil {
				return nil, err
			}
			written++
		}
	}
	if set, err = manifest.Read(os.DirFS(dir)); err != nil {
		return nil, err
	}
	for i := range set.Problems {
		p := &set.Problems[i]
		p.Source = ""
		if p.Reason == ingress.ManifestInvalid {
			return nil, fmt.Errorf("--filename: %s: %s", p.Object, p.Message)
		}
	}
	return set, nil
}

// objectsIn returns the objects of a file as JSON, each with a namespace.
func objectsIn(file, namespace string, in io.Reader) (list [][]byte, err error) {
	text, err := io.ReadAll(in)
	if file != "-" {
		text, err = os.ReadFile(file) //nolint:gosec // G304: a file that the user names
	}
	if err != nil {
		return nil, err
	}
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4<<10)
	for {
		var o map[string]any
		if err := documents.Decode(&o); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		each := []any{o}
		if items, ok := o["items"].([]any); ok {
			each = items
		}
		for _, item := range each {
			object, ok := item.(map[string]any)
			if !ok || len(object) == 0 {
				continue
			}
			withNamespace(object, namespace)
			text, err := json.Marshal(object)
			if err != nil {
				return nil, err
			}
			list = append(list, text)
		}
	}
}

// withNamespace gives an object a namespace, unless it has one, or its kind has none.
func withNamespace(object map[string]any, namespace string) {
	meta, ok := object["metadata"].(map[string]any)
	if !ok || object["kind"] == "IngressClass" || meta["namespace"] != nil || namespace == "" {
		return
	}
	meta["namespace"] = namespace
}

// overlay returns base with the objects of over in the place of those of their names. What was there keeps its age and its identity, as it does where
// somebody applies it; what is new was made at now, and is younger than all that is there.
func overlay(base, over ingress.Snapshot, now metav1.Time) ingress.Snapshot {
	base.Ingresses = laid(base.Ingresses, over.Ingresses, now, func(was, o *networkingv1.Ingress) { o.Status = was.Status })
	base.Classes = laid(base.Classes, over.Classes, now, func(_, _ *networkingv1.IngressClass) {})
	base.Services = laid(base.Services, over.Services, now, func(was, o *corev1.Service) {
		if o.Spec.ClusterIP == "" {
			o.Spec.ClusterIP, o.Spec.ClusterIPs = was.Spec.ClusterIP, was.Spec.ClusterIPs
		}
	})
	base.Secrets = laid(base.Secrets, over.Secrets, now, func(_, _ *corev1.Secret) {})
	base.ConfigMaps = laid(base.ConfigMaps, over.ConfigMaps, now, func(_, _ *corev1.ConfigMap) {})
	return base
}

// laid returns a list with the objects of over laid on it; keep makes one like what the API server would keep of the old one.
func laid[T any, P interface {
	*T
	client.Object
}](base, over []*T, now metav1.Time, keep func(was, o *T)) []*T {
	list := slices.Clone(base)
	for _, o := range over {
		made := P(o).DeepCopyObject().(P) //nolint:forcetypeassert // a copy is of the same type
		at := slices.IndexFunc(list, func(was *T) bool { return client.ObjectKeyFromObject(P(was)) == client.ObjectKeyFromObject(P(o)) })
		if at < 0 {
			made.SetCreationTimestamp(now)
			list = append(list, (*T)(made))
			continue
		}
		was := P(list[at])
		made.SetUID(was.GetUID())
		made.SetCreationTimestamp(was.GetCreationTimestamp())
		keep((*T)(was), (*T)(made))
		list[at] = (*T)(made)
	}
	return list
}
