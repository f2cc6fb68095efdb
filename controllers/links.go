package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// settleLimit bounds how long the table waits, after an outage, for the watches that are not back yet. A reflector that
// failed for minutes retries after up to 30 s with as much jitter again.
const settleLimit = 60 * time.Second

// links knows which watches work. After an outage each watch returns by its own backoff, up to a minute apart; a table
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
			list, err := from.ListWithContext(ctx, opts)
			if err != nil {
				k.failed(ctx)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			stream, err := from.WatchWithContext(ctx, opts)
			if err != nil {
				k.failed(ctx)
			} else {
				k.works()
			}
			return stream, err
		},
	}
	return toolscache.NewSharedIndexInformer(followed, o, resync, indexers)
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
