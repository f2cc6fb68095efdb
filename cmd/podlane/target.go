package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/ingress"
)

// target is an object that is waited for, as it was at the start.
type target struct {
	kind string
	name types.NamespacedName
	// version is its resourceVersion, "" for one that does not exist.
	version string
	// implied says that it was not asked for: an Ingress that was names it.
	implied bool
	// class is what an Ingress says of its class, for people.
	class string
	// slices are the resource versions of a Service's EndpointSlices, by name.
	slices map[string]string
}

// String is how the user writes it.
func (t *target) String() string { return strings.ToLower(t.kind) + " " + t.name.String() }

// The kinds that can be waited for, as the user may write them.
func kindOf(written string) (string, bool) {
	kind, known := map[string]string{
		"ingress": "Ingress", "ingresses": "Ingress", "ing": "Ingress", "service": "Service", "services": "Service", "svc": "Service",
		"secret": "Secret", "secrets": "Secret", "configmap": "ConfigMap", "configmaps": "ConfigMap", "cm": "ConfigMap",
	}[strings.ToLower(written)]
	return kind, known
}

// parseTarget reads TYPE/NAME.
func parseTarget(written, namespace string) (*target, error) {
	kind, name, ok := strings.Cut(written, "/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q names no object: write ingress/NAME, service/NAME, secret/NAME or configmap/NAME", written)
	}
	known, ok := kindOf(strings.TrimSuffix(strings.TrimSuffix(kind, ".networking.k8s.io"), ".v1"))
	if !ok {
		return nil, fmt.Errorf("%q: Podlane does not serve objects of that kind: write ingress/NAME, service/NAME, secret/NAME or configmap/NAME", written)
	}
	return &target{kind: known, name: types.NamespacedName{Namespace: namespace, Name: name}}, nil
}

// targetsIn returns the objects of a file, "-" for the standard input, that Podlane reads, and the number of others.
func targetsIn(file, namespace string) (list []*target, others int, err error) {
	in := io.ReadCloser(os.Stdin)
	if file != "-" {
		if in, err = os.Open(file); err != nil { //nolint:gosec // G304: a file that the user names
			return nil, 0, fmt.Errorf("--filename: %w", err)
		}
		defer func() { _ = in.Close() }()
	}
	documents := yaml.NewYAMLOrJSONDecoder(in, 4<<10)
	for {
		var o struct {
			metav1.PartialObjectMetadata `json:",inline"`
			Items                        []metav1.PartialObjectMetadata `json:"items"`
		}
		if err := documents.Decode(&o); errors.Is(err, io.EOF) {
			return list, others, nil
		} else if err != nil {
			return nil, 0, fmt.Errorf("--filename %s: %w", file, err)
		}
		for _, o := range append(o.Items, o.PartialObjectMetadata) {
			kind, known := kindOf(o.Kind)
			switch {
			case o.Kind == "" || strings.HasSuffix(o.Kind, "List"): // an empty document, or one whose items count
			case !known || o.Name == "" || o.APIVersion != "v1" && o.APIVersion != "networking.k8s.io/v1":
				others++
			default:
				list = append(list, &target{kind: kind, name: types.NamespacedName{Namespace: cmp.Or(o.Namespace, namespace), Name: o.Name}})
			}
		}
	}
}

// clusterObjects reads objects of a cluster with the user's rights: of all but Ingresses and EndpointSlices the metadata only.
type clusterObjects struct {
	clients  kubernetes.Interface
	metadata metadata.Interface
}

func newClusterObjects(c *rest.Config) (*clusterObjects, error) {
	clients, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	m, err := metadata.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &clusterObjects{clients, m}, nil
}

// fill gives t the version that it has now, "" where it does not exist, and returns what it names: Services, Secrets and ConfigMaps.
func (r *clusterObjects) fill(ctx context.Context, t *target) ([]*target, error) {
	var err error
	var named []*target
	switch t.kind {
	case "Ingress":
		var i *networkingv1.Ingress
		if i, err = r.clients.NetworkingV1().Ingresses(t.name.Namespace).Get(ctx, t.name.Name, metav1.GetOptions{}); err == nil {
			t.version, t.class = i.ResourceVersion, classText(i)
			named = namedBy(i)
		}
	default:
		resource := schema.GroupVersionResource{Version: "v1", Resource: strings.ToLower(t.kind) + "s"}
		var o *metav1.PartialObjectMetadata
		if o, err = r.metadata.Resource(resource).Namespace(t.name.Namespace).Get(ctx, t.name.Name, metav1.GetOptions{}); err == nil {
			t.version = o.ResourceVersion
		}
	}
	if apierrors.IsNotFound(err) {
		t.version = ""
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t, err)
	}
	if t.kind == "Service" {
		return nil, r.fillSlices(ctx, t)
	}
	return named, nil
}

// fillSlices gives a Service the EndpointSlices that it has now; a user who may not list them does not wait for them.
func (r *clusterObjects) fillSlices(ctx context.Context, t *target) error {
	list, err := r.clients.DiscoveryV1().EndpointSlices(t.name.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + t.name.Name})
	if apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the EndpointSlices of %s: %w", t, err)
	}
	t.slices = make(map[string]string, len(list.Items))
	for i := range list.Items {
		t.slices[list.Items[i].Name] = list.Items[i].ResourceVersion
	}
	return nil
}

// classText is what an Ingress says of its class.
func classText(i *networkingv1.Ingress) string {
	const annotation = "kubernetes.io/ingress.class"
	switch {
	case i.Annotations[annotation] != "":
		return fmt.Sprintf("its annotation %s is %q", annotation, i.Annotations[annotation])
	case i.Spec.IngressClassName != nil:
		return fmt.Sprintf("its ingressClassName is %q", *i.Spec.IngressClassName)
	}
	return "it names no class, and the default IngressClass is not Podlane's"
}

// namedBy returns what an Ingress needs to be served whole.
func namedBy(i *networkingv1.Ingress) []*target {
	var list []*target
	add := func(kind string, name types.NamespacedName) {
		if name.Name == "" || slices.ContainsFunc(list, func(t *target) bool { return t.kind == kind && t.name == name }) {
			return
		}
		list = append(list, &target{kind: kind, name: name, implied: true})
	}
	service := func(b *networkingv1.IngressBackend) {
		if b != nil && b.Service != nil {
			add("Service", types.NamespacedName{Namespace: i.Namespace, Name: b.Service.Name})
		}
	}
	service(i.Spec.DefaultBackend)
	for r := range i.Spec.Rules {
		if http := i.Spec.Rules[r].HTTP; http != nil {
			for p := range http.Paths {
				service(&http.Paths[p].Backend)
			}
		}
	}
	o := config.ControllerIngress().Options()
	s := ingress.Snapshot{Ingresses: []*networkingv1.Ingress{i}, Options: ingress.Options{
		EveryClass: true, AnnotationPrefixes: o.AnnotationPrefixes, References: o.References,
	}}
	for _, name := range ingress.SecretRefs(s) {
		add("Secret", name)
	}
	for _, name := range ingress.ConfigMapRefs(s) {
		add("ConfigMap", name)
	}
	return list
}
