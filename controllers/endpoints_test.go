package controllers

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/router"
)

func TestEndpointIndex(t *testing.T) {
	x := newEndpointIndex()
	a, b := router.Service{Namespace: "ns", Name: "a"}, router.Service{Namespace: "ns", Name: "b"}
	one, two := newSlice("z", "a", 1), newSlice("y", "a", 1)
	x.sliceChanged(nil, one)
	x.sliceChanged(nil, two)
	if got := x.slicesOf(a); len(got) != 2 || got[0] != two || got[1] != one {
		t.Errorf("slices of a are %v, want y and z", got)
	}
	// A slice that changes hands concerns both Services.
	moved := newSlice("z", "b", 1)
	if got := x.sliceChanged(one, moved); len(got) != 2 || got[0] != a || got[1] != b {
		t.Errorf("the change concerns %v", got)
	}
	if got := x.slicesOf(b); len(got) != 1 || got[0] != moved {
		t.Errorf("slices of b are %v", got)
	}
	orphan := newSlice("x", "", 1)
	if got := x.sliceChanged(nil, orphan); len(got) != 0 {
		t.Errorf("a slice without a label concerns %v", got)
	}
	x.sliceChanged(orphan, nil)
	x.sliceChanged(moved, nil)
	x.sliceChanged(two, nil)
	if len(x.slices) != 0 {
		t.Errorf("the empty index holds %v", x.slices)
	}
}

func TestAddressesFollowOneService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		a := f.addresses
		s := router.Service{Namespace: "ns", Name: "a"}
		f.mirror.serviceChanged(nil, newService("a"))
		f.mirror.sliceChanged(nil, newSlice("a-1", "a", 2))
		if len(a.feed.waiting) != 0 {
			t.Error("events before the first table are queued")
		}
		a.live.Store(true)
		current := newSlice("a-1", "a", 3)
		f.mirror.sliceChanged(newSlice("a-1", "a", 2), current)
		time.Sleep(4 * time.Millisecond)
		f.mirror.sliceChanged(current, current)
		time.Sleep(time.Millisecond)
		if len(a.feed.waiting) != 1 {
			t.Errorf("%d requests for one Service", len(a.feed.waiting))
		}
		if _, err := a.Reconcile(t.Context(), s); err != nil {
			t.Error(err)
		}
		wantCalls(t, f.plane, "addresses ns/a 3")
		if got := f.events.set[s]; got != 5*time.Millisecond {
			t.Errorf("event to set %v, want 5ms from the first event", got)
		}
		// A retry without an event is not measured.
		delete(f.events.set, s)
		if _, err := a.Reconcile(t.Context(), s); err != nil {
			t.Error(err)
		}
		if len(f.events.set) != 0 {
			t.Error("latency without an event")
		}
		f.plane.take()
		f.mirror.serviceChanged(newService("a"), nil)
		if _, err := a.Reconcile(t.Context(), s); err != nil {
			t.Error(err)
		}
		wantCalls(t, f.plane, "addresses ns/a 0")
	})
}

func TestCoreEndpointsReachTheResolver(t *testing.T) {
	f := newFixture(t, newTable)
	f.addresses.live.Store(true)
	f.mirror.services.put(newService("external"))
	e := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "external"},
		Subsets:    []corev1.EndpointSubset{{Addresses: make([]corev1.EndpointAddress, 2)}},
	}
	f.mirror.endpointsChanged(nil, e)
	s := router.Service{Namespace: "ns", Name: "external"}
	if _, queued := f.addresses.feed.waiting[s]; !queued {
		t.Error("Endpoints do not wake their Service")
	}
	f.addresses.refresh(s)
	f.mirror.endpointsChanged(e, nil)
	f.addresses.refresh(s)
	wantCalls(t, f.plane, "addresses ns/external 2", "addresses ns/external 0")
}

// lastPlane keeps the last number of addresses of each Service and looks for two calls at a time for one Service.
type lastPlane struct {
	plane
	mu     sync.Mutex
	last   map[router.Service]int
	inside map[router.Service]bool
	t      *testing.T
}

func (p *lastPlane) SetAddresses(s router.Service, byPort map[string][]router.Address) {
	p.mu.Lock()
	if p.inside[s] {
		p.t.Errorf("two calls for %s at a time", s)
	}
	p.inside[s] = true
	p.mu.Unlock()
	time.Sleep(time.Microsecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside[s] = false
	if n := len(byPort[""]); n < p.last[s] {
		p.t.Errorf("an older reading (%d) overwrote a newer one (%d)", n, p.last[s])
	} else {
		p.last[s] = n
	}
}

// TestOlderReadingNeverWins lets the publisher's refresh and the workers race while a Service only grows.
func TestOlderReadingNeverWins(t *testing.T) {
	f := newFixture(t, newTable)
	p := &lastPlane{last: map[router.Service]int{}, inside: map[router.Service]bool{}, t: t}
	f.addresses.plane = p
	f.addresses.live.Store(true)
	const services, rounds = 3, 200
	var old [services]int
	for i := range services {
		f.mirror.services.put(newService(fmt.Sprint("s", i)))
	}
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() {
			for n := range services * rounds {
				f.addresses.refresh(router.Service{Namespace: "ns", Name: fmt.Sprint("s", n%services)})
			}
		})
	}
	for n := range services * rounds {
		i := n % services
		name := fmt.Sprint("s", i)
		f.mirror.sliceChanged(newSlice(name, name, old[i]), newSlice(name, name, old[i]+1))
		old[i]++
	}
	done.Wait()
	for i := range services {
		s := router.Service{Namespace: "ns", Name: fmt.Sprint("s", i)}
		f.addresses.refresh(s)
		if p.last[s] != old[i] {
			t.Errorf("%s ends with %d addresses, want %d", s, p.last[s], old[i])
		}
	}
}

// BenchmarkAddressChange is one EndpointSlice event of a Service with 10 endpoints among 5,000.
func BenchmarkAddressChange(b *testing.B) {
	m := newMirror(Options{})
	a := &addresses{mirror: m, resolve: countEndpoints, plane: nowhere{}}
	m.subscribers.addresses = a.changed
	a.live.Store(true)
	for i := range 500 {
		name := fmt.Sprint("s", i)
		m.services.put(newService(name))
		m.endpoints.sliceChanged(nil, newSlice(name, name, 10))
	}
	old, s := newSlice("s7", "s7", 10), router.Service{Namespace: "ns", Name: "s7"}
	b.ReportAllocs()
	for b.Loop() {
		m.sliceChanged(old, old)
		if _, err := a.Reconcile(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}

// nowhere is a DataPlane that costs nothing.
type nowhere struct{}

func (nowhere) Prepare(*router.Table) []router.Service                   { return nil }
func (nowhere) SetAddresses(router.Service, map[string][]router.Address) {}
func (nowhere) Publish(*router.Table)                                    {}
