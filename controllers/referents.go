package controllers

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	fetchers     = 8
	fetchTimeout = 10 * time.Second
)

// referents holds the data of those objects of one kind, Secrets or ConfigMaps, that somebody refers to, and of no other. A watch of metadata tells
// which exist; what is wanted but not held is fetched. Of Secrets those of type kubernetes.io/tls are watched with data instead, because nearly all
// of them are wanted: it is kept on arrival if the Secret is, and dropped otherwise. It is safe for concurrent use.
type referents[T object] struct {
	kind   referentKind[T]
	log    logr.Logger
	reader client.Reader // the API server itself
	// changed is called when a wanted object changed.
	changed func()

	full  *set[T] // of the watch with data, but without it
	bare  *set[*metav1.PartialObjectMetadata]
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu sync.Mutex
	// refs holds the references by owner, wanted their number by object.
	refs   map[types.NamespacedName][]types.NamespacedName
	wanted map[types.NamespacedName]int
	held   map[types.NamespacedName]referent[T]
	// fetching holds what is queued or being fetched.
	fetching map[types.NamespacedName]*attempt
	// found is what look returned last; stale says that something has changed since.
	found []T
	stale bool
}

// referentKind is what there is to know of a kind.
type referentKind[T object] struct {
	name string
	// empty makes an object to be filled by a fetch.
	empty func() T
	// shrink returns an object with its data, but without the metadata that nobody reads.
	shrink func(T) T
	// strip returns one without data, and hasData reports whether there is any; nil for kinds whose data is not watched.
	strip   func(T) T
	hasData func(T) bool
}

func secretKind() referentKind[*corev1.Secret] {
	return referentKind[*corev1.Secret]{
		name:  "Secret",
		empty: func() *corev1.Secret { return &corev1.Secret{} },
		shrink: func(s *corev1.Secret) *corev1.Secret {
			return &corev1.Secret{ObjectMeta: identity(s), Type: s.Type, Data: s.Data}
		},
		strip:   func(s *corev1.Secret) *corev1.Secret { return &corev1.Secret{ObjectMeta: identity(s), Type: s.Type} },
		hasData: func(s *corev1.Secret) bool { return len(s.Data) > 0 },
	}
}

// configMapKind leaves binary data out: no policy reads it.
func configMapKind() referentKind[*corev1.ConfigMap] {
	return referentKind[*corev1.ConfigMap]{
		name:  "ConfigMap",
		empty: func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		shrink: func(c *corev1.ConfigMap) *corev1.ConfigMap {
			return &corev1.ConfigMap{ObjectMeta: identity(c), Data: c.Data}
		},
	}
}

// identity returns the little metadata of an object that is ever read.
func identity(o metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:         o.GetNamespace(),
		Name:              o.GetName(),
		UID:               o.GetUID(),
		ResourceVersion:   o.GetResourceVersion(),
		CreationTimestamp: o.GetCreationTimestamp(),
	}
}

// attempt is the fetching of one object.
type attempt struct {
	done chan struct{} // closed when the first try is over
	// left says that a table was built without the result.
	left atomic.Bool
}

// end closes done, once. Only the fetcher that has the object calls it.
func (a *attempt) end() {
	if a.pending() {
		close(a.done)
	}
}

// pending reports whether the first try is not over: tables wait for no other.
func (a *attempt) pending() bool {
	select {
	case <-a.done:
		return false
	default:
		return true
	}
}

// referent is an object with its data; nil if the API server said that there is none.
type referent[T object] struct {
	object T
	// watched says that the watch brought the data, which is then never older than what the mirror says of the object.
	watched bool
	// version is the resourceVersion that the mirror had when the object was fetched.
	version string
}

func newReferents[T object](kind referentKind[T], log logr.Logger, reader client.Reader) *referents[T] {
	return &referents[T]{
		kind:     kind,
		log:      log,
		reader:   reader,
		full:     newSet[T](),
		bare:     newSet[*metav1.PartialObjectMetadata](),
		refs:     map[types.NamespacedName][]types.NamespacedName{},
		wanted:   map[types.NamespacedName]int{},
		held:     map[types.NamespacedName]referent[T]{},
		fetching: map[types.NamespacedName]*attempt{},
	}
}

// refer replaces the references of one owner; the data of objects that nobody refers to any more is forgotten. It keeps refs.
func (r *referents[T]) refer(owner types.NamespacedName, refs []types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.refs[owner]
	if slices.Equal(before, refs) {
		return
	}
	r.stale = true
	for _, key := range refs {
		r.wanted[key]++
	}
	for _, key := range before {
		if r.wanted[key]--; r.wanted[key] == 0 {
			delete(r.wanted, key)
			delete(r.held, key)
		}
	}
	if len(refs) == 0 {
		delete(r.refs, owner)
	} else {
		r.refs[owner] = refs
	}
}

// arrive is the transform of the watch with data: it runs on each object before the cache stores it. It keeps the data
// if the object is wanted, and gives the cache one without.
func (r *referents[T]) arrive(o any) (any, error) {
	arrived, ok := o.(T)
	if !ok {
		return o, nil
	}
	// The cache may hand its own objects in again, whose data is gone: they say nothing new.
	if !r.kind.hasData(arrived) {
		return r.kind.strip(arrived), nil
	}
	key := client.ObjectKeyFromObject(arrived)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, wanted := r.wanted[key]; wanted {
		r.held[key] = referent[T]{object: r.kind.shrink(arrived), watched: true}
		r.stale = true
	}
	return r.kind.strip(arrived), nil
}

func (r *referents[T]) fullChanged(old, current T) {
	r.noticed(replace(r.full, old, current))
}

func (r *referents[T]) bareChanged(old, current *metav1.PartialObjectMetadata) {
	r.noticed(replace(r.bare, old, current))
}

// noticed passes a change on if it is of a wanted object. One that becomes wanted at this moment is not missed, because the
// reference is counted before look looks at the sets.
func (r *referents[T]) noticed(key types.NamespacedName) {
	r.mu.Lock()
	_, wanted := r.wanted[key]
	r.stale = r.stale || wanted
	r.mu.Unlock()
	if wanted {
		r.changed()
	}
}

// look returns what is held of the wanted objects that exist, and queues those that are not held or not current; the attempts are
// those that a table may wait for. The slice is shared and read-only.
func (r *referents[T]) look() ([]T, []*attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stale {
		return r.found, nil
	}
	r.found, r.stale = nil, false
	var none T
	var pending []*attempt
	for key := range r.wanted {
		now := r.known(key)
		if now.version == "" {
			delete(r.held, key)
			continue
		}
		held, ok := r.held[key]
		if held.object != none {
			r.found = append(r.found, held.object)
		}
		if ok && held.current(now) {
			continue
		}
		r.stale = true
		a := r.fetching[key]
		if a == nil {
			a = &attempt{done: make(chan struct{})}
			r.fetching[key] = a
			r.queue.Add(key)
		}
		if a.pending() {
			pending = append(pending, a)
		}
	}
	return r.found, pending
}

// seen returns the version of an object that the watches know, and whether somebody refers to it.
func (r *referents[T]) seen(key types.NamespacedName) (v Version, wanted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var none T
	if o := r.full.find(key); o != none {
		v = versionOf(o)
	} else if o := r.bare.find(key); o != nil {
		v = versionOf(o)
	}
	return v, r.wanted[key] > 0
}

// known is what the watches know of an object.
type known struct {
	version string // its resourceVersion, "" if it does not exist
	// withData says that its data is watched.
	withData bool
}

func (r *referents[T]) known(key types.NamespacedName) known {
	var none T
	if o := r.full.find(key); o != none {
		return known{version: o.GetResourceVersion(), withData: true}
	}
	if o := r.bare.find(key); o != nil {
		return known{version: o.ResourceVersion}
	}
	return known{}
}

// current reports whether h is not older than what the watches know.
func (h referent[T]) current(k known) bool {
	if h.watched && k.withData {
		return true
	}
	var none T
	return h.version == k.version || h.object != none && h.object.GetResourceVersion() == k.version
}

// fetchLoop is one worker: it fetches what is queued until the queue is shut down.
func (r *referents[T]) fetchLoop(ctx context.Context) {
	for {
		key, shutdown := r.queue.Get()
		if shutdown {
			return
		}
		r.fetch(ctx, key)
		r.queue.Done(key)
	}
}

// fetch tries once. Tables wait for the first try only; if it fails, or takes too long, the table is built again after
// the one that succeeds.
func (r *referents[T]) fetch(ctx context.Context, key types.NamespacedName) {
	r.mu.Lock()
	version := r.known(key).version
	_, wanted := r.wanted[key]
	r.mu.Unlock()
	if !wanted || version == "" {
		r.finish(key, nil)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	fetched := r.kind.empty()
	err := r.reader.Get(ctx, key, fetched)
	switch {
	case apierrors.IsNotFound(err):
		r.finish(key, &referent[T]{version: version})
	case err != nil:
		if r.queue.NumRequeues(key) == 0 {
			r.log.Error(err, "a "+r.kind.name+" could not be fetched, trying again", "name", key)
		}
		r.mu.Lock()
		r.fetching[key].left.Store(true)
		r.fetching[key].end()
		r.mu.Unlock()
		r.queue.AddRateLimited(key)
	default:
		r.finish(key, &referent[T]{object: r.kind.shrink(fetched), version: version})
	}
}

// finish ends the attempt for an object with what was fetched, nil if it was not.
func (r *referents[T]) finish(key types.NamespacedName, fetched *referent[T]) {
	var none T
	r.queue.Forget(key)
	r.mu.Lock()
	a := r.fetching[key]
	delete(r.fetching, key)
	_, wanted := r.wanted[key]
	// What the watch brought in the meantime is newer.
	overtaken := r.held[key].watched && r.full.find(key) != none
	if fetched != nil && wanted && !overtaken {
		r.held[key] = *fetched
		r.stale = true
	}
	a.end()
	// Whoever leaves looks once more, and finds what was stored above.
	left := a.left.Load()
	r.mu.Unlock()
	if left {
		r.changed()
	}
}
