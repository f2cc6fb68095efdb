package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"podlane.dev/podlane/router/ingress"
)

// eventFixture runs an Event writer over a fake API server.
type eventFixture struct {
	*events
	api client.WithWatch

	mu      sync.Mutex
	list    []ingress.Problem
	created int
	patched int
	fail    error
}

func newEventFixture(t *testing.T) *eventFixture {
	t.Helper()
	f := &eventFixture{}
	f.api = fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.fail != nil {
				return f.fail
			}
			f.created++
			return c.Create(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.patched++
			return c.Patch(ctx, o, p, opts...)
		},
	}).Build()
	f.events = f.replica(t)
	return f
}

// replica returns another writer over the same Problems and API server.
func (f *eventFixture) replica(t *testing.T) *events {
	t.Helper()
	first := make(chan struct{})
	close(first)
	e := &events{
		problems: func() []ingress.Problem {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.list
		},
		first: first, leadership: &leadership{}, writer: f.api, limiter: flowcontrol.NewFakeAlwaysRateLimiter(), instance: "podlane-test",
		log: logr.Discard(), wake: make(chan struct{}, 1), seen: map[ingress.Problem]*seenProblem{},
	}
	e.leadership.changed = func(bool) { e.poke() }
	return e
}

// run starts e to the end of the test.
func run(t *testing.T, e *events) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- e.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (f *eventFixture) set(e *events, list ...ingress.Problem) {
	f.mu.Lock()
	f.list = list
	f.mu.Unlock()
	e.poke()
}

// notes returns "reason note ×count" of all Events.
func (f *eventFixture) notes(t *testing.T) []string {
	t.Helper()
	list := &eventsv1.EventList{}
	if err := f.api.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list.Items {
		count := int32(1)
		if e.Series != nil {
			count = e.Series.Count
		}
		got = append(got, fmt.Sprintf("%s %s ×%d", e.Reason, e.Note, count))
	}
	slices.Sort(got)
	return got
}

func (f *eventFixture) want(t *testing.T, created, patched int, notes ...string) {
	t.Helper()
	synctest.Wait()
	if got := f.notes(t); !slices.Equal(got, notes) {
		t.Errorf("Events %q, want %q", got, notes)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.created != created || f.patched != patched {
		t.Errorf("%d tries to create and %d patches, want %d and %d", f.created, f.patched, created, patched)
	}
}

func problem(field string) ingress.Problem {
	return ingress.Problem{
		Object: ingress.Object{Kind: "Ingress", Namespace: "ns", Name: "web", UID: "u"}, Field: field, Reason: ingress.ServiceMissing,
		Effect: ingress.Ignored, Message: "there is no such Service",
	}
}

func TestEventsAppearOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newEventFixture(t)
		run(t, f.events)
		f.leadership.begin(t.Context())

		// A Problem that is solved before anybody could read of it is none.
		f.set(f.events, problem("spec.rules[0]"))
		time.Sleep(eventSettle / 2)
		f.set(f.events)
		time.Sleep(eventSettle)
		f.want(t, 0, 0)

		// Two of one reason on one object are two.
		f.set(f.events, problem("spec.rules[0]"), problem("spec.rules[1]"))
		time.Sleep(eventSettle)
		both := []string{"ServiceMissing spec.rules[0]: there is no such Service ×1", "ServiceMissing spec.rules[1]: there is no such Service ×1"}
		f.want(t, 2, 0, both...)
		for range 3 {
			f.poke()
			time.Sleep(time.Minute)
		}
		f.want(t, 2, 0, both...)

		// One is gone for a time and comes again.
		f.set(f.events, problem("spec.rules[1]"))
		time.Sleep(time.Minute)
		f.set(f.events, problem("spec.rules[1]"), problem("spec.rules[0]"))
		time.Sleep(eventSettle)
		f.want(t, 3, 1, "ServiceMissing spec.rules[0]: there is no such Service ×2", both[1])
	})
}

func TestEventsOfANewLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newEventFixture(t)
		run(t, f.events)
		second := f.replica(t)
		run(t, second)
		f.leadership.begin(t.Context())
		f.set(f.events, problem("spec.rules[0]"))
		time.Sleep(eventSettle)
		one := "ServiceMissing spec.rules[0]: there is no such Service ×1"
		f.want(t, 1, 0, one)

		f.leadership.end()
		second.leadership.begin(t.Context())
		time.Sleep(time.Minute)
		f.want(t, 2, 0, one)

		// The first leads again; in the meantime nothing changed.
		second.leadership.end()
		f.leadership.begin(context.WithoutCancel(t.Context()))
		time.Sleep(time.Minute)
		f.want(t, 3, 0, one)
	})
}

func TestEventsAreNotWrittenByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newEventFixture(t)
		run(t, f.events)
		f.set(f.events, problem("spec.rules[0]"))
		time.Sleep(time.Minute)
		f.want(t, 0, 0)
	})
}

// slowWriter is an API server whose answers take long.
type slowWriter struct {
	client.Writer
	takes time.Duration
}

func (w slowWriter) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	time.Sleep(w.takes)
	return w.Writer.Create(context.WithoutCancel(ctx), o, opts...)
}

// TestEventsAfterStandstill freezes the leader while it writes an Event: the others are for who leads by then, and for itself once it has the lease again.
func TestEventsAfterStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newEventFixture(t)
		f.writer = slowWriter{f.api, 12 * time.Second}
		run(t, f.events)
		lease := &renewals{leadership: f.leadership}
		f.leadership.lasts, f.leadership.renewed = 10*time.Second, time.Now()
		f.leadership.begin(t.Context())
		f.set(f.events, problem("spec.rules[0]"), problem("spec.rules[1]"), problem("spec.rules[2]"))
		time.Sleep(eventSettle)
		synctest.Wait()
		lease.renewed(time.Now(), nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(f.notes(t)); n != 1 {
			t.Fatalf("%d Events by a leader whose lease ran out with the first", n)
		}
		for range 5 {
			lease.renewed(time.Now(), nil)
			time.Sleep(20 * time.Second)
		}
		if n := len(f.notes(t)); n != 3 {
			t.Errorf("%d Events by a leader whose lease is renewed, want 3", n)
		}
	})
}

func TestEventsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newEventFixture(t)
		run(t, f.events)
		f.leadership.begin(t.Context())
		f.fail = errors.New("etcd is away")
		f.set(f.events, problem("spec.rules[0]"))
		time.Sleep(time.Minute)
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		time.Sleep(eventRetry)
		f.want(t, 1, 0, "ServiceMissing spec.rules[0]: there is no such Service ×1")
	})
}

func TestEventsAreRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newEventFixture(t)
		f.limiter = flowcontrol.NewTokenBucketRateLimiter(eventsPerSecond, eventsBurst)
		run(t, f.events)
		f.leadership.begin(t.Context())
		var many []ingress.Problem
		for i := range 200 {
			many = append(many, problem(fmt.Sprint("spec.rules[", i, "]")))
		}
		f.set(f.events, many...)
		time.Sleep(eventSettle + time.Second)
		synctest.Wait()
		if n := len(f.notes(t)); n < eventsBurst || n > eventsBurst+2*eventsPerSecond {
			t.Errorf("%d Events in the first second", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(f.notes(t)); n != len(many) {
			t.Errorf("%d Events in the end, want %d", n, len(many))
		}
	})
}

// TestEventsAreFair gives one object hundreds of Problems, and then another object its first.
func TestEventsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newEventFixture(t)
		f.limiter = flowcontrol.NewTokenBucketRateLimiter(eventsPerSecond, eventsBurst)
		run(t, f.events)
		f.leadership.begin(t.Context())
		var many []ingress.Problem
		for i := range 300 {
			many = append(many, problem(fmt.Sprint("spec.rules[", i, "]")))
		}
		f.set(f.events, many...)
		time.Sleep(eventSettle + 10*time.Second)
		other := problem("spec.tls[0]")
		other.Object.Name = "other"
		f.set(f.events, append(many, other)...)
		time.Sleep(eventSettle + time.Second)
		synctest.Wait()
		if !slices.Contains(f.notes(t), "ServiceMissing spec.tls[0]: there is no such Service ×1") {
			t.Errorf("the Event of another object waits behind those of one: %d are written", len(f.notes(t)))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(f.notes(t)); n != 301 {
			t.Errorf("%d Events in the end, want 301", n)
		}
		// A tenant with hundreds of bad objects, and another with one.
		many = nil
		for i := range 300 {
			many = append(many, problem("spec.rules[0]"))
			many[i].Object.Name = fmt.Sprint("web", i)
		}
		f.set(f.events, many...)
		time.Sleep(eventSettle + 10*time.Second)
		other.Object.Namespace = "other"
		f.set(f.events, append(many, other)...)
		time.Sleep(eventSettle + time.Second)
		synctest.Wait()
		found := &eventsv1.EventList{}
		if err := f.api.List(t.Context(), found, client.InNamespace("other")); err != nil || len(found.Items) != 1 {
			t.Errorf("%d Events, %v: that of another tenant waits behind those of one", len(found.Items), err)
		}
	})
}

// refusing is an API server that cannot store one Event.
type refusing struct {
	client.Writer
	name string
}

func (w refusing) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	if o.GetName() == w.name {
		return errors.New("etcd does not want it")
	}
	return w.Writer.Create(ctx, o, opts...)
}

// An Event that cannot be written keeps no other back.
func TestEventsMakeWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newEventFixture(t)
		f.writer = refusing{f.api, eventName(problem("spec.rules[0]"))}
		run(t, f.events)
		f.leadership.begin(t.Context())
		f.set(f.events, problem("spec.rules[0]"), problem("spec.rules[1]"), problem("spec.rules[2]"))
		time.Sleep(eventSettle + 3*eventRetry)
		synctest.Wait()
		if n := len(f.notes(t)); n != 2 {
			t.Errorf("%d Events, want 2 beside the one that cannot be", n)
		}
	})
}

func TestEventForm(t *testing.T) {
	e := newEventFixture(t).events
	p := problem("spec.rules[0]")
	p.Message = strings.Repeat("ß", 1000)
	event, ok := e.event(p, time.Now())
	if !ok || len(event.Note) > eventNoteLimit || strings.ContainsRune(event.Note, '\uFFFD') || event.Type != "Warning" || event.Action != "Ignored" ||
		event.Regarding.APIVersion != "networking.k8s.io/v1" || event.Regarding.UID != "u" || event.Namespace != "ns" {
		t.Errorf("%+v", event)
	}
	p.Effect = ingress.Notice
	p.Object = ingress.Object{Kind: "IngressClass", Name: "podlane"}
	if event, _ := e.event(p, time.Now()); event.Type != "Normal" || event.Namespace != "default" || event.Regarding.Namespace != "" {
		t.Errorf("%+v", event)
	}
	p.Object = ingress.Object{Kind: "ConfigMap", Namespace: "system", Name: "settings", UID: "c"}
	if event, ok := e.event(p, time.Now()); !ok || event.Namespace != "system" || event.Regarding.APIVersion != "v1" || event.Regarding.Kind != "ConfigMap" ||
		event.Regarding.Name != "settings" || event.Regarding.UID != "c" {
		t.Errorf("%+v", event)
	}
	p.Object = ingress.Object{Kind: "File", Name: "a.yaml"}
	if _, ok := e.event(p, time.Now()); ok {
		t.Error("an Event for what is not in the cluster")
	}
	p.Object = ingress.Object{Kind: "Ingress", Namespace: "ns", Name: strings.Repeat("a", 229) + ".b-long-name-with-a-cut"}
	if name := eventName(p); len(name) > 253 || strings.Contains(name, "..") || strings.Contains(name, "-.") {
		t.Errorf("%q is no name", name)
	}
}
