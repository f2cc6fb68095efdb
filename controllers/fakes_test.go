package controllers

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// plane is a DataPlane that writes down what it is told.
type plane struct {
	mu    sync.Mutex
	calls []string
	// pools are the Services that each Prepare reports as new.
	pools []router.Service
	// panics makes the next Prepare panic.
	panics bool
}

func (p *plane) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, fmt.Sprintf(format, args...))
}

func (p *plane) Prepare(*router.Table) []router.Service {
	p.note("prepare")
	if p.panics {
		p.panics = false
		panic("prepare")
	}
	return p.pools
}

func (p *plane) SetAddresses(s router.Service, byPort map[string][]router.Address) {
	n := 0
	for _, a := range byPort {
		n += len(a)
	}
	p.note("addresses %s %d", s, n)
}

func (p *plane) Publish(*router.Table) { p.note("publish") }

func (p *plane) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	return calls
}

// countEndpoints is an AddressFunc that makes one zero address of each endpoint.
func countEndpoints(_ *corev1.Service, s []*discoveryv1.EndpointSlice, e *corev1.Endpoints) map[string][]router.Address {
	n := 0
	for _, slice := range s {
		n += len(slice.Endpoints)
	}
	if len(s) == 0 && e != nil {
		for _, subset := range e.Subsets {
			n += len(subset.Addresses)
		}
	}
	return map[string][]router.Address{"": make([]router.Address, n)}
}

// fixture is a publisher and its surroundings without an API server.
type fixture struct {
	*publisher
	plane   *plane
	api     *objectAPI
	events  *recorder
	secrets *referents[*corev1.Secret]
}

// recorder writes down what the Observer is told.
type recorder struct {
	mu       sync.Mutex
	publish  []uint64
	latency  []time.Duration
	problems []map[ingress.Reason]int
	panics   int
	set      map[router.Service]time.Duration
}

func (r *recorder) observer() Observer {
	return Observer{
		OnPublish: func(generation uint64, _, eventToLive time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.publish = append(r.publish, generation)
			r.latency = append(r.latency, eventToLive)
		},
		OnProblems: func(problems []ingress.Problem) {
			byReason := map[ingress.Reason]int{}
			for i := range problems {
				byReason[problems[i].Reason]++
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.problems = append(r.problems, byReason)
		},
		OnBuildPanic: func(any) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.panics++
		},
		OnAddresses: func(s router.Service, d time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.set == nil {
				r.set = map[router.Service]time.Duration{}
			}
			r.set[s] = d
		},
	}
}

// newFixture wires a publisher as SetupWithManager does, with a mirror that is complete.
func newFixture(t testing.TB, build BuildFunc) *fixture {
	t.Helper()
	f := &fixture{plane: &plane{}, api: &objectAPI{secrets: map[types.NamespacedName]*corev1.Secret{}, configMaps: map[types.NamespacedName]*corev1.ConfigMap{}}, events: &recorder{}}
	m := newMirror(Options{Ingress: ingress.Options{EveryClass: true}, Observer: f.events.observer()})
	m.log = logr.Discard()
	m.hold(newReferents(secretKind(), m.log, f.api), newReferents(configMapKind(), m.log, f.api))
	m.secrets.queue, m.configMaps.queue = newQueue(t), newQueue(t)
	f.secrets = m.secrets
	m.complete.Store(true)
	m.referring = true
	m.setWaiting(nil)
	held := newBrake(BrakeOptions{}, "podlane")
	a := &addresses{mirror: m, resolve: countEndpoints, plane: f.plane, observer: m.options.Observer, brake: held, seed: maphash.MakeSeed()}
	f.publisher = &publisher{
		mirror: m, addresses: a, links: newLinks(), build: build, plane: f.plane, observer: m.options.Observer,
		log: logr.Discard(), problemsChanged: func() {}, first: make(chan struct{}), brake: held,
	}
	held.log, held.noticed = logr.Discard(), func(BrakeStep) {}
	held.changed, held.release, held.wake = f.tellProblems, a.feed.add, f.wake
	m.subscribers = subscribers{
		table: f.wake, addresses: a.changed, service: func(types.NamespacedName) {}, ingress: func(types.NamespacedName) {}, ownership: func() {},
	}
	return f
}

// newQueue returns a queue of what is to be fetched, which ends with the test.
func newQueue(t testing.TB) workqueue.TypedRateLimitingInterface[types.NamespacedName] {
	t.Helper()
	q := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](time.Second, time.Minute))
	t.Cleanup(q.ShutDown)
	return q
}

// objectAPI is an API server that has Secrets and ConfigMaps and writes down which were fetched.
type objectAPI struct {
	client.Reader
	mu         sync.Mutex
	secrets    map[types.NamespacedName]*corev1.Secret
	configMaps map[types.NamespacedName]*corev1.ConfigMap
	fetched    []types.NamespacedName
	err        error
	delay      time.Duration
}

func (a *objectAPI) Get(ctx context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	a.mu.Lock()
	a.fetched = append(a.fetched, key)
	secret, configMap, err, delay := a.secrets[key], a.configMaps[key], a.err, a.delay
	a.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	switch o := o.(type) {
	case *corev1.Secret:
		if secret != nil {
			secret.DeepCopyInto(o)
			return nil
		}
	case *corev1.ConfigMap:
		if configMap != nil {
			configMap.DeepCopyInto(o)
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: typeName(o)}, key.Name)
}

func (a *objectAPI) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.fetched)
}

func (a *objectAPI) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func named(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func newIngress(name string, secrets ...string) *networkingv1.Ingress {
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Generation: 1, ResourceVersion: "1"}}
	for _, s := range secrets {
		i.Spec.TLS = append(i.Spec.TLS, networkingv1.IngressTLS{SecretName: s})
	}
	return i
}

func newService(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), ResourceVersion: "1"}}
}

func newSlice(name, service string, endpoints int) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Endpoints:  make([]discoveryv1.Endpoint, endpoints),
	}
}

func tlsSecret(name, version string, data ...string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: version}, Type: corev1.SecretTypeTLS}
	if len(data) > 0 {
		s.Data = map[string][]byte{"tls.crt": []byte(data[0]), "tls.key": []byte("key")}
	}
	return s
}

func wantCalls(t *testing.T, p *plane, want ...string) {
	t.Helper()
	if got := p.take(); !slices.Equal(got, want) {
		t.Errorf("the data plane was told\n%q, want\n%q", got, want)
	}
}

// newTable is a Build that returns another Table each time, without Problems.
func newTable(ingress.Snapshot) (*router.Table, []ingress.Problem) {
	return router.NewTable(nil, nil), nil
}

func newClass(name, controller string) *networkingv1.IngressClass {
	return &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IngressClassSpec{Controller: controller}}
}

func typeName(o any) string { return fmt.Sprintf("%T", o) }
