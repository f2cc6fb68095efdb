package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/test/e2e/load"
)

// patience bounds every wait: it tells a failure from a hang, and is never what a test measures.
const patience = 60 * time.Second

// A rig is an engine in this process, wired to its metrics as cmd/podlane wires it, and a listener on loopback.
type rig struct {
	t       testing.TB
	engine  *proxy.Engine
	address string
	metrics *observe.Metrics
	events  events
	closed  chan struct{} // after the engine has ended
}

// events counts what the pools tell of.
type events struct {
	connects, reuses, stales, ejections, restores atomic.Int64
	failures                                      [upstream.Limited + 1]atomic.Int64

	// reused, where it is set before the first request, is told of each reuse too.
	reused func(*upstream.Endpoint)
}

// newRig starts an engine, and holds the test to giving back every goroutine and descriptor.
func newRig(t testing.TB, o proxy.Options) *rig {
	t.Helper()
	checkLeaks(t)
	m, err := observe.NewMetrics(observe.MetricsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, metrics: m, closed: make(chan struct{})}
	o.Metrics = m
	o.Upstream.Observer = r.events.observer(m)
	o.Panicked = func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }
	r.engine = proxy.New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.engine.Serve(&proxy.Listener{Listener: l}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.engine.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		close(r.closed)
	})
	return r
}

func (e *events) observer(m *observe.Metrics) upstream.Observer {
	return upstream.Observer{
		OnConnect: func(_ *upstream.Endpoint, _ time.Duration, err error) {
			why := upstream.KindOf(err)
			if why == upstream.NoFailure {
				e.connects.Add(1)
				m.UpstreamConnects.Inc()
				return
			}
			e.failures[why].Add(1)
			m.ConnectFailed(why.String()).Inc()
		},
		OnReuse: func(to *upstream.Endpoint) {
			e.reuses.Add(1)
			m.UpstreamReuses.Inc()
			if e.reused != nil {
				e.reused(to)
			}
		},
		OnStale: func(*upstream.Endpoint) { e.stales.Add(1) },
		OnEject: func(*upstream.Endpoint, upstream.Failure) {
			e.ejections.Add(1)
			m.UpstreamEjections.Inc()
		},
		OnRestore: func(*upstream.Endpoint) { e.restores.Add(1) },
	}
}

// unconnected is how many connects have failed.
func (e *events) unconnected() (n int) {
	for i := range e.failures {
		n += int(e.failures[i].Load())
	}
	return n
}

// A service is a Service and the one host that leads to it. Where external is set, it is the name that an ExternalName Service follows.
type service struct{ namespace, name, host, external string }

func (s service) port() router.ServicePort {
	return router.ServicePort{Namespace: s.namespace, Name: s.name}
}

// web is the Service of tests that need only one.
func web() service { return named("default", "web", "web.test") }

func named(namespace, name, host string) service {
	return service{namespace: namespace, name: name, host: host}
}

// table makes a Table of new Routes.
func table(services ...service) *router.Table {
	var routes []*router.Route
	for _, s := range services {
		routes = append(routes, &router.Route{
			ID:       router.RouteID{Namespace: s.namespace, Ingress: s.name, Host: s.host, Path: "/"},
			Backends: []router.Backend{{Service: s.port(), Weight: 1, ExternalName: s.external, ExternalPort: podPort}},
		})
	}
	return router.NewTable(routes, nil)
}

// publish makes routes to services live. Pools that are new are empty until assign.
func (r *rig) publish(services ...service) {
	t := table(services...)
	r.engine.Prepare(t)
	r.engine.Publish(t)
}

// assign says which addresses a service has, as an EndpointSlice does.
func (r *rig) assign(s service, addresses ...router.Address) {
	r.engine.SetAddresses(s.port().Service(), map[string][]router.Address{"": addresses})
}

// serve is publish and assign for the one service web.
func (r *rig) serve(addresses ...router.Address) {
	r.publish(web())
	r.assign(web(), addresses...)
}

// ready is the address of a Pod that is ready.
func ready(at netip.AddrPort) router.Address {
	return router.Address{AddrPort: at, Pod: "pod-" + at.Addr().String(), UID: "uid-" + at.String(), Ready: true, Serving: true}
}

// metric is the sum of a counter's or gauge's series that have all of the labels, given as name, value, name, value.
func (r *rig) metric(name string, labels ...string) int {
	r.t.Helper()
	families, err := r.metrics.Gatherer().Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if has(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return int(sum)
}

func has(m *dto.Metric, labels []string) bool {
	for pair := range slices.Chunk(labels, 2) {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == pair[0] && l.GetValue() == pair[1] }) {
			return false
		}
	}
	return true
}

// rejected is how many requests the proxy answered by itself, or cut short, for a reason. A request is counted a moment after its
// client has the answer: wait for what is expected.
func (r *rig) rejected(reason string) int {
	return r.metric("podlane_requests_rejected_total", "reason", reason)
}

// wantRejected waits until exactly n requests were rejected for a reason, and fails at more.
func (r *rig) wantRejected(reason string, n int) {
	r.t.Helper()
	await(r.t, fmt.Sprintf("%d requests counted as %s", n, reason), func() bool { return r.rejected(reason) >= n })
	if got := r.rejected(reason); got != n {
		r.t.Errorf("%d requests counted as %s, want %d", got, reason, n)
	}
}

// endpoints returns the state of every endpoint of a service by address.
func (r *rig) endpoints(s service) map[netip.AddrPort]upstream.EndpointStatus {
	all := map[netip.AddrPort]upstream.EndpointStatus{}
	for _, e := range r.pool(s).Endpoints {
		all[e.AddrPort] = e
	}
	return all
}

// pool returns the state of a service's Pool, which is empty where there is none.
func (r *rig) pool(s service) upstream.PoolStatus {
	for _, p := range r.engine.Endpoints() {
		if p.ServicePort == s.port() {
			return p
		}
	}
	return upstream.PoolStatus{}
}

// ejected counts the endpoints of a service that are out.
func (r *rig) ejected(s service) int {
	n := 0
	for _, e := range r.endpoints(s) {
		if e.State == upstream.StateEjected {
			n++
		}
	}
	return n
}

// quiet waits until no request is in flight: a client has its answer a moment before the Pod's connection is back in the pool.
func (r *rig) quiet() {
	r.t.Helper()
	await(r.t, "no request is in flight", func() bool { return r.engine.Requests() == 0 })
}

// await waits for what comes soon.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	pause := 100 * time.Microsecond
	for end := time.Now().Add(patience); !done(); time.Sleep(pause) {
		if time.Now().After(end) {
			t.Fatalf("does not come true: %s", what)
		}
		pause = min(2*pause, 5*time.Millisecond)
	}
}

// asFast is a load.Options.Rate that no client can keep up with: the load is as fast as the answers come.
const asFast = 1_000_000

// begin starts a load of whole exchanges with the oracle of test/e2e/load: every id, every byte both ways.
func (r *rig) begin(o load.Options) *load.Load {
	o.Address = load.Fixed(r.address)
	if o.Host == "" {
		o.Host = web().host
	}
	if o.Rate == 0 {
		o.Rate = asFast
	}
	if o.Name == "" {
		o.Name = r.t.Name()
	}
	l := load.Start(o)
	r.t.Cleanup(func() { l.Stop() }) // where the test has ended early
	return l
}

// drive sends n requests at least, and returns what became of them.
func (r *rig) drive(n int, o load.Options) *load.Result {
	r.t.Helper()
	l := r.begin(o)
	reach(r.t, l, n)
	return l.Stop()
}

// reach waits until a load has sent n requests, for as long as it gets on.
func reach(t testing.TB, l *load.Load, n int) {
	t.Helper()
	for sent := l.Sent(); sent < n; sent = l.Sent() {
		await(t, "requests go on", func() bool { return l.Sent() > sent })
	}
}

// noneFailed is the outcome of most faults.
func noneFailed(t testing.TB, results ...*load.Result) (sent int) {
	t.Helper()
	for _, r := range results {
		if sent += r.Sent; r.Failed != 0 {
			t.Errorf("%s", r)
		}
	}
	return sent
}

// An answer is what one request got. err is how its body ended, nil being whole.
type answer struct {
	status int
	header http.Header
	body   []byte
	close  bool
	err    error
	took   time.Duration
}

// whole reports whether the answer is one that a client takes for complete.
func (a answer) whole() bool { return a.status != 0 && a.err == nil }

func (a answer) String() string {
	return fmt.Sprintf("%d, %d bytes %.60q, %v after %s", a.status, len(a.body), a.body, a.err, a.took.Round(time.Microsecond))
}

// A caller is one connection to the proxy, of one goroutine. It repeats nothing.
type caller struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func (r *rig) dial() *caller {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	return &caller{r.t, c, bufio.NewReader(c)}
}

// ask sends one request on a connection of its own.
func (r *rig) ask(method, host, body string) answer {
	r.t.Helper()
	c := r.dial()
	defer c.conn.Close()
	return c.ask(method, host, body)
}

// ask sends one request and reads its answer.
func (c *caller) ask(method, host, body string) answer {
	var q bytes.Buffer
	fmt.Fprintf(&q, "%s /check?id=%s HTTP/1.1\r\nHost: %s\r\n", method, body, host)
	if method == http.MethodPost || method == http.MethodPut {
		fmt.Fprintf(&q, "Content-Length: %d\r\n\r\n%s", len(body), body)
	} else {
		q.WriteString("\r\n")
	}
	return c.send(method, q.Bytes())
}

// send sends a request as it is and reads its answer.
func (c *caller) send(method string, request []byte) (a answer) {
	began := time.Now()
	defer func() { a.took = time.Since(began) }()
	_ = c.conn.SetDeadline(began.Add(patience))
	if _, a.err = c.conn.Write(request); a.err != nil {
		return a
	}
	res, err := http.ReadResponse(c.in, &http.Request{Method: method})
	for err == nil && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		res, err = http.ReadResponse(c.in, &http.Request{Method: method})
	}
	if err != nil {
		a.err = err
		return a
	}
	a.status, a.header, a.close = res.StatusCode, res.Header, res.Close
	a.body, a.err = io.ReadAll(res.Body)
	return a
}
