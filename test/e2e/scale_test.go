package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/e2e/load"
)

const (
	manyServices = 1000
	perService   = 10
	// churned Services have 5,000 endpoints together. Each change replaces one address; all changes of a batch are one write
	// to the API server, which with etcd, Podlane and this test on two cores does not take a thousand writes a second.
	churned         = 500
	changesPerWrite = 5
	changesPerSec   = 1000
	churnTime       = 30 * time.Second
)

// A crowd is many Services in one namespace, each with an Ingress and an EndpointSlice, written without kubectl. Nobody is at
// the addresses, but for Service 0.
type crowd struct {
	t         *testing.T
	client    kubernetes.Interface
	namespace string
	class     string

	mu     sync.Mutex
	slices []*discoveryv1.EndpointSlice
	fresh  int // addresses given so far
}

func (w *crowd) name(i int) string { return fmt.Sprintf("s%04d", i) }

// address is one that no endpoint had before.
func (w *crowd) address() string {
	w.fresh++
	return fmt.Sprintf("10.%d.%d.%d", 64+w.fresh>>16, w.fresh>>8&255, w.fresh&255)
}

// each calls do for 0..n-1, sixteen at a time, and ends the test with the first error.
func each(t *testing.T, n int, do func(ctx context.Context, i int) error) {
	t.Helper()
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(t.Context(), i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
}

func gather(t *testing.T, c *cluster.Cluster, i *installation, first string) *crowd {
	t.Helper()
	config := c.RESTConfig()
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &crowd{t: t, client: client, namespace: namespace(t, c).Name, class: i.class}
	for n := range manyServices {
		addresses := []string{first}
		if n > 0 {
			addresses = nil
			for range perService {
				addresses = append(addresses, w.address())
			}
		}
		w.slices = append(w.slices, w.slice(n, addresses))
	}
	each(t, manyServices, w.create)
	return w
}

func (w *crowd) slice(n int, addresses []string) *discoveryv1.EndpointSlice {
	port, protocol, name := int32(8000), corev1.ProtocolTCP, ""
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: w.name(n), Labels: map[string]string{discoveryv1.LabelServiceName: w.name(n)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func (w *crowd) create(ctx context.Context, n int) error {
	name := w.name(n)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	i := ingressObject(w.class, name, name+".crowd.test", name)
	_, err := w.client.CoreV1().Services(w.namespace).Create(ctx, service, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if w.slices[n], err = w.client.DiscoveryV1().EndpointSlices(w.namespace).Create(ctx, w.slices[n], metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = w.client.NetworkingV1().Ingresses(w.namespace).Create(ctx, i, metav1.CreateOptions{})
	return err
}

// ingressObject is what ingressOf writes.
func ingressObject(class, name, host, service string) *networkingv1.Ingress {
	prefix := networkingv1.PathTypePrefix
	backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}}}
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: networkingv1.IngressSpec{IngressClassName: &class, Rules: []networkingv1.IngressRule{{
			Host: host,
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: backend}},
			}},
		}}},
	}
}

// expected are the addresses of every Service as they were written last.
func (w *crowd) expected() map[string][]string {
	out := map[string][]string{}
	for n, s := range w.slices {
		for _, e := range s.Endpoints {
			out[w.name(n)] = append(out[w.name(n)], e.Addresses[0]+":8000")
		}
		slices.Sort(out[w.name(n)])
	}
	return out
}

// agrees says where podlane's addresses differ from what was written.
func (w *crowd) agrees(ctx context.Context, l *lane) error {
	all, err := l.pools(ctx)
	if err != nil {
		return err
	}
	have := map[string][]string{}
	for _, p := range all {
		if p.Namespace != w.namespace {
			continue
		}
		for _, e := range p.Endpoints {
			if e.State != "draining" {
				have[p.Service] = append(have[p.Service], e.Address)
			}
		}
		slices.Sort(have[p.Service])
	}
	want := w.expected()
	differ := 0
	for name := range want {
		if !slices.Equal(have[name], want[name]) {
			differ++
		}
	}
	if differ > 0 || len(have) != len(want) {
		return fmt.Errorf("%d of %d Services differ, %d are there", differ, len(want), len(have))
	}
	return nil
}

// 1,000 Ingresses and 10,000 endpoints: how long from the start of the process to /readyz 200 (bar 2 s), also after kill -9
// (F29), and that ready means complete. Then F15 on the same cluster.
func TestManyIngresses(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	i := install(t, c)
	const first = "10.239.1.1"
	addAddress(t, first)
	c.Start(t, cluster.Command("backend", "--name=real", "--listen="+first+":8000", "--shutdown=abrupt"))
	began := time.Now()
	w := gather(t, c, i, first)
	t.Logf("%d Services, Ingresses and EndpointSlices written in %s", manyServices, time.Since(began).Round(time.Millisecond))

	var l *lane
	var times []time.Duration
	for round := range 5 {
		if l != nil {
			l.Kill()
		}
		var took, first time.Duration
		l, took, first = w.coldStart(t, i)
		times = append(times, took)
		t.Logf("start %d: /readyz 200 after %s, first request answered after %s", round, took.Round(time.Millisecond), first.Round(time.Millisecond))
		if err := w.agrees(t.Context(), l); err != nil {
			t.Errorf("ready, but not complete: %v", err)
		}
		var table struct{ Routes []struct{ Host string } }
		if err := l.debug(t.Context(), "routes", &table); err != nil || len(table.Routes) != manyServices {
			t.Fatalf("ready with %d routes, %v", len(table.Routes), err)
		}
	}
	slices.Sort(times)
	t.Logf("process start to /readyz 200 with %d Ingresses and %d endpoints: median %s, max %s (bar 2 s)", manyServices,
		(manyServices-1)*perService+1, times[len(times)/2].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
	if times[len(times)/2] > 20*time.Second {
		t.Errorf("too slow by far")
	}
	t.Run("F15 churn", func(t *testing.T) { churn(t, w, l) })
}

// coldStart starts podlane and returns when it was ready, and when it first answered a request.
func (w *crowd) coldStart(t *testing.T, i *installation) (l *lane, ready, first time.Duration) {
	t.Helper()
	host := w.name(0) + ".crowd.test"
	began := time.Now()
	l = i.launch(t)
	for ready == 0 || first == 0 {
		if status, _, err := fetchHost(t.Context(), l, host); err == nil && first == 0 {
			first = time.Since(began)
			if status != http.StatusOK {
				t.Errorf("the first request got %d", status)
			}
		} else if err != nil && ready > 0 {
			t.Fatalf("ready, but a request gets %v", err)
		}
		if status, _, err := fetch(t.Context(), l.url(9090, "/readyz")); err == nil && status == http.StatusOK && ready == 0 {
			ready = time.Since(began)
		}
		if l.Ended() || time.Since(began) > time.Minute {
			t.Fatal(l.Tail(40))
		}
		time.Sleep(2 * time.Millisecond)
	}
	return l, ready, first
}

// state is what must not grow.
type state struct {
	memory     int
	goroutines float64
	fds        float64
}

func (l *lane) state(t *testing.T) state {
	t.Helper()
	memory, err := l.memory()
	if err != nil {
		t.Fatal(err)
	}
	goroutines, err := l.metric(t.Context(), "go_goroutines")
	if err != nil {
		t.Fatal(err)
	}
	fds, err := l.metric(t.Context(), "process_open_fds")
	if err != nil {
		t.Fatal(err)
	}
	return state{memory, goroutines, fds}
}

func (s state) String() string {
	return fmt.Sprintf("RSS %.1f MiB, %.0f goroutines, %.0f descriptors", float64(s.memory)/(1<<20), s.goroutines, s.fds)
}

// churn is F15: changesPerSec endpoint changes a second over 5,000 endpoints, with requests on a route beside them.
func churn(t *testing.T, w *crowd, l *lane) {
	t.Helper()
	requests := func(name string) *load.Load {
		return load.Start(load.Options{Name: name, Address: load.Fixed(l.address(80)), Host: w.name(0) + ".crowd.test", Rate: 200, KeepAlive: true, Download: 1000})
	}
	quiet := requests("quiet")
	time.Sleep(3 * time.Second)
	before := quiet.Stop()

	w.churnFor(t, 5*time.Second) // the heap finds its size
	for range 5 {
		if err := w.agrees(t.Context(), l); err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
	start := l.state(t)
	busy := requests("busy")
	changes, took, writes := 0, time.Duration(0), 0
	for range 6 {
		n, d, k := w.churnFor(t, churnTime/6)
		changes, took, writes = changes+n, took+d, writes+k
		t.Logf("%s of churn: %s", took.Round(time.Second), l.state(t))
	}
	last := time.Now()
	var err error
	for err = w.agrees(t.Context(), l); err != nil && time.Since(last) < 10*time.Second; err = w.agrees(t.Context(), l) {
		time.Sleep(5 * time.Millisecond)
	}
	converged := time.Since(last)
	during := busy.Stop()
	end := l.state(t)
	t.Logf("%d endpoint changes over %d endpoints in %s (%.0f/s) by %d writes (%.0f/s, %d changes each)", changes, churned*perService,
		took.Round(time.Millisecond), float64(changes)/took.Seconds(), writes, float64(writes)/took.Seconds(), changesPerWrite)
	t.Logf("converged within %s of the last write, reading /debug/endpoints included (bar 1 s)", converged.Round(time.Millisecond))
	t.Logf("before: %s; after: %s; RSS %+.1f%% (bar 10%%)", start, end, 100*float64(end.memory-start.memory)/float64(start.memory))
	t.Logf("requests: quiet %s", before)
	t.Logf("requests: churn %s", during)
	if err != nil {
		t.Errorf("not converged after %s: %v", converged, err)
	}
	if converged > 5*time.Second {
		t.Errorf("converged only after %s", converged)
	}
	if rate := float64(changes) / took.Seconds(); rate < changesPerSec*0.9 {
		t.Logf("this machine made only %.0f changes a second: see changesPerWrite", rate)
	}
	if end.memory > start.memory*11/10+16<<20 {
		t.Errorf("RSS grew from %d to %d bytes", start.memory, end.memory)
	}
	if end.goroutines > start.goroutines+50 || end.fds > start.fds+50 {
		t.Errorf("goroutines or descriptors are left: %s, were %s", end, start)
	}
	if before.Failed+during.Failed > 0 {
		t.Error("requests have failed")
	}
}

// churnFor replaces addresses at the pace of changesPerSec, and returns when the last write was accepted.
func (w *crowd) churnFor(t *testing.T, d time.Duration) (changes int, took time.Duration, writes int) {
	t.Helper()
	const workers = 20
	period := time.Second * workers * changesPerWrite / changesPerSec
	began := time.Now()
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			next := began.Add(period * time.Duration(worker) / workers)
			for n := worker; next.Before(began.Add(d)) && failed.Load() == nil; n += workers {
				time.Sleep(time.Until(next))
				next = next.Add(period)
				if err := w.change(t.Context(), 1+n%churned); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil && !errors.Is(*err, context.Canceled) {
		t.Fatal(*err)
	}
	return int(done.Load()) * changesPerWrite, time.Since(began), int(done.Load())
}

// change replaces some addresses of one Service. A Service is changed by one goroutine at a time, because workers divide churned.
func (w *crowd) change(ctx context.Context, n int) error {
	w.mu.Lock()
	s := w.slices[n].DeepCopy()
	for range changesPerWrite {
		s.Endpoints = append(s.Endpoints[1:], discoveryv1.Endpoint{Addresses: []string{w.address()}})
	}
	w.mu.Unlock()
	s, err := w.client.DiscoveryV1().EndpointSlices(w.namespace).Update(ctx, s, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.slices[n] = s
	w.mu.Unlock()
	return nil
}
