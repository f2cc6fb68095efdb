package controllers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// reconcile runs the table controller once.
func (f *fixture) reconcile(t *testing.T) {
	t.Helper()
	if _, err := f.Reconcile(t.Context(), tableRequest{}); err != nil {
		t.Error(err)
	}
}

func TestPublishOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.plane.pools = []router.Service{{Namespace: "ns", Name: "a"}, {Namespace: "ns", Name: "gone"}}
		f.mirror.services.put(newService("a"))
		f.mirror.endpoints.sliceChanged(nil, newSlice("a-1", "a", 3))
		if err := f.ready(); err == nil {
			t.Error("ready before the first table")
		}
		f.wake()
		f.reconcile(t)
		wantCalls(t, f.plane, "prepare", "addresses ns/a 3", "addresses ns/gone 0", "publish")
		select {
		case <-f.first:
		default:
			t.Error("the first table is live, but nobody is told")
		}
		if err := f.ready(); err != nil {
			t.Errorf("not ready with a table: %v", err)
		}
		f.reconcile(t)
		wantCalls(t, f.plane)
		f.mirror.sliceChanged(nil, newSlice("a-2", "a", 1))
		if len(f.addresses.feed.waiting) != 1 {
			t.Error("endpoint changes after the first table are not followed")
		}
		time.Sleep(time.Second)
		f.wake()
		time.Sleep(7 * time.Millisecond)
		f.reconcile(t)
		if want := []uint64{1, 2}; !slices.Equal(f.events.publish, want) {
			t.Errorf("generations %v, want %v", f.events.publish, want)
		}
		if got := f.events.latency[1]; got != 7*time.Millisecond {
			t.Errorf("event to live %v, want 7ms", got)
		}
	})
}

func TestSnapshotSharesObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got ingress.Snapshot
		f := newFixture(t, func(s ingress.Snapshot) (*router.Table, []ingress.Problem) {
			got = s
			return newTable(s)
		})
		i, s := newIngress("i"), newService("s")
		f.mirror.ingressChanged(nil, i)
		f.mirror.serviceChanged(nil, s)
		f.reconcile(t)
		if len(got.Ingresses) != 1 || got.Ingresses[0] != i || len(got.Services) != 1 || got.Services[0] != s || !got.Options.EveryClass {
			t.Errorf("snapshot %+v does not hold the cache's own objects", got)
		}
	})
}

func TestSameTableIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same := router.NewTable(nil, nil)
		f := newFixture(t, func(ingress.Snapshot) (*router.Table, []ingress.Problem) { return same, nil })
		for range 3 {
			f.wake()
			f.reconcile(t)
			time.Sleep(time.Second)
		}
		wantCalls(t, f.plane, "prepare", "publish")
	})
}

func TestBuildPanicKeepsTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := false
		problem := ingress.Problem{Reason: ingress.PathConflict}
		f := newFixture(t, func(s ingress.Snapshot) (*router.Table, []ingress.Problem) {
			if broken {
				panic("poison")
			}
			table, _ := newTable(s)
			return table, []ingress.Problem{problem}
		})
		f.wake()
		f.reconcile(t)
		f.plane.take()
		broken = true
		time.Sleep(time.Second)
		f.wake()
		f.reconcile(t)
		wantCalls(t, f.plane)
		if f.events.panics != 1 || f.ready() != nil || !slices.Equal(f.current(), []ingress.Problem{problem}) {
			t.Errorf("%d panics told, ready: %v, problems %v", f.events.panics, f.ready(), f.current())
		}
		broken = false
		time.Sleep(time.Second)
		f.wake()
		f.reconcile(t)
		wantCalls(t, f.plane, "prepare", "publish")
	})
}

func TestFirstBuildPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(ingress.Snapshot) (*router.Table, []ingress.Problem) { panic("poison") })
		f.wake()
		f.reconcile(t)
		if err := f.ready(); err == nil || f.generation.Load() != 0 {
			t.Errorf("ready %v at generation %d without a table", err, f.generation.Load())
		}
	})
}

func TestPreparePanicIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.wake()
		f.plane.panics = true
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic of the data plane was swallowed")
				}
			}()
			_, _ = f.Reconcile(t.Context(), tableRequest{})
		}()
		// controller-runtime turns the panic into an error and comes again by itself.
		f.reconcile(t)
		wantCalls(t, f.plane, "prepare", "prepare", "publish")
	})
}

func TestTableWaitsForWatchesAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		a, b := &link{of: f.links}, &link{of: f.links}
		for _, k := range []*link{a, b} {
			k.works()
			k.failed(t.Context())
		}
		a.works()
		f.wake()
		go func() {
			time.Sleep(3 * time.Second)
			b.works()
		}()
		start := time.Now()
		f.reconcile(t)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("published %v after the first watch came back, want 3s", d)
		}
	})
}

func TestReconcileEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		a, b := &link{of: f.links}, &link{of: f.links}
		for _, k := range []*link{a, b} {
			k.works()
			k.failed(t.Context())
		}
		a.works()
		f.wake()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Reconcile(ctx, tableRequest{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Reconcile returned %v", err)
		}
		b.works()
		f.reconcile(t)
		wantCalls(t, f.plane, "prepare", "publish")
	})
}

func TestProblemsAreToldWhenTheyDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := ingress.Problem{Reason: ingress.PathConflict, Message: "a"}
		b := ingress.Problem{Reason: ingress.PathConflict, Message: "b"}
		c := ingress.Problem{Reason: ingress.ServiceMissing}
		lists := [][]ingress.Problem{nil, {a, b}, {b, a}, {a, a}, {a, c}, nil}
		n := -1
		f := newFixture(t, func(s ingress.Snapshot) (*router.Table, []ingress.Problem) {
			n++
			table, _ := newTable(s)
			return table, lists[n]
		})
		changes := 0
		f.problemsChanged = func() { changes++ }
		for range lists {
			f.wake()
			f.reconcile(t)
			time.Sleep(time.Second)
		}
		want := []map[ingress.Reason]int{{}, {ingress.PathConflict: 2}, {ingress.PathConflict: 2}, {ingress.PathConflict: 1, ingress.ServiceMissing: 1}, {}}
		if !slices.EqualFunc(f.events.problems, want, maps.Equal[map[ingress.Reason]int, map[ingress.Reason]int]) || changes != len(want) {
			t.Errorf("told %v (%d changes), want %v", f.events.problems, changes, want)
		}
	})
}

// What is to be said about a certificate changes when its time begins and ends, without an event.
func TestTableIsBuiltWhenACertificateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leaf := &x509.Certificate{NotBefore: time.Now().Add(10 * time.Minute), NotAfter: time.Now().Add(30 * time.Minute)}
		table := router.NewTable(nil, []*router.Certificate{{Secret: "s", KeyPair: &tls.Certificate{Leaf: leaf}}})
		var built []time.Time
		f := newFixture(t, func(s ingress.Snapshot) (*router.Table, []ingress.Problem) {
			built = append(built, s.Taken)
			return table, nil
		})
		f.wake()
		start := time.Now()
		for range 33 {
			f.reconcile(t)
			time.Sleep(time.Minute)
		}
		if len(built) != 3 || built[1].Before(leaf.NotBefore) || !built[2].After(leaf.NotAfter) || built[2].Sub(start) > 32*time.Minute {
			t.Errorf("built at %v, want at the start, from %v on and after %v", built, leaf.NotBefore, leaf.NotAfter)
		}
	})
}

// BenchmarkOneIngressOf10000 is one changed Ingress among 10,000, half of them with a certificate, from its event to Publish.
func BenchmarkOneIngressOf10000(b *testing.B) {
	f := newFixture(b, ingress.NewBuilder(nil).Build)
	f.plane = nil
	f.publisher.plane, f.addresses.plane = nowhere{}, nowhere{}
	const n = 10_000
	old := make([]*networkingv1.Ingress, n)
	for i := range n {
		old[i] = newIngress(fmt.Sprint("i", i))
		if i%2 == 0 {
			old[i].Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{fmt.Sprintf("h%d.example", i)}, SecretName: fmt.Sprint("s", i)}}
		}
		pathType := networkingv1.PathTypePrefix
		old[i].Spec.Rules = []networkingv1.IngressRule{{Host: fmt.Sprintf("h%d.example", i), IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &pathType, Backend: networkingv1.IngressBackend{
				Service: &networkingv1.IngressServiceBackend{Name: fmt.Sprint("s", i), Port: networkingv1.ServiceBackendPort{Number: 80}},
			}}}},
		}}}
		f.mirror.serviceChanged(nil, newService(fmt.Sprint("s", i)))
		f.mirror.ingressChanged(nil, old[i])
	}
	ctx := b.Context()
	if err := f.publish(ctx, time.Now()); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		current := old[i%n].DeepCopy()
		current.Generation++
		current.Spec.Rules[0].HTTP.Paths[0].Path += "a"
		f.mirror.ingressChanged(old[i%n], current)
		old[i%n] = current
		if err := f.publish(ctx, time.Now()); err != nil {
			b.Fatal(err)
		}
		i += 7
	}
	if f.generation.Load() < uint64(b.N) {
		b.Errorf("%d tables for %d changes", f.generation.Load(), b.N)
	}
}

func TestWhatWakesTheTable(t *testing.T) {
	tests := []struct {
		name   string
		change func(m *mirror)
		wakes  bool
	}{
		{"Ingress status", func(m *mirror) {
			old, current := newIngress("i"), newIngress("i")
			current.ResourceVersion = "2"
			current.Status.LoadBalancer.Ingress = normalAddresses(append(current.Status.LoadBalancer.Ingress, addressOf("192.0.2.1")))
			m.ingressChanged(old, current)
		}, false},
		{"Ingress spec", func(m *mirror) {
			old, current := newIngress("i"), newIngress("i")
			current.Generation = 2
			m.ingressChanged(old, current)
		}, true},
		{"Ingress annotation", func(m *mirror) {
			old, current := newIngress("i"), newIngress("i")
			current.Annotations = map[string]string{"a": "b"}
			m.ingressChanged(old, current)
		}, true},
		{"Ingress made again", func(m *mirror) {
			old, current := newIngress("i"), newIngress("i")
			current.UID = "other"
			m.ingressChanged(old, current)
		}, true},
		{"Ingress gone", func(m *mirror) { m.ingressChanged(newIngress("i"), nil) }, true},
		{"Service status", func(m *mirror) {
			old, current := newService("s"), newService("s")
			current.Status.LoadBalancer.Ingress = append(current.Status.LoadBalancer.Ingress, balancer("192.0.2.1", ""))
			m.serviceChanged(old, current)
		}, false},
		{"Service spec", func(m *mirror) {
			old, current := newService("s"), newService("s")
			current.Spec.PublishNotReadyAddresses = true
			m.serviceChanged(old, current)
		}, true},
		{"Service gone", func(m *mirror) { m.serviceChanged(newService("s"), nil) }, true},
		{"EndpointSlice", func(m *mirror) { m.sliceChanged(nil, newSlice("s-1", "s", 1)) }, false},
		{"Secret that nobody refers to", func(m *mirror) { m.secrets.fullChanged(nil, tlsSecret("s", "1")) }, false},
		{"Secret that is referred to", func(m *mirror) {
			m.secrets.refer(named("ns", "i"), names("s"))
			m.secrets.fullChanged(nil, tlsSecret("s", "1"))
		}, true},
		{"anything before the mirror is complete", func(m *mirror) {
			m.complete.Store(false)
			m.serviceChanged(nil, newService("s"))
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, newTable)
			tt.change(f.mirror)
			if _, pending := f.pacer.hold(); pending != tt.wakes {
				t.Errorf("wakes the table: %t, want %t", pending, tt.wakes)
			}
		})
	}
}
