package controllers

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func names(secrets ...string) []types.NamespacedName {
	var keys []types.NamespacedName
	for _, s := range secrets {
		keys = append(keys, named("ns", s))
	}
	return keys
}

// arrives runs a Secret through the watch with data, as the informer does: transform first, event afterwards.
func (f *fixture) arrives(t *testing.T, s *corev1.Secret) {
	t.Helper()
	o, err := f.secrets.arrive(s)
	if err != nil {
		t.Fatal(err)
	}
	bare, ok := o.(*corev1.Secret)
	if !ok || len(bare.Data) != 0 || bare == s {
		t.Fatalf("the cache would store %+v", o)
	}
	f.secrets.fullChanged(f.secrets.full.find(named(s.Namespace, s.Name)), bare)
}

// workers runs the fetchers to the end of the test.
func (f *fixture) workers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.secrets.fetchLoop(ctx) })
	running.Go(func() { f.mirror.configMaps.fetchLoop(ctx) })
	t.Cleanup(func() {
		cancel()
		f.secrets.queue.ShutDown()
		f.mirror.configMaps.queue.ShutDown()
		running.Wait()
	})
}

// collected returns "name=tls.crt" of each Secret that the next table would get.
func (f *fixture) collected(t *testing.T, budget time.Duration) []string {
	t.Helper()
	snapshot, err := f.mirror.snapshot(t.Context(), budget)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range snapshot.Secrets {
		got = append(got, s.Name+"="+string(s.Data["tls.crt"]))
	}
	slices.Sort(got)
	return got
}

func wantSecrets(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the table gets %q, want %q", got, want)
	}
}

func TestSecretDataIsKeptOnlyWhereItIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.workers(t)
		f.mirror.ingressChanged(nil, newIngress("i", "a"))
		f.arrives(t, tlsSecret("a", "1", "A1"))
		f.arrives(t, tlsSecret("b", "1", "B1"))
		wantSecrets(t, f.collected(t, time.Second), "a=A1")
		if len(f.secrets.held) != 1 {
			t.Errorf("data of %d Secrets is held, want that of one", len(f.secrets.held))
		}
		f.arrives(t, tlsSecret("a", "2", "A2"))
		wantSecrets(t, f.collected(t, time.Second), "a=A2")

		// A resync hands the stored object in again, without data: it must not hide what is known.
		f.arrives(t, tlsSecret("a", "2"))
		wantSecrets(t, f.collected(t, time.Second), "a=A2")
		if n := f.api.count(); n != 0 {
			t.Errorf("%d fetches of what the watch had brought", n)
		}

		// Nobody refers to it any more: the data goes, the name stays.
		f.mirror.ingressChanged(newIngress("i", "a"), nil)
		wantSecrets(t, f.collected(t, time.Second))
		if len(f.secrets.held) != 0 || f.secrets.full.find(named("ns", "a")) == nil {
			t.Error("the data of a Secret that nobody refers to is held")
		}

		// It is wanted again: fetched, because the watch has nothing new to say.
		f.api.secrets[named("ns", "a")] = tlsSecret("a", "2", "A2")
		f.mirror.ingressChanged(nil, newIngress("j", "a", "missing"))
		wantSecrets(t, f.collected(t, time.Second), "a=A2")
		wantSecrets(t, f.collected(t, time.Second), "a=A2")
		if n := f.api.count(); n != 1 {
			t.Errorf("%d fetches, want one", n)
		}
		f.arrives(t, tlsSecret("a", "3", "A3"))
		wantSecrets(t, f.collected(t, time.Second), "a=A3")

		f.secrets.fullChanged(tlsSecret("a", "3"), nil)
		wantSecrets(t, f.collected(t, time.Second))
	})
}

func TestSecretsOfSeveralOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.mirror.ingressChanged(nil, newIngress("i", "a"))
		f.mirror.ingressChanged(nil, newIngress("j", "a"))
		f.arrives(t, tlsSecret("a", "1", "A1"))
		f.mirror.ingressChanged(newIngress("i", "a"), nil)
		wantSecrets(t, f.collected(t, time.Second), "a=A1")
	})
}

func metadata(name, version string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: version}}
}

func TestSecretOfAnotherTypeIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.workers(t)
		opaque := tlsSecret("o", "1", "O1")
		opaque.Type = corev1.SecretTypeOpaque
		f.api.secrets[named("ns", "o")] = opaque
		f.secrets.bareChanged(nil, metadata("o", "1"))
		f.secrets.bareChanged(nil, metadata("unwanted", "1"))
		f.mirror.ingressChanged(nil, newIngress("i", "o"))
		wantSecrets(t, f.collected(t, time.Second), "o=O1")
		if got := f.api.fetched; !slices.Equal(got, names("o")) {
			t.Errorf("fetched %v", got)
		}

		// The Secret that is fetched may be newer than the event that made us fetch it: its own event fetches nothing.
		newer := opaque.DeepCopy()
		newer.ResourceVersion, newer.Data["tls.crt"] = "3", []byte("O3")
		f.api.change(func() { f.api.secrets[named("ns", "o")] = newer })
		f.secrets.bareChanged(metadata("o", "1"), metadata("o", "2"))
		wantSecrets(t, f.collected(t, time.Second), "o=O3")
		f.secrets.bareChanged(metadata("o", "2"), metadata("o", "3"))
		wantSecrets(t, f.collected(t, time.Second), "o=O3")
		if n := f.api.count(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}

		// It is made again with the type whose data is watched.
		f.secrets.bareChanged(metadata("o", "3"), nil)
		f.arrives(t, tlsSecret("o", "4", "O4"))
		wantSecrets(t, f.collected(t, time.Second), "o=O4")

		// And back.
		f.api.change(func() { f.api.secrets[named("ns", "o")] = tlsSecret("o", "5", "O5") })
		f.secrets.fullChanged(tlsSecret("o", "4"), nil)
		f.secrets.bareChanged(nil, metadata("o", "5"))
		wantSecrets(t, f.collected(t, time.Second), "o=O5")
	})
}

func TestSecretThatIsGoneWhenFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.workers(t)
		f.secrets.bareChanged(nil, metadata("o", "1"))
		f.mirror.ingressChanged(nil, newIngress("i", "o"))
		wantSecrets(t, f.collected(t, time.Second))
		wantSecrets(t, f.collected(t, time.Second))
		if n := f.api.count(); n != 1 {
			t.Errorf("%d fetches of a Secret that is gone, want one", n)
		}
	})
}

func TestSlowFetchHoldsTheTableForItsBudgetOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.workers(t)
		f.api.delay = time.Second
		f.api.secrets[named("ns", "o")] = tlsSecret("o", "1", "O1")
		f.secrets.bareChanged(nil, metadata("o", "1"))
		f.mirror.ingressChanged(nil, newIngress("i", "o"))
		f.pacer.begin()
		start := time.Now()
		wantSecrets(t, f.collected(t, laterFetchBudget))
		if d := time.Since(start); d != laterFetchBudget {
			t.Errorf("waited %v, want %v", d, laterFetchBudget)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, pending := f.pacer.hold(); !pending {
			t.Error("the Secret has come, but no table is built with it")
		}
		wantSecrets(t, f.collected(t, laterFetchBudget), "o=O1")

		// What was waited for needs no second table.
		f.pacer.begin()
		f.api.delay = time.Millisecond
		f.api.change(func() { f.api.secrets[named("ns", "o")] = tlsSecret("o", "2", "O2") })
		f.secrets.bareChanged(metadata("o", "1"), metadata("o", "2"))
		f.pacer.begin()
		wantSecrets(t, f.collected(t, laterFetchBudget), "o=O2")
		synctest.Wait()
		if _, pending := f.pacer.hold(); pending {
			t.Error("a second table for what the first one contains")
		}
	})
}

func TestFailedFetchIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.workers(t)
		f.api.secrets[named("ns", "o")] = tlsSecret("o", "1", "O1")
		f.secrets.bareChanged(nil, metadata("o", "1"))
		f.mirror.ingressChanged(nil, newIngress("i", "o"))
		wantSecrets(t, f.collected(t, time.Second), "o=O1")

		// The API server is away: the last good data stays, and the table does not wait a second time.
		f.api.change(func() { f.api.err = errors.New("connection refused") })
		f.secrets.bareChanged(metadata("o", "1"), metadata("o", "2"))
		wantSecrets(t, f.collected(t, time.Second), "o=O1")
		start := time.Now()
		wantSecrets(t, f.collected(t, time.Second), "o=O1")
		if d := time.Since(start); d != 0 {
			t.Errorf("the second table waited %v for a fetch that failed", d)
		}

		f.pacer.begin()
		f.api.change(func() {
			f.api.err = nil
			f.api.secrets[named("ns", "o")] = tlsSecret("o", "2", "O2")
		})
		time.Sleep(time.Minute)
		if _, pending := f.pacer.hold(); !pending {
			t.Error("the Secret has come at last, but no table is built with it")
		}
		wantSecrets(t, f.collected(t, time.Second), "o=O2")
	})
}

func TestSecretIsNotWantedAnyMoreWhileItIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.workers(t)
		f.api.delay = time.Second
		f.api.secrets[named("ns", "o")] = tlsSecret("o", "1", "O1")
		f.secrets.bareChanged(nil, metadata("o", "1"))
		f.mirror.ingressChanged(nil, newIngress("i", "o"))
		f.collected(t, laterFetchBudget)
		f.mirror.ingressChanged(newIngress("i", "o"), nil)
		time.Sleep(2 * time.Second)
		f.secrets.mu.Lock()
		defer f.secrets.mu.Unlock()
		if len(f.secrets.held) != 0 || len(f.secrets.fetching) != 0 {
			t.Errorf("held %v, fetching %v", f.secrets.held, f.secrets.fetching)
		}
	})
}

func TestWatchOvertakesFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, newTable)
		f.workers(t)
		f.api.delay = time.Second
		f.api.secrets[named("ns", "a")] = tlsSecret("a", "1", "A1")
		f.arrives(t, tlsSecret("a", "1", "A1"))
		f.mirror.ingressChanged(nil, newIngress("i", "a"))
		wantSecrets(t, f.collected(t, laterFetchBudget))
		// While the old version is on its way from the API server, the watch brings the new one.
		f.arrives(t, tlsSecret("a", "2", "A2"))
		time.Sleep(2 * time.Second)
		wantSecrets(t, f.collected(t, laterFetchBudget), "a=A2")
		if n := f.api.count(); n != 1 {
			t.Errorf("%d fetches, want one", n)
		}
	})
}

func TestDefaultCertificateIsWanted(t *testing.T) {
	f := newFixture(t, newTable)
	f.mirror.options.Ingress.DefaultCertificate = "ns/default"
	f.mirror.referAll()
	f.arrives(t, tlsSecret("default", "1", "D1"))
	wantSecrets(t, f.collected(t, time.Second), "default=D1")
}

func TestOnlyOwnedIngressesRefer(t *testing.T) {
	f := newFixture(t, newTable)
	f.mirror.options.Ingress.EveryClass = false
	f.mirror.options.Ingress.ControllerClass = "podlane.dev/ingress-controller"
	i := newIngress("i", "a")
	i.Spec.IngressClassName = new(string)
	*i.Spec.IngressClassName = "podlane"
	f.mirror.classChanged(nil, newClass("podlane", "nginx.org/ingress-controller"))
	f.mirror.ingressChanged(nil, i)
	f.arrives(t, tlsSecret("a", "1", "A1"))
	if len(f.secrets.held) != 0 {
		t.Error("data is held for an Ingress of another controller")
	}
	f.mirror.classChanged(f.mirror.classes.list()[0], newClass("podlane", "podlane.dev/ingress-controller"))
	f.arrives(t, tlsSecret("a", "2", "A2"))
	wantSecrets(t, f.collected(t, time.Second), "a=A2")
}
