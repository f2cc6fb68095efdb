package controlplane

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
)

// parallel calls f for 0…n-1 in several goroutines.
func parallel(n int, f func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	all.Wait()
}

// rss is the resident memory of this process.
func rss(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var kB int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kB); n == 1 {
			return kB >> 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestStart prints how long a replica takes to its first table with 1,000 Ingresses and 10,000 endpoints, 200 of the Ingresses with certificates.
func TestStart(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	ns := c.Namespace(t).Name
	const ingresses, certificates, endpoints = 1000, 200, 10
	parallel(ingresses, func(i int) {
		name, host := fmt.Sprint("web", i), fmt.Sprintf("web%d.example", i)
		secrets := []string{}
		if i < certificates {
			kind := corev1.SecretTypeTLS
			if i%20 == 0 {
				kind = corev1.SecretTypeOpaque
			}
			create(t, c, ns, newSecret(t, name, kind, "tls0."+host))
			secrets = append(secrets, name)
		}
		create(t, c, ns, newService(name), newSlice(name, i*endpoints, endpoints), newIngress(name, host, name, secrets...))
	})
	o := options(ns)
	o.Namespaces = nil
	runtime.GC()
	before := rss(t)
	for range 3 {
		start := time.Now()
		r := run(t, c.RESTConfig(), o)
		ready := time.Since(start)
		set := 0
		for i := range ingresses {
			set += len(r.plane.addresses(ns, fmt.Sprint("web", i)))
		}
		usable := 0
		for _, k := range r.plane.table.Load().Certificates() {
			if k.KeyPair != nil {
				usable++
			}
		}
		runtime.GC()
		t.Logf("%d Ingresses, %d endpoints, %d certificates: first table after %v, %d MiB more resident", ingresses, ingresses*endpoints, certificates, ready.Round(time.Millisecond), rss(t)-before)
		if n := r.plane.table.Load().Len(); n != ingresses || set != ingresses*endpoints || usable != certificates || r.plane.early != 0 || r.Generation() != 1 {
			t.Errorf("the first table has %d routes, %d addresses, %d certificates, %d pools without addresses; generation %d", n, set, usable, r.plane.early, r.Generation())
		}
		r.stop()
	}
}

// TestEndpointChurn changes 5,000 endpoints as fast as the API server lets it, up to 1,000 changes a second, and prints how soon
// the data plane has the last state, and what memory it took.
func TestEndpointChurn(t *testing.T) {
	c := server(t)
	ns := c.Namespace(t).Name
	const services, endpoints, rate, length = 500, 10, 1000, 10 * time.Second
	parallel(services, func(i int) {
		name := fmt.Sprint("web", i)
		create(t, c, ns, newService(name), newSlice(name, i*endpoints, endpoints), newIngress(name, name+".example", name))
	})
	r := run(t, as(c, "podlane"), options(ns))
	generation := r.Generation()
	runtime.GC()
	before, goroutines := rss(t), runtime.NumGoroutine()

	slices := c.Client.DiscoveryV1().EndpointSlices(ns)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	var written [services]atomic.Int64
	var turn atomic.Int64
	var writers sync.WaitGroup
	for range 16 {
		writers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				n := turn.Add(1)
				i := int(n) % services
				s := newSlice(fmt.Sprint("web", i), int(n)*endpoints%1_000_000, endpoints)
				if _, err := slices.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
					t.Error(err)
					return
				}
				written[i].Store(n)
			}
		})
	}
	writers.Wait()
	end := time.Now()
	list, err := slices.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the last state", func() bool {
		for i := range list.Items {
			name := strings.TrimSuffix(list.Items[i].Name, "-1")
			got := r.plane.addresses(ns, name)
			if len(got) != endpoints {
				return false
			}
			want := list.Items[i].Endpoints[0].Addresses[0] + ":8000"
			found := false
			for _, a := range got {
				found = found || a == want
			}
			if !found {
				return false
			}
		}
		return true
	})
	converged := time.Since(end)
	runtime.GC()
	r.mu.Lock()
	t.Logf("%d changes in %v (%.0f/s) over %d endpoints: event to set %s; converged %v after the last write; resident %d MiB before, %d after; goroutines %d, %d",
		turn.Load(), length, float64(turn.Load())/length.Seconds(), services*endpoints, percentiles(r.set), converged.Round(time.Millisecond), before, rss(t), goroutines, runtime.NumGoroutine())
	r.mu.Unlock()
	if g := r.Generation(); g != generation {
		t.Errorf("generation %d, was %d: endpoint changes rebuild the table", g, generation)
	}
}
