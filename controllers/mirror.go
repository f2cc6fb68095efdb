package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// mirror holds the objects of every watched kind and tells its subscribers what changed. It is the manager's Runnable that
// starts the watches in the order of their dependence: Secrets and ConfigMaps come after Ingresses and the operator's ConfigMap, whose
// references decide what is kept of them. It runs on every replica.
type mirror struct {
	options    Options
	log        logr.Logger
	cache      cache.Cache
	reader     client.Reader // the API server itself
	caches     caches
	secrets    *referents[*corev1.Secret]
	configMaps *referents[*corev1.ConfigMap] // but for the operator's

	ingresses *set[*networkingv1.Ingress]
	classes   *set[*networkingv1.IngressClass]
	services  *set[*corev1.Service]
	settings  *set[*corev1.ConfigMap] // the operator's ConfigMap
	endpoints *endpointIndex
	ownership atomic.Pointer[ingress.Ownership]
	// lastGood is what stands in for objects that a change broke.
	lastGood ingress.LastGood

	subscribers subscribers
	// view is held while an object changes together with what it refers to, and while a Snapshot is taken: so none has an Ingress
	// whose references are not counted yet.
	view sync.Mutex
	// referring says that references are read: once the objects that have them have synced. It is guarded by view.
	referring bool
	// complete is set once every kind has synced; before that nobody is told to build a table.
	complete atomic.Bool

	mu      sync.Mutex
	waiting []string // what has not synced
}

// subscribers are called from the informers' goroutines, after the mirror has changed; they must return at once.
type subscribers struct {
	// table: something that the table depends on changed.
	table func()
	// service: a Service changed, its status included.
	service func(types.NamespacedName)
	// addresses: what decides the addresses of a Service changed.
	addresses func(router.Service)
	// ingress: an Ingress changed, its status included.
	ingress func(types.NamespacedName)
	// ownership: other Ingresses may be ours now.
	ownership func()
}

func newMirror(o Options) *mirror {
	m := &mirror{
		options:   o,
		ingresses: newSet[*networkingv1.Ingress](),
		classes:   newSet[*networkingv1.IngressClass](),
		services:  newSet[*corev1.Service](),
		settings:  newSet[*corev1.ConfigMap](),
		endpoints: newEndpointIndex(),
		waiting:   []string{"start"},
	}
	m.ownership.Store(ingress.NewOwnership(nil, o.Ingress))
	return m
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica mirrors.
func (m *mirror) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable. It tells the subscribers that the table can be built once every kind has synced.
func (m *mirror) Start(ctx context.Context) error {
	watches := map[string]<-chan struct{}{}
	if err := m.observeAll(ctx, watches); err != nil {
		return err
	}
	if err := m.observeClasses(ctx, watches); err != nil {
		return err
	}
	if err := m.await(ctx, watches, "Ingress", "IngressClass", settingsWatch); err != nil {
		return nil // ctx ended: an orderly stop
	}
	m.view.Lock()
	m.referring = true
	m.referAll()
	m.view.Unlock()
	stopSecrets, err := m.startSecrets(ctx, watches)
	if err != nil {
		return err
	}
	defer stopSecrets()
	stopConfigMaps, err := m.startConfigMaps(ctx, watches)
	if err != nil {
		return err
	}
	defer stopConfigMaps()
	if err := m.await(ctx, watches); err != nil {
		return nil
	}
	m.complete.Store(true)
	m.tableChanged()
	<-ctx.Done()
	return nil
}

// tableChanged tells that something changed that the table depends on.
func (m *mirror) tableChanged() {
	if m.complete.Load() {
		m.subscribers.table()
	}
}

// settingsWatch is the watch of the operator's ConfigMap.
const settingsWatch = "ConfigMap of settings"

// observeAll starts the watches that depend on nothing and adds a channel for each that is closed when it has synced.
func (m *mirror) observeAll(ctx context.Context, synced map[string]<-chan struct{}) error {
	var err error
	if synced["Ingress"], err = observe(ctx, m.cache, &networkingv1.Ingress{}, m.ingressChanged); err != nil {
		return err
	}
	if synced["Service"], err = observe(ctx, m.cache, &corev1.Service{}, m.serviceChanged); err != nil {
		return err
	}
	if synced["EndpointSlice"], err = observe(ctx, m.cache, &discoveryv1.EndpointSlice{}, m.sliceChanged); err != nil {
		return err
	}
	if synced["Endpoints"], err = observe(ctx, m.cache, &corev1.Endpoints{}, m.endpointsChanged); err != nil {
		return err
	}
	if _, named := parseName(m.options.Ingress.Settings); named {
		if synced[settingsWatch], err = observe(ctx, m.cache, &corev1.ConfigMap{}, m.settingsChanged); err != nil {
			return err
		}
	}
	return nil
}

// observeClasses watches IngressClasses, which belong to no namespace: where namespaces are given and the right is missing, classes
// of known names stand for them.
func (m *mirror) observeClasses(ctx context.Context, synced map[string]<-chan struct{}) error {
	if len(m.options.Namespaces) > 0 && !m.may(ctx, &networkingv1.IngressClassList{}) {
		m.view.Lock()
		m.options.Ingress.SomeClasses = true
		m.view.Unlock()
		var names []string
		for _, c := range standIns(m.options.Ingress) {
			names = append(names, c.Name)
			m.classChanged(nil, c)
		}
		m.log.Info("IngressClasses may not be listed: Ingresses are taken by the name of their class", "classes", names)
		done := make(chan struct{})
		close(done)
		synced["IngressClass"] = done
		return nil
	}
	var err error
	synced["IngressClass"], err = observe(ctx, m.cache, &networkingv1.IngressClass{}, m.classChanged)
	return err
}

// nginxClassName is how ingress-nginx's manifests and chart name its class.
const nginxClassName = "nginx"

// standIns are the classes that are taken to exist where none may be read: the operator's, and ingress-nginx's if that is claimed.
func standIns(o ingress.Options) []*networkingv1.IngressClass {
	class := func(name, controller string) *networkingv1.IngressClass {
		return &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IngressClassSpec{Controller: controller}}
	}
	switch {
	case !o.ClaimNginx:
		return []*networkingv1.IngressClass{class(o.IngressClass, o.ControllerClass)}
	case o.IngressClass == nginxClassName:
		return []*networkingv1.IngressClass{class(nginxClassName, ingress.NginxClass)}
	default:
		return []*networkingv1.IngressClass{class(o.IngressClass, o.ControllerClass), class(nginxClassName, ingress.NginxClass)}
	}
}

// await waits for the named watches, or for all, to sync, and logs every 30 s what it waits for: a right that is missing or an
// API server that is away looks like this. It returns an error only when ctx ends.
func (m *mirror) await(ctx context.Context, synced map[string]<-chan struct{}, names ...string) error {
	remind := time.NewTicker(30 * time.Second)
	defer remind.Stop()
	m.setWaiting(synced)
	for name, done := range synced {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
	wait:
		for {
			select {
			case <-done:
				break wait
			case <-remind.C:
				m.log.Info("still waiting for the first list of objects", "kinds", m.setWaiting(synced))
			case <-ctx.Done():
				return fmt.Errorf("wait for %s: %w", name, ctx.Err())
			}
		}
	}
	m.setWaiting(synced)
	return nil
}

// setWaiting records and returns the kinds that have not synced.
func (m *mirror) setWaiting(synced map[string]<-chan struct{}) []string {
	var waiting []string
	for name, done := range synced {
		select {
		case <-done:
		default:
			waiting = append(waiting, name)
		}
	}
	slices.Sort(waiting)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = waiting
	return waiting
}

// missing names the kinds that have not synced, comma-separated; "" means that none is known to be missing.
func (m *mirror) missing() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.waiting, ", ")
}

// owns reports whether an Ingress is ours.
func (m *mirror) owns(i *networkingv1.Ingress) bool { return m.ownership.Load().Owns(i) }

// owned returns the Ingresses that are ours.
func (m *mirror) owned() []*networkingv1.Ingress {
	o := m.ownership.Load()
	return slices.DeleteFunc(m.ingresses.list(), func(i *networkingv1.Ingress) bool { return !o.Owns(i) })
}

// parseName splits namespace/name; ok is false for anything else.
func parseName(s string) (types.NamespacedName, bool) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, true
}
