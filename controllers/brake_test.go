package controllers

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// braked is a brake in front of a data plane, and what the cluster says.
type braked struct {
	*brake
	t     *testing.T
	said  map[router.Service]map[string][]router.Address
	given map[router.Service][]router.Address

	told  sync.Mutex // timers tell, too
	again []router.Service
	steps []BrakeStep
}

// newBraked returns one for 40 Services with two endpoints each.
func newBraked(t *testing.T, o BrakeOptions) *braked {
	t.Helper()
	b := &braked{brake: newBrake(o, "podlane"), t: t, said: map[router.Service]map[string][]router.Address{}, given: map[router.Service][]router.Address{}}
	b.log = logr.Discard()
	b.noticed = func(s BrakeStep) {
		b.told.Lock()
		defer b.told.Unlock()
		b.steps = append(b.steps, s)
	}
	b.changed, b.wake = func() {}, func() {}
	b.release = func(s router.Service) {
		b.told.Lock()
		defer b.told.Unlock()
		b.again = append(b.again, s)
	}
	for n := range 40 {
		b.services[serviceOfNumber(n)] = &brakedService{}
		b.say(n, 2*n, 2*n+1)
	}
	return b
}

func serviceOfNumber(n int) router.Service {
	return router.Service{Namespace: "ns", Name: fmt.Sprint("s", n)}
}

// address is a ready endpoint of a Pod of its own.
func address(n int) router.Address {
	ip := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
	return router.Address{AddrPort: netip.AddrPortFrom(ip, 8080), UID: fmt.Sprint("pod", n), Ready: true, Serving: true}
}

// say makes the cluster say that a Service has these endpoints.
func (b *braked) say(service int, numbers ...int) {
	var list []router.Address
	for _, n := range numbers {
		list = append(list, address(n))
	}
	b.hand(serviceOfNumber(service), map[string][]router.Address{"": list})
}

func (b *braked) hand(s router.Service, byPort map[string][]router.Address) {
	b.said[s] = byPort
	b.release(s)
	b.settle()
}

// settle hands over what is to be handed over again.
func (b *braked) settle() {
	for {
		b.told.Lock()
		again := b.again
		b.again = nil
		b.told.Unlock()
		if len(again) == 0 {
			return
		}
		b.handOver(again)
	}
}

func (b *braked) handOver(again []router.Service) {
	for _, s := range again {
		hand, _ := b.addresses(s, b.said[s])
		b.given[s] = hand[""]
	}
}

// all returns how many endpoints the data plane has.
func (b *braked) all() int {
	n := 0
	for _, list := range b.given {
		n += len(list)
	}
	return n
}

func (b *braked) want(all int, steps ...string) {
	b.t.Helper()
	b.told.Lock()
	defer b.told.Unlock()
	var got []string
	for _, s := range b.steps {
		got = append(got, fmt.Sprintf("%s %d/%d %t", s.Kind, s.Removed, s.Of, s.Held))
	}
	if b.all() != all || !slices.Equal(got, steps) {
		b.t.Errorf("%d endpoints, steps %q; want %d, %q", b.all(), got, all, steps)
	}
}

// rest waits until a step is judged.
func (b *braked) rest() {
	time.Sleep(brakeQuiet + 2*time.Millisecond)
	synctest.Wait()
	b.settle()
}

var holding = BrakeOptions{Percent: 50, Hold: 30 * time.Second}

func TestBrakeHoldsEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBraked(t, holding)
		for n := range 20 {
			b.say(n)
		}
		b.want(80) // there may be more of it
		b.rest()
		b.want(40) // half is not more than half
		b.say(20)
		b.want(80, "endpoints 42/80 true") // and all of the step is back
		if p := b.problems(); len(p) != 1 || p[0].Reason != ingress.MassRemoval || p[0].Effect != ingress.Kept || !strings.Contains(p[0].Message, "42 of 80 endpoints") {
			t.Errorf("the Problems are %v", p)
		}
		time.Sleep(15 * time.Second)
		b.say(21)
		b.say(39, 78, 79, 500)
		b.want(81, "endpoints 42/80 true") // what comes is not held
		time.Sleep(15*time.Second + time.Millisecond)
		synctest.Wait()
		b.settle()
		b.want(37, "endpoints 42/80 true", "endpoints 42/80 false")
		if len(b.problems()) > 0 {
			t.Errorf("the Problems are %v", b.problems())
		}
		// That was that: a small step from there is no part of it.
		b.say(30)
		b.rest()
		b.want(35, "endpoints 42/80 true", "endpoints 42/80 false")
	})
}

func TestBrakeEndsWhenEndpointsAreBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBraked(t, holding)
		for n := range 40 {
			b.say(n)
		}
		b.want(80, "endpoints 42/80 true")
		for n := range 39 { // the first that are back do not end it for those that are about to be
			b.say(n, 2*n, 2*n+1)
		}
		b.want(80, "endpoints 42/80 true")
		b.say(39, 78, 79)
		b.want(80, "endpoints 42/80 true", "endpoints 42/80 false")
		time.Sleep(time.Minute)
		b.want(80, "endpoints 42/80 true", "endpoints 42/80 false")
	})
}

// TestBrakeLetsGo has what looks like much, and is no accident.
func TestBrakeLetsGo(t *testing.T) {
	for name, test := range map[string]struct {
		options BrakeOptions
		do      func(b *braked)
		left    int
		steps   []string
	}{
		"Pods that end": {holding, func(b *braked) {
			for n := range 40 {
				s := serviceOfNumber(n)
				ending := []router.Address{address(2 * n), address(2*n + 1)}
				for i := range ending {
					ending[i].Ready, ending[i].Terminating = false, true
				}
				b.hand(s, map[string][]router.Address{"": ending})
				b.hand(s, nil)
			}
		}, 0, nil},
		"few of those that Pods that end left": {holding, func(b *braked) {
			for n := range 24 {
				b.hand(serviceOfNumber(n), map[string][]router.Address{"": {{AddrPort: address(2 * n).AddrPort, UID: address(2 * n).UID}, {AddrPort: address(2*n + 1).AddrPort, UID: address(2*n + 1).UID}}})
				b.hand(serviceOfNumber(n), nil)
			}
			for n := 24; n < 30; n++ {
				b.say(n)
			}
		}, 20, nil},
		"a rollout of everything": {holding, func(b *braked) {
			for n := range 40 {
				b.say(n, 100+2*n, 101+2*n)
			}
		}, 80, nil},
		"slowly": {holding, func(b *braked) {
			for n := range 36 { // a twelfth or less of what there is, each time
				b.say(n)
				time.Sleep(10 * time.Second)
			}
		}, 8, nil},
		"nobody asks for them": {holding, func(b *braked) {
			b.follow(router.NewTable(nil, nil))
			for n := range 40 {
				b.say(n)
			}
		}, 0, nil},
		"only said": {BrakeOptions{Percent: 50}, func(b *braked) {
			for n := range 30 {
				b.say(n)
			}
		}, 20, []string{"endpoints 42/80 false"}},
		"off": {BrakeOptions{Hold: time.Minute}, func(b *braked) {
			for n := range 40 {
				b.say(n)
			}
		}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBraked(t, test.options)
				test.do(b)
				b.rest()
				b.want(test.left, test.steps...)
			})
		})
	}
	t.Run("a small cluster", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBraked(t, holding)
			for n := 1; n < 40; n++ {
				delete(b.services, serviceOfNumber(n))
			}
			b.ready, b.lately, b.services[serviceOfNumber(0)] = 0, 0, &brakedService{}
			b.say(0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
			b.say(0)
			if b.rest(); len(b.given[serviceOfNumber(0)]) > 0 || len(b.steps) > 0 {
				t.Errorf("a Service of ten was not scaled to zero: %v", b.steps)
			}
		})
	})
	t.Run("more and more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBraked(t, holding)
			for n := range 20 { // each as another is about to be judged, for longer than is waited
				b.say(n)
				time.Sleep(brakeQuiet - time.Millisecond)
				synctest.Wait()
				b.settle()
			}
			if b.all() > 70 {
				t.Errorf("after ten seconds %d endpoints of 40 are there", b.all())
			}
			b.rest()
			b.want(40)
		})
	})
}

// TestBrakeLetsGoOfAddressesOfOthers checks that an address that is held is let go when a Pod of another Service has it.
func TestBrakeLetsGoOfAddressesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBraked(t, holding)
		for n := range 30 {
			b.say(n)
		}
		b.want(80, "endpoints 42/80 true")
		taken := address(0)
		taken.UID, taken.AddrPort = "another", netip.AddrPortFrom(taken.AddrPort.Addr(), 9090)
		s := serviceOfNumber(39)
		b.hand(s, map[string][]router.Address{"": {taken, address(78), address(79)}})
		if got := b.given[serviceOfNumber(0)]; len(got) != 1 || got[0].UID != "pod1" {
			t.Errorf("the first Service has %v", got)
		}
		if len(b.given[s]) != 3 {
			t.Errorf("the other has %v", b.given[s])
		}
		time.Sleep(time.Minute)
	})
}

// newHostFixture returns a publisher that holds, with a table of 30 hosts with a Service each.
func newHostFixture(t *testing.T, o BrakeOptions) (*fixture, *[]BrakeStep) {
	t.Helper()
	f := newFixture(t, ingress.NewBuilder(nil).Build)
	f.brake.options = o
	var steps []BrakeStep
	f.brake.noticed = func(s BrakeStep) { steps = append(steps, s) }
	for n := range 30 {
		s := newService(fmt.Sprint("s", n))
		s.Spec.Ports = []corev1.ServicePort{{Port: 80}}
		f.mirror.services.put(s)
		f.mirror.ingresses.put(hostIngress(n))
	}
	f.build(t)
	wantHosts(t, f, 30)
	return f, &steps
}

func hostIngress(n int) *networkingv1.Ingress {
	prefix := networkingv1.PathTypePrefix
	i := newIngress(fmt.Sprint("i", n))
	backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: fmt.Sprint("s", n), Port: networkingv1.ServiceBackendPort{Number: 80}}}
	i.Spec.Rules = []networkingv1.IngressRule{{Host: fmt.Sprintf("h%d.example", n), IngressRuleValue: networkingv1.IngressRuleValue{
		HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: backend}}},
	}}}
	return i
}

// build builds because something changed.
func (f *fixture) build(t *testing.T) {
	t.Helper()
	time.Sleep(time.Second)
	f.wake()
	f.reconcile(t)
}

// wantHosts checks how many hosts the live table serves.
func wantHosts(t *testing.T, f *fixture, want int) {
	t.Helper()
	n := 0
	for h := range f.last.Hosts() {
		if slices.ContainsFunc(h.Routes(), hasService) {
			n++
		}
	}
	if n != want {
		t.Errorf("%d hosts are served, want %d", n, want)
	}
}

func TestBrakeHoldsHosts(t *testing.T) {
	ingresses := func(f *fixture, n int) { f.mirror.ingresses.remove(hostIngress(n)) }
	for name, remove := range map[string]func(f *fixture, n int){
		"Ingresses": ingresses,
		"Services":  func(f *fixture, n int) { f.mirror.services.remove(newService(fmt.Sprint("s", n))) },
		"in parts":  ingresses,
	} {
		together := name == "in parts"
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, steps := newHostFixture(t, holding)
				for n := range 15 {
					remove(f, n)
				}
				f.build(t)
				wantHosts(t, f, 30) // there may be more of it
				synctest.Wait()
				f.build(t)
				wantHosts(t, f, 15)
				if len(*steps) > 0 {
					t.Errorf("half is too much: %v", *steps)
				}
				// What follows at once is part of the same step, however little it is; later it is none.
				if together {
					remove(f, 15)
					f.build(t)
					wantHosts(t, f, 15)
					if got := fmt.Sprint(*steps); got != "[{hosts 16 30 true false}]" {
						t.Errorf("steps %s", got)
					}
					time.Sleep(time.Minute)
					return
				}
				time.Sleep(brakeWindow)
				for n := 15; n < 27; n++ {
					remove(f, n)
				}
				f.build(t)
				wantHosts(t, f, 15)
				held := func() int {
					return len(slices.DeleteFunc(slices.Clone(f.current()), func(p ingress.Problem) bool { return p.Reason != ingress.MassRemoval }))
				}
				if held() != 1 {
					t.Errorf("the Problems are %v", f.current())
				}
				// Another change makes it no longer.
				time.Sleep(20 * time.Second)
				remove(f, 27)
				f.build(t)
				wantHosts(t, f, 15)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if f.pacer.first.IsZero() {
					t.Fatal("nobody builds when the time is over")
				}
				f.build(t)
				wantHosts(t, f, 2)
				if got := fmt.Sprint(*steps); held() != 0 || got != "[{hosts 12 15 true false} {hosts 12 15 false true}]" {
					t.Errorf("steps %s, %d are held", got, held())
				}
			})
		})
	}
}

func TestBrakeEndsWhenHostsAreBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, steps := newHostFixture(t, holding)
		generation := f.generation.Load()
		for n := range 30 {
			f.mirror.ingresses.remove(hostIngress(n))
		}
		f.build(t)
		wantHosts(t, f, 30)
		for n := range 29 { // the first that are back do not end it for those that are about to be
			f.mirror.ingresses.put(hostIngress(n))
		}
		f.build(t)
		wantHosts(t, f, 30)
		for n := range 30 {
			f.mirror.ingresses.put(hostIngress(n))
		}
		f.build(t)
		wantHosts(t, f, 30)
		if got := fmt.Sprint(*steps); got != "[{hosts 30 30 true false} {hosts 30 30 false true}]" || len(f.current()) > 0 {
			t.Errorf("steps %s, Problems %v", got, f.current())
		}
		t.Logf("generation %d, was %d", f.generation.Load(), generation)
		time.Sleep(time.Minute)
	})
}

func TestBrakeOnlySaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, steps := newHostFixture(t, BrakeOptions{Percent: 50})
		for n := range 20 {
			f.mirror.ingresses.remove(hostIngress(n))
		}
		f.build(t)
		wantHosts(t, f, 10)
		if got := fmt.Sprint(*steps); got != "[{hosts 20 30 false false}]" {
			t.Errorf("steps %s", got)
		}
	})
}
