package controllers

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// object is a pointer to a Kubernetes object.
type object interface {
	client.Object
	comparable
}

// observe calls on for each change of a kind, in order: old is nil for a new object, current for one that is gone. The
// objects are the cache's own and read-only. The channel is closed once on has seen the first list. It does not wait for the cache to start.
func observe[T object](ctx context.Context, from cache.Informers, kind T, on func(old, current T)) (<-chan struct{}, error) {
	informer, err := from.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", kind, err)
	}
	var none T
	handler := toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) {
			if current, ok := o.(T); ok {
				on(none, current)
			}
		},
		UpdateFunc: func(o, n any) {
			old, ok := o.(T)
			current, ok2 := n.(T)
			// The periodic resync hands out what is known already.
			if ok && ok2 && old.GetResourceVersion() != current.GetResourceVersion() {
				on(old, current)
			}
		},
		DeleteFunc: func(o any) {
			if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if old, ok := o.(T); ok {
				on(old, none)
			}
		},
	}
	registration, err := informer.AddEventHandlerWithOptions(handler, toolscache.HandlerOptions{})
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", kind, err)
	}
	return registration.HasSyncedChecker().Done(), nil
}

// replace makes s follow one change and returns the name of its object.
func replace[T object](s *set[T], old, current T) types.NamespacedName {
	var none T
	if current == none {
		s.remove(old)
		return client.ObjectKeyFromObject(old)
	}
	s.put(current)
	return client.ObjectKeyFromObject(current)
}

func (m *mirror) ingressChanged(old, current *networkingv1.Ingress) {
	differs := old == nil || current == nil || ingressDiffers(old, current)
	m.view.Lock()
	key := replace(m.ingresses, old, current)
	if differs {
		m.referOne(key)
	}
	m.view.Unlock()
	if differs {
		m.tableChanged()
	}
	if current != nil {
		m.subscribers.ingress(key)
	}
}

// ingressDiffers reports whether an update can mean something to the table: status does not.
func ingressDiffers(old, current *networkingv1.Ingress) bool {
	return old.Generation != current.Generation || old.UID != current.UID ||
		!maps.Equal(old.Annotations, current.Annotations) || !maps.Equal(old.Labels, current.Labels)
}

func (m *mirror) classChanged(old, current *networkingv1.IngressClass) {
	m.view.Lock()
	replace(m.classes, old, current)
	m.ownership.Store(ingress.NewOwnership(m.classes.list(), m.options.Ingress))
	m.referAll()
	m.view.Unlock()
	m.tableChanged()
	m.subscribers.ownership()
}

func (m *mirror) serviceChanged(old, current *corev1.Service) {
	replace(m.services, old, current)
	some := current
	if some == nil {
		some = old
	}
	if old == nil || current == nil || serviceDiffers(old, current) {
		m.tableChanged()
		m.subscribers.addresses(router.Service{Namespace: some.Namespace, Name: some.Name})
	}
	m.subscribers.service(client.ObjectKeyFromObject(some))
}

// serviceDiffers reports whether an update can mean something to the table or the addresses: status does not.
func serviceDiffers(old, current *corev1.Service) bool {
	return old.UID != current.UID || !maps.Equal(old.Annotations, current.Annotations) ||
		!equality.Semantic.DeepEqual(&old.Spec, &current.Spec)
}

// settingsChanged follows the operator's ConfigMap, which names objects, and says which ones annotations may name.
func (m *mirror) settingsChanged(old, current *corev1.ConfigMap) {
	m.view.Lock()
	replace(m.settings, old, current)
	m.referAll()
	m.view.Unlock()
	m.tableChanged()
}

func (m *mirror) sliceChanged(old, current *discoveryv1.EndpointSlice) {
	for _, s := range m.endpoints.sliceChanged(old, current) {
		m.subscribers.addresses(s)
	}
}

func (m *mirror) endpointsChanged(old, current *corev1.Endpoints) {
	replace(m.endpoints.core, old, current)
	some := current
	if some == nil {
		some = old
	}
	m.subscribers.addresses(router.Service{Namespace: some.Namespace, Name: some.Name})
}
