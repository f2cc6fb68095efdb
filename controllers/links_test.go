package controllers

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// settleTime returns how long settle waits from now.
func settleTime(t *testing.T, l *links) time.Duration {
	t.Helper()
	start := time.Now()
	if err := l.settle(t.Context()); err != nil {
		t.Error(err)
	}
	return time.Since(start)
}

func TestLinksSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLinks()
		a, b := &link{of: l}, &link{of: l}
		ctx := t.Context()

		// At the start nothing has come back: failures delay nothing, and recovery is no return.
		a.failed(ctx)
		b.failed(ctx)
		a.works()
		if d := settleTime(t, l); d != 0 {
			t.Errorf("waited %v before the first outage", d)
		}
		b.works()

		// One watch that fails alone delays nothing.
		b.failed(ctx)
		time.Sleep(time.Hour)
		if d := settleTime(t, l); d != 0 {
			t.Errorf("waited %v for a watch that fails alone", d)
		}

		// After an outage of both, the first that is back waits for the second.
		a.failed(ctx)
		time.Sleep(time.Minute)
		a.works()
		go func() {
			time.Sleep(7 * time.Second)
			b.works()
		}()
		if d := settleTime(t, l); d != 7*time.Second {
			t.Errorf("waited %v, want until the second watch was back after 7s", d)
		}
		if d := settleTime(t, l); d != 0 {
			t.Errorf("waited %v with all watches open", d)
		}

		// But not for ever.
		a.failed(ctx)
		b.failed(ctx)
		time.Sleep(time.Minute)
		a.works()
		if d := settleTime(t, l); d != settleLimit {
			t.Errorf("waited %v for a watch that does not come back, want %v", d, settleLimit)
		}
	})
}

func TestLinksSettleEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLinks()
		a, b := &link{of: l}, &link{of: l}
		for _, k := range []*link{a, b} {
			k.works()
			k.failed(t.Context())
		}
		a.works()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settle returned %v after the end", err)
		}
	})
}

func TestLinksDownSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLinks()
		a, b := &link{of: l}, &link{of: l}
		if _, down := l.downSince(); down {
			t.Error("down without any watch")
		}
		a.failed(t.Context())
		first := time.Now()
		time.Sleep(time.Second)
		a.failed(t.Context())
		b.failed(t.Context())
		if since, down := l.downSince(); !down || !since.Equal(first) {
			t.Errorf("down since %v (%t), want since the first failure of the first", since, down)
		}
		a.works()
		if since, down := l.downSince(); !down || !since.Equal(first.Add(time.Second)) {
			t.Errorf("down since %v (%t), want since the failure of the second", since, down)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		b.works()
		a.failed(ended)
		if _, down := l.downSince(); down {
			t.Error("our own end counts as an outage")
		}
	})
}

// TestLinksFollowInformer runs a real informer over a list and watch that fail and work.
func TestLinksFollowInformer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLinks()
		broken := make(chan struct{}) // closed when the server is back
		lw := &toolscache.ListWatch{
			ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
				return &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
			},
			WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
				select {
				case <-broken:
					if o.SendInitialEvents != nil && *o.SendInitialEvents {
						return nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil) // as servers that cannot stream lists say
					}
					return watch.NewFake(), nil
				default:
					return nil, errors.New("connection refused")
				}
			},
		}
		informer := l.newInformer(lw, &corev1.Service{}, 0, nil)
		// The usual handler remembers the time of its last call for the whole process, from outside the bubble.
		if err := informer.SetWatchErrorHandlerWithContext(func(context.Context, *toolscache.Reflector, error) {}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			informer.RunWithContext(ctx)
			close(done)
		}()
		time.Sleep(10 * time.Second)
		if _, down := l.downSince(); !down {
			t.Error("the watch fails, but no link is down")
		}
		close(broken)
		time.Sleep(2 * time.Minute)
		if _, down := l.downSince(); down {
			t.Error("the watch works, but a link is down")
		}
		cancel()
		<-done
	})
}
