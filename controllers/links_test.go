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

// TestLinksPersist counts the tries while an API server is away for an hour, and the pauses between them.
func TestLinksPersist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLinks()
		k := &link{of: l}
		start := time.Now()
		var tries []time.Duration
		answer, err := persist(t.Context(), k, func() (int, error) {
			tries = append(tries, time.Since(start))
			switch since := time.Since(start); {
			case since < 20*time.Minute:
				return 0, errors.New("connection refused")
			case since < 40*time.Minute:
				return 0, apierrors.NewTooManyRequests("later", 1)
			case since < time.Hour:
				return 0, apierrors.NewInternalError(errors.New("etcd is away"))
			}
			return 7, nil
		})
		if answer != 7 || err != nil {
			t.Errorf("got %d, %v", answer, err)
		}
		different := map[time.Duration]struct{}{}
		for i := 1; i < len(tries); i++ {
			pause := tries[i] - tries[i-1]
			different[pause] = struct{}{}
			if least := min(firstPause<<min(i-1, 10), longestPause) / 2; pause < least || pause > longestPause {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, least, longestPause)
			}
		}
		// All pauses would be alike without chance, and a minute long with client-go's.
		if len(tries) < 3600/30 || len(different) < len(tries)*9/10 {
			t.Errorf("%d tries in an hour, with %d different pauses", len(tries), len(different))
		}
		if _, down := l.downSince(); !down {
			t.Error("nobody knows that the server was away")
		}
	})
}

// TestLinksPassAnswersOn checks that what the API server says goes to who asked, at once.
func TestLinksPassAnswersOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tooLarge := apierrors.NewTimeoutError("too large", 1)
		tooLarge.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge}}
		for _, want := range []error{
			apierrors.NewForbidden(schema.GroupResource{}, "", nil), apierrors.NewResourceExpired("old"),
			apierrors.NewInvalid(schema.GroupKind{}, "", nil), apierrors.NewUnauthorized("who"), tooLarge, context.Canceled,
		} {
			start, tries := time.Now(), 0
			_, err := persist(t.Context(), &link{of: newLinks()}, func() (int, error) {
				tries++
				return 0, want
			})
			if !errors.Is(err, want) || tries != 1 || time.Since(start) != 0 {
				t.Errorf("%v: %v after %d tries", want, err, tries)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := persist(ctx, &link{of: newLinks()}, func() (int, error) { return 0, errors.New("refused") }); err == nil || time.Since(start) != 10*time.Second {
			t.Errorf("ended with %v after %v, want with ctx", err, time.Since(start))
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
