package controllers

import (
	"context"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"podlane.dev/podlane/router"
)

// endpointIndex holds the EndpointSlices by Service and the core Endpoints. It is safe for concurrent use.
type endpointIndex struct {
	mu     sync.RWMutex
	slices map[router.Service]map[string]*discoveryv1.EndpointSlice
	core   *set[*corev1.Endpoints]
}

func newEndpointIndex() *endpointIndex {
	return &endpointIndex{
		slices: map[router.Service]map[string]*discoveryv1.EndpointSlice{},
		core:   newSet[*corev1.Endpoints](),
	}
}

// serviceOf returns the Service that a slice belongs to; ok is false where its label is missing.
func serviceOf(s *discoveryv1.EndpointSlice) (router.Service, bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return router.Service{Namespace: s.Namespace, Name: name}, name != ""
}

// sliceChanged follows one change and returns the Services that it concerns: two where a slice changes hands.
func (x *endpointIndex) sliceChanged(old, current *discoveryv1.EndpointSlice) []router.Service {
	var concerned []router.Service
	x.mu.Lock()
	defer x.mu.Unlock()
	if old != nil {
		if s, ok := serviceOf(old); ok {
			delete(x.slices[s], old.Name)
			if len(x.slices[s]) == 0 {
				delete(x.slices, s)
			}
			concerned = append(concerned, s)
		}
	}
	if current != nil {
		if s, ok := serviceOf(current); ok {
			if x.slices[s] == nil {
				x.slices[s] = map[string]*discoveryv1.EndpointSlice{}
			}
			x.slices[s][current.Name] = current
			if !slices.Contains(concerned, s) {
				concerned = append(concerned, s)
			}
		}
	}
	return concerned
}

// slicesOf returns the slices of a Service, sorted by name.
func (x *endpointIndex) slicesOf(s router.Service) []*discoveryv1.EndpointSlice {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.SortedFunc(maps.Values(x.slices[s]), func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
}

// addresses is the reconciler that tells the DataPlane where Services are served: on an endpoint change for that Service
// alone, and for the new pools of a table before it is published. Every replica runs it, with several workers.
type addresses struct {
	mirror   *mirror
	resolve  AddressFunc
	plane    DataPlane
	observer Observer
	brake    *brake
	feed     feed[router.Service]

	// live is set just before the first Prepare. Until then no pool exists, and what the events say is in the mirror
	// when the first table asks for it; so the first lists of endpoints cost nothing here.
	live atomic.Bool
	seed maphash.Seed
	// stripes are locks by Service: whoever holds one reads the mirror and tells the DataPlane under it, so an older
	// reading never overwrites a newer one.
	stripes [64]stripe
}

type stripe struct {
	order sync.Mutex

	mu    sync.Mutex
	first map[router.Service]time.Time // when the first event came that is not handed over
	// handed is what the DataPlane was told last.
	handed map[router.Service]handed
}

// handed is what the addresses of a Service were made of.
type handed struct {
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
}

func (a *addresses) stripe(s router.Service) *stripe {
	return &a.stripes[maphash.Comparable(a.seed, s)%uint64(len(a.stripes))]
}

// changed queues one Service.
func (a *addresses) changed(s router.Service) {
	if !a.live.Load() {
		return
	}
	t := a.stripe(s)
	t.mu.Lock()
	if t.first == nil {
		t.first = map[router.Service]time.Time{}
	}
	if _, pending := t.first[s]; !pending {
		t.first[s] = time.Now()
	}
	t.mu.Unlock()
	a.feed.add(s)
}

// Reconcile implements reconcile.TypedReconciler. It cannot fail.
func (a *addresses) Reconcile(_ context.Context, s router.Service) (reconcile.Result, error) {
	t := a.stripe(s)
	t.mu.Lock()
	first, pending := t.first[s]
	delete(t.first, s)
	t.mu.Unlock()
	a.refresh(s)
	if pending && a.observer.OnAddresses != nil {
		a.observer.OnAddresses(s, time.Since(first))
	}
	return reconcile.Result{}, nil
}

// refresh hands the present addresses of one Service over. Its cost depends on that Service alone.
func (a *addresses) refresh(s router.Service) {
	t := a.stripe(s)
	t.order.Lock()
	defer t.order.Unlock()
	key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	service := a.mirror.services.find(key)
	what := &handed{service: service}
	var byPort map[string][]router.Address
	if service == nil {
		what = nil
	} else {
		what.slices = a.mirror.endpoints.slicesOf(s)
		byPort = a.resolve(service, what.slices, a.mirror.endpoints.core.find(key))
	}
	next, held := a.brake.addresses(s, byPort)
	a.plane.SetAddresses(s, next)
	if !held { // else requests go by what was handed over before
		t.told(s, what)
	}
}

// told remembers what the DataPlane was told of a Service; nil is that there is none.
func (t *stripe) told(s router.Service, what *handed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if what == nil {
		delete(t.handed, s)
		return
	}
	if t.handed == nil {
		t.handed = map[router.Service]handed{}
	}
	t.handed[s] = *what
}

// handedOver returns what the DataPlane was told of a Service last; ok is false if that was nothing.
func (a *addresses) handedOver(s router.Service) (what handed, ok bool) {
	t := a.stripe(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	what, ok = t.handed[s]
	return what, ok
}
