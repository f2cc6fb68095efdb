package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// How long a table waits for Secrets that have to be fetched. The first one may wait longer, for nothing is served yet. A table that does not
// wait long enough is followed by another as soon as the Secret is there.
const (
	firstSecretBudget = 5 * time.Second
	laterSecretBudget = 200 * time.Millisecond
)

const (
	secretFetchers     = 8
	secretFetchTimeout = 10 * time.Second
)

// secrets holds the data of those Secrets that somebody refers to, and of no other. Two watches tell which Secrets exist: the one of type
// kubernetes.io/tls carries data, which is kept on arrival if the Secret is wanted and dropped otherwise; the one of the other types is of metadata
// only. What is wanted but not held is fetched. It is safe for concurrent use.
type secrets struct {
	log    logr.Logger
	reader client.Reader // the API server itself
	watch  secretWatch
	// changed is called when a wanted Secret changed.
	changed func()

	tls   *set[*corev1.Secret] // without data
	other *set[*metav1.PartialObjectMetadata]
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu sync.Mutex
	// refs holds the references by owner, wanted their number by Secret.
	refs   map[types.NamespacedName][]types.NamespacedName
	wanted map[types.NamespacedName]int
	held   map[types.NamespacedName]heldSecret
	// fetching holds the Secrets that are queued or being fetched.
	fetching map[types.NamespacedName]*attempt
	// found is what look returned last; stale says that something has changed since.
	found []*corev1.Secret
	stale bool
}

// attempt is the fetching of one Secret. Its fields are guarded by secrets.mu.
type attempt struct {
	done chan struct{} // closed when the first try is over
	// left says that a table was built without the result.
	left bool
}

// end closes done, once.
func (a *attempt) end() {
	select {
	case <-a.done:
	default:
		close(a.done)
	}
}

// heldSecret is a Secret with its data; nil if the API server said that there is none.
type heldSecret struct {
	secret *corev1.Secret
	// watched says that the watch brought the data, which is then never older than what the mirror says of the Secret.
	watched bool
	// version is the resourceVersion that the mirror had when the Secret was fetched.
	version string
}

func newSecrets(log logr.Logger, reader client.Reader) *secrets {
	return &secrets{
		log:      log,
		reader:   reader,
		tls:      newSet[*corev1.Secret](),
		other:    newSet[*metav1.PartialObjectMetadata](),
		refs:     map[types.NamespacedName][]types.NamespacedName{},
		wanted:   map[types.NamespacedName]int{},
		held:     map[types.NamespacedName]heldSecret{},
		fetching: map[types.NamespacedName]*attempt{},
	}
}

// refer replaces the references of one owner; the data of Secrets that nobody refers to any more is forgotten. It keeps refs.
func (s *secrets) refer(owner types.NamespacedName, refs []types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.refs[owner]
	if slices.Equal(before, refs) {
		return
	}
	s.stale = true
	for _, key := range refs {
		s.wanted[key]++
	}
	for _, key := range before {
		if s.wanted[key]--; s.wanted[key] == 0 {
			delete(s.wanted, key)
			delete(s.held, key)
		}
	}
	if len(refs) == 0 {
		delete(s.refs, owner)
	} else {
		s.refs[owner] = refs
	}
}

// arrive is the transform of the watch with data: it runs on each Secret before the cache stores it. It keeps the data
// if the Secret is wanted, and gives the cache one without.
func (s *secrets) arrive(o any) (any, error) {
	secret, ok := o.(*corev1.Secret)
	if !ok {
		return o, nil
	}
	bare := &corev1.Secret{ObjectMeta: identity(secret), Type: secret.Type}
	// The cache may hand its own objects in again, whose data is gone: they say nothing new.
	if len(secret.Data) == 0 {
		return bare, nil
	}
	key := client.ObjectKeyFromObject(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, wanted := s.wanted[key]; wanted {
		s.held[key] = heldSecret{secret: withData(secret), watched: true}
		s.stale = true
	}
	return bare, nil
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

// withData returns s without metadata that nobody reads.
func withData(s *corev1.Secret) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: identity(s), Type: s.Type, Data: s.Data}
}

func (s *secrets) tlsChanged(old, current *corev1.Secret) {
	replace(s.tls, old, current)
	some := current
	if some == nil {
		some = old
	}
	s.noticed(client.ObjectKeyFromObject(some))
}

func (s *secrets) otherChanged(old, current *metav1.PartialObjectMetadata) {
	replace(s.other, old, current)
	some := current
	if some == nil {
		some = old
	}
	s.noticed(client.ObjectKeyFromObject(some))
}

// noticed passes a change on if it is of a wanted Secret. One that becomes wanted at this moment is not missed, because the
// reference is counted before collect looks at the sets.
func (s *secrets) noticed(key types.NamespacedName) {
	s.mu.Lock()
	_, wanted := s.wanted[key]
	s.stale = s.stale || wanted
	s.mu.Unlock()
	if wanted {
		s.changed()
	}
}

// collect returns the wanted Secrets that exist. What is not held it fetches, and waits for that until the budget is used up; then it goes on
// with the last data it had, or without, and the table is built again when the data comes. The slice is shared and read-only. It returns an error only when ctx ends.
func (s *secrets) collect(ctx context.Context, budget time.Duration) ([]*corev1.Secret, error) {
	found, attempts := s.look()
	if len(attempts) == 0 {
		return found, nil
	}
	timer := time.NewTimer(budget)
	defer timer.Stop()
	for _, a := range attempts {
		select {
		case <-a.done:
		case <-timer.C:
			s.leave(attempts)
			found, _ = s.look()
			return found, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for Secrets: %w", ctx.Err())
		}
	}
	found, _ = s.look()
	return found, nil
}

// look returns what is held of the wanted Secrets that exist, and queues those that are not held or not current.
func (s *secrets) look() ([]*corev1.Secret, []*attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stale {
		return s.found, nil
	}
	s.found, s.stale = nil, false
	var attempts []*attempt
	for key := range s.wanted {
		now := s.known(key)
		if now.version == "" {
			delete(s.held, key)
			continue
		}
		held, ok := s.held[key]
		if held.secret != nil {
			s.found = append(s.found, held.secret)
		}
		if ok && held.current(now) {
			continue
		}
		s.stale = true
		a := s.fetching[key]
		if a == nil {
			a = &attempt{done: make(chan struct{})}
			s.fetching[key] = a
			s.queue.Add(key)
		}
		attempts = append(attempts, a)
	}
	return s.found, attempts
}

// leave records that a table was built without waiting for the attempts.
func (s *secrets) leave(attempts []*attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range attempts {
		a.left = true
	}
}

// knownSecret is what the watches know of a Secret.
type knownSecret struct {
	version string // its resourceVersion, "" if it does not exist
	// withData says that it is of the type whose data is watched.
	withData bool
}

func (s *secrets) known(key types.NamespacedName) knownSecret {
	if o := s.tls.find(key); o != nil {
		return knownSecret{version: o.ResourceVersion, withData: true}
	}
	if o := s.other.find(key); o != nil {
		return knownSecret{version: o.ResourceVersion}
	}
	return knownSecret{}
}

// current reports whether h is not older than what the watches know.
func (h heldSecret) current(k knownSecret) bool {
	if h.watched && k.withData {
		return true
	}
	return h.version == k.version || h.secret != nil && h.secret.ResourceVersion == k.version
}

// fetchLoop is one worker: it fetches what is queued until the queue is shut down.
func (s *secrets) fetchLoop(ctx context.Context) {
	for {
		key, shutdown := s.queue.Get()
		if shutdown {
			return
		}
		s.fetch(ctx, key)
		s.queue.Done(key)
	}
}

// fetch tries once. Tables wait for the first try only; if it fails, or takes too long, the table is built again after
// the one that succeeds.
func (s *secrets) fetch(ctx context.Context, key types.NamespacedName) {
	s.mu.Lock()
	version := s.known(key).version
	_, wanted := s.wanted[key]
	s.mu.Unlock()
	if !wanted || version == "" {
		s.finish(key, nil)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, secretFetchTimeout)
	defer cancel()
	secret := &corev1.Secret{}
	err := s.reader.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err):
		s.finish(key, &heldSecret{version: version})
	case err != nil:
		if s.queue.NumRequeues(key) == 0 {
			s.log.Error(err, "a Secret could not be fetched, trying again", "secret", key)
		}
		s.mu.Lock()
		s.fetching[key].end()
		s.fetching[key].left = true
		s.mu.Unlock()
		s.queue.AddRateLimited(key)
	default:
		s.finish(key, &heldSecret{secret: withData(secret), version: version})
	}
}

// finish ends the attempt for a Secret with what was fetched, nil if it was not.
func (s *secrets) finish(key types.NamespacedName, fetched *heldSecret) {
	s.queue.Forget(key)
	s.mu.Lock()
	a := s.fetching[key]
	delete(s.fetching, key)
	_, wanted := s.wanted[key]
	// What the watch brought in the meantime is newer.
	overtaken := s.held[key].watched && s.tls.find(key) != nil
	if fetched != nil && wanted && !overtaken {
		s.held[key] = *fetched
		s.stale = true
	}
	a.end()
	left := a.left
	s.mu.Unlock()
	if left {
		s.changed()
	}
}
