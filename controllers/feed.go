package controllers

import (
	"context"
	"sync"

	"k8s.io/client-go/util/workqueue"
)

// feed is a controller's only source: whoever learns of a change adds a request, at any time, from any goroutine. Requests that
// come before the controller runs wait; the controller's queue coalesces equal ones.
type feed[R comparable] struct {
	mu      sync.Mutex
	queue   workqueue.TypedRateLimitingInterface[R]
	waiting map[R]struct{}
}

// Start implements source.TypedSource.
func (f *feed[R]) Start(_ context.Context, queue workqueue.TypedRateLimitingInterface[R]) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = queue
	for r := range f.waiting {
		queue.Add(r)
	}
	f.waiting = nil
	return nil
}

// String names the source in controller-runtime's log.
func (f *feed[R]) String() string { return "feed" }

// add queues r.
func (f *feed[R]) add(r R) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.queue != nil {
		f.queue.Add(r)
		return
	}
	if f.waiting == nil {
		f.waiting = map[R]struct{}{}
	}
	f.waiting[r] = struct{}{}
}
