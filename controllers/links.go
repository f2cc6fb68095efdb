package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

const (
	// firstPause and longestPause bound the pauses between tries to reach an API server that is away. Half of each is left to chance, so that
	// the watches of all replicas do not come back in one moment.
	firstPause   = time.Second
	longestPause = 30 * time.Second

	// settleLimit bounds how long the table waits, after an outage, for the watches that are not back yet: one try of each, and what it takes.
	settleLimit = longestPause + 5*time.Second
)

// links knows which watches work. After an outage each watch returns by its own backoff, up to half a minute apart; a table
// built in between would mix new objects of one kind with old ones of another (a new Ingress without its new Service).
// So the table waits until all are back, or for settleLimit. It is safe for concurrent use.
type links struct {
	mu sync.Mutex
	// down holds the watches that do not work, with the time since when.
	down map[*link]time.Time
	// returned is when the last watch that was down came back; zero before the first outage.
	returned time.Time
	// changed is closed and replaced whenever down shrinks.
	changed chan struct{}
}

// link is one watch: one kind in one namespace.
type link struct {
	of *links
	// opened says that the first watch was opened: until then failures are a matter of starting, not an outage.
	opened bool
}

func newLinks() *links {
	return &links{down: map[*link]time.Time{}, changed: make(chan struct{})}
}

// newInformer is a cache.Options.NewInformer that follows the informer's connection.
func (l *links) newInformer(lw toolscache.ListerWatcher, o runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	from := toolscache.ToListerWatcherWithContext(lw)
	k := &link{of: l}
	followed := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			return persist(ctx, k, func() (runtime.Object, error) { return from.ListWithContext(ctx, opts) })
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			stream, err := persist(ctx, k, func() (watch.Interface, error) { return from.WatchWithContext(ctx, opts) })
			if err == nil {
				k.works()
			}
			return stream, err
		},
	}
	return toolscache.NewSharedIndexInformer(followed, o, resync, indexers)
}

// persist makes a request until it is answered, or ctx ends: client-go's reflectors would let up to a minute pass between tries. An answer may be an
// error, which they know best what to do with.
func persist[T any](ctx context.Context, k *link, request func() (T, error)) (T, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		answer, err := request()
		if err == nil {
			return answer, nil
		}
		k.failed(ctx)
		if !isAway(err) {
			return answer, err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return answer, err
		case <-timer.C:
		}
	}
}

// isAway says whether an error means that nobody answered who knows: the API server, or what it depends on, is away or overloaded.
func isAway(err error) bool {
	status, answered := errors.AsType[*apierrors.StatusError](err)
	if !answered {
		return !errors.Is(err, context.Canceled)
	}
	// A version that the server does not know yet must be asked for in another way.
	return !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) &&
		(status.ErrStatus.Code >= http.StatusInternalServerError || apierrors.IsTooManyRequests(err))
}

// failed records that a list or watch could not be made. A request that was ended by our own shutdown says nothing.
func (k *link) failed(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	k.of.mu.Lock()
	defer k.of.mu.Unlock()
	if _, known := k.of.down[k]; !known {
		k.of.down[k] = time.Now()
	}
}

// works records that the watch is open.
func (k *link) works() {
	l := k.of
	l.mu.Lock()
	defer l.mu.Unlock()
	_, wasDown := l.down[k]
	delete(l.down, k)
	outage := wasDown && k.opened
	k.opened = true
	if outage {
		l.returned = time.Now()
	}
	if wasDown {
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// downSince returns when the oldest present outage began; ok is false if every watch works.
func (l *links) downSince() (since time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.down {
		if !ok || t.Before(since) {
			since, ok = t, true
		}
	}
	return since, ok
}

// settle returns once no watch is missing after an outage, or settleLimit after the last one came back. A watch that fails
// alone (a right that was taken away) delays nothing: none came back. It returns an error only when ctx ends.
func (l *links) settle(ctx context.Context) error {
	for {
		l.mu.Lock()
		missing, changed := len(l.down), l.changed
		left := time.Until(l.returned.Add(settleLimit))
		l.mu.Unlock()
		if missing == 0 || left <= 0 {
			return nil
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for the watches to come back: %w", ctx.Err())
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}
