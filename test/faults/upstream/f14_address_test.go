package upstream_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/test/e2e/load"
)

// A tenant is a namespace with a Service of its own, a Pod that stays, and a Pod at each address that is handed around.
type tenant struct {
	service
	staying *plain
	lodgers map[netip.AddrPort]*plain
	// holds are the addresses that are the tenant's now, each with the UID of the Pod that has it.
	holds map[netip.AddrPort]string
}

func newTenant(t testing.TB, name string, staying int, shared []int) *tenant {
	t.Helper()
	n := &tenant{
		service: named(name, "web", name+".test"), lodgers: map[netip.AddrPort]*plain{}, holds: map[netip.AddrPort]string{},
	}
	n.staying = newPlain(t, name+"/staying", n.host, staying)
	n.staying.listen(t)
	for _, s := range shared {
		p := newPlain(t, fmt.Sprintf("%s/lodger-%d", name, s), n.host, s)
		n.lodgers[p.at] = p
	}
	return n
}

// addresses are the tenant's EndpointSlice.
func (n *tenant) addresses() []router.Address {
	all := []router.Address{n.staying.address("uid-staying")}
	for at, uid := range n.holds {
		all = append(all, n.lodgers[at].address(uid))
	}
	return all
}

// pods are all of the tenant's.
func (n *tenant) pods() []*plain {
	all := []*plain{n.staying}
	for _, p := range n.lodgers {
		all = append(all, p)
	}
	return all
}

// hand gives an address of one tenant to another, at once: the endpoint goes, its Pod stops listening, the other's Pod listens, and is an
// endpoint. What the old Pod has accepted it still answers, as a Pod that shuts down does.
func (r *rig) hand(at netip.AddrPort, from, to *tenant, uid string) {
	r.t.Helper()
	delete(from.holds, at)
	r.assign(from.service, from.addresses()...)
	if e := r.endpoints(from.service)[at]; e.Idle != 0 {
		r.t.Errorf("%d idle connections to an endpoint that has left", e.Idle)
	}
	from.lodgers[at].refuse(r.t)
	to.lodgers[at].listen(r.t)
	to.holds[at] = uid
	r.assign(to.service, to.addresses()...)
}

// Addresses are handed from one tenant's Pods to another's and back, thousands of times, under load of both: every answer comes from
// a Pod of the tenant whose host was asked, and none is missing.
func TestF14AddressHandedOver(t *testing.T) {
	r := newRig(t, proxy.Options{MaxRequests: 1 << 30}) // hurried clients keep their connection for ever
	shared := []int{100, 101, 102}
	a, b := newTenant(t, "red", 110, shared), newTenant(t, "blue", 111, shared)
	uids := 0
	for _, s := range shared {
		a.lodgers[podAddress(s)].listen(t)
		a.holds[podAddress(s)] = fmt.Sprint("uid-", uids)
		uids++
	}
	r.publish(a.service, b.service)
	r.assign(a.service, a.addresses()...)
	r.assign(b.service, b.addresses()...)
	traffic := r.visit(a, b)
	requests, moves, publishes := scale(100_000, 1_000_000), 0, 0
	began := time.Now()
	for done := 0; done < requests; {
		at := podAddress(shared[moves%len(shared)])
		from, to := a, b
		if _, ok := from.holds[at]; !ok {
			from, to = b, a
		}
		uids++
		r.hand(at, from, to, fmt.Sprint("uid-", uids))
		if moves++; moves%10 == 0 {
			r.publish(a.service, b.service)
			publishes++
		}
		// Some requests for each move, so that the next one finds connections in the pool and requests in flight.
		next := done + 30
		await(t, "requests go on", func() bool { done = traffic.sent(); return done >= next || t.Failed() })
		if t.Failed() {
			break
		}
	}
	took := time.Since(began)
	total, lodged := traffic.end()
	for _, p := range append(a.pods(), b.pods()...) {
		if n := p.foreign.Load(); n != 0 {
			t.Errorf("%s got %d requests of the other tenant", p.name, n)
		}
	}
	if moves < 1000 || lodged < total/5 {
		t.Errorf("%d moves, %d of %d answers came from addresses that move: too few", moves, lodged, total)
	}
	t.Logf("F14: %d requests of two tenants, %d of them to addresses that were handed over %d times (%d tables published): 0 wrong tenant, 0 failed, %.0f requests/s",
		total, lodged, moves, publishes, float64(total)/took.Seconds())
}

// visitors are the clients of two tenants: hurried ones, and some that upload and check every byte.
type visitors struct {
	t       testing.TB
	hurried []*hurried
	stop    atomic.Bool
	tasks   sync.WaitGroup
	uploads map[*load.Load]*tenant
}

// visit starts clients of each tenant.
func (r *rig) visit(tenants ...*tenant) *visitors {
	v := &visitors{t: r.t, uploads: map[*load.Load]*tenant{}}
	for _, n := range tenants {
		for i := range 5 {
			h := r.hurry(n.host, n.namespace, fmt.Sprintf("%s-%d", n.namespace, i))
			v.hurried = append(v.hurried, h)
			v.tasks.Go(func() {
				if err := h.run(&v.stop); err != nil {
					v.t.Errorf("on %s: %v", n.host, err)
				}
			})
		}
		v.uploads[r.begin(load.Options{
			Name: n.namespace + "-post", Host: n.host, Method: http.MethodPost, Upload: 300, KeepAlive: true, Clients: 3, Rate: 300,
		})] = n
	}
	return v
}

// sent is how many requests were answered so far.
func (v *visitors) sent() (n int) {
	for _, h := range v.hurried {
		n += int(h.sent.Load())
	}
	for l := range v.uploads {
		n += l.Sent()
	}
	return n
}

// end stops the clients. It returns how many answers they got, and how many of them from addresses that move.
func (v *visitors) end() (total, lodged int) {
	v.t.Helper()
	v.stop.Store(true)
	v.tasks.Wait()
	for _, h := range v.hurried {
		total, lodged = total+int(h.sent.Load()), lodged+int(h.lodged)
	}
	for l, n := range v.uploads {
		result := l.Stop()
		total += noneFailed(v.t, result)
		for name, count := range result.Pods {
			if !strings.HasPrefix(name, n.namespace+"/") {
				v.t.Errorf("%d answers on %s came from %s", count, n.host, name)
			}
			if strings.Contains(name, "lodger") {
				lodged += count
			}
		}
	}
	return total, lodged
}

// A request in flight keeps its route and its Pod, although the route is gone and its Pod's address is another tenant's.
func TestF14InFlightKeepsItsRoute(t *testing.T) {
	r := newRig(t, proxy.Options{})
	a, b := newTenant(t, "red", 110, []int{100}), newTenant(t, "blue", 111, []int{100})
	at := podAddress(100)
	held, release := make(chan struct{}), make(chan struct{})
	a.lodgers[at].hold = func(id string) {
		if id == "held" {
			close(held)
			<-release
		}
	}
	a.lodgers[at].listen(t)
	a.holds[at] = "uid-1"
	r.publish(a.service, b.service)
	r.assign(a.service, a.lodgers[at].address("uid-1"))
	r.assign(b.service, b.addresses()...)
	result := make(chan answer, 1)
	go func() { result <- r.ask(http.MethodPost, a.host, "held") }()
	<-held

	r.publish(b.service)
	r.hand(at, a, b, "uid-2")
	if e := r.endpoints(b.service)[at]; e.State != upstream.StateReady || e.InFlight != 0 || e.UID != "uid-2" {
		t.Errorf("the new endpoint: %+v", e)
	}
	if got := r.ask(http.MethodGet, a.host, "late"); got.status != http.StatusNotFound {
		t.Errorf("a request after the route: %s, want 404", got)
	}
	for i := range 50 {
		if got := r.ask(http.MethodGet, b.host, fmt.Sprint(i)); got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("X-Pod"), "blue/") {
			t.Fatalf("the other tenant's request %d: %s", i, got)
		}
	}
	close(release)
	if got := <-result; got.status != http.StatusOK || got.header.Get("X-Pod") != a.lodgers[at].name || got.header.Get("X-Received-Sha256") != digest([]byte("held")) {
		t.Errorf("the request in flight: %s %v", got, got.header)
	}
	r.quiet()
	if b.lodgers[at].requests.Load() == 0 {
		t.Error("the address's new Pod got no request")
	}
	t.Log("F14: a request in flight got its answer from its Pod, after its route was gone and its Pod's address had been handed over")
}

// A connect that is under way when its address is handed over ends at once, and the next attempt goes to an endpoint that the Pool has
// now.
func TestF14NewAttemptAfterConnect(t *testing.T) {
	r := newRig(t, proxy.Options{Upstream: upstream.Options{ConnectTimeout: patience / 2}})
	a, b := newTenant(t, "red", 110, []int{100}), newTenant(t, "blue", 111, []int{100})
	at := podAddress(100)
	f := newFirewall(t)
	f.drop(podMatch(at).only())
	a.lodgers[at].listen(t)
	r.publish(a.service, b.service)
	r.assign(a.service, a.lodgers[at].address("uid-1"))
	r.assign(b.service, b.addresses()...)
	result := make(chan answer, 1)
	go func() { result <- r.ask(http.MethodPost, a.host, "waits") }()
	await(t, "a SYN is swallowed", func() bool { return f.packets()[0] > 0 })

	r.assign(a.service, a.staying.address("uid-staying"))
	a.lodgers[at].refuse(t)
	b.lodgers[at].listen(t)
	r.assign(b.service, b.lodgers[at].address("uid-2"))
	got := <-result
	f.clear()
	if ended, waited := r.events.failures[upstream.Canceled].Load(), r.events.failures[upstream.Timeout].Load(); ended != 1 || waited != 0 {
		t.Errorf("%d connects were ended early and %d waited to their end, want 1 and 0", ended, waited)
	}
	if got.status != http.StatusOK || got.header.Get("X-Pod") != a.staying.name {
		t.Errorf("%s %v, want an answer of %s", got, got.header, a.staying.name)
	}
	if n := b.lodgers[at].requests.Load() + a.lodgers[at].requests.Load(); n != 0 {
		t.Errorf("the address that left got %d requests", n)
	}
	t.Logf("F14: a connect under way ended when its address was handed over; the next endpoint of the Pool answered %s after the request", got.took.Round(time.Millisecond))
}

// A pooled connection ends when its address has been handed over and the table has another route for the host: the next attempt goes to
// an endpoint that the Pool of the request's own route has now.
func TestF14NewAttemptAfterReset(t *testing.T) {
	r := newRig(t, proxy.Options{})
	a, b := newTenant(t, "red", 110, nil), newTenant(t, "blue", 111, nil)
	took, end := make(chan struct{}), make(chan struct{})
	leaving := newHostile(t, 100, func(_ int, c *net.TCPConn, in *bufio.Reader) {
		id, _, body, err := request(in)
		if err != nil || respond(c, "red/leaving", id, body) != nil {
			return
		}
		if _, _, _, err := request(in); err == nil {
			close(took)
			<-end
		}
	})
	r.publish(a.service, b.service)
	r.assign(a.service, ready(leaving.at))
	r.assign(b.service, b.addresses()...)
	if got := r.ask(http.MethodGet, a.host, "first"); got.status != http.StatusOK {
		t.Fatal(got)
	}
	r.quiet()
	result := make(chan answer, 1)
	go func() { result <- r.ask(http.MethodGet, a.host, "second") }()
	<-took

	// The host is now the other tenant's.
	other := b.service
	other.host = a.host
	r.publish(other)
	r.assign(a.service, a.staying.address("uid-staying"))
	close(end)
	if got := <-result; got.status != http.StatusOK || got.header.Get("X-Pod") != a.staying.name {
		t.Errorf("%s %v, want an answer of %s", got, got.header, a.staying.name)
	}
	if n, _ := leaving.connections(); n != 1 {
		t.Errorf("%d connections to the endpoint that left, want 1", n)
	}
	if got := r.ask(http.MethodGet, a.host, "third"); got.header.Get("X-Pod") != b.staying.name {
		t.Errorf("a new request: %s %v, want an answer of %s", got, got.header, b.staying.name)
	}
	t.Log("F14: an attempt that ended went on in its own Pool, at an endpoint that joined after it had begun, and not by the new table")
}
