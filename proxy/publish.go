package proxy

import (
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// chain is a Route compiled for traffic: everything that a request needs is resolved here, once, at Publish.
type chain struct {
	route   *router.Route
	filters *filters.Chain
	lanes   []lane
	total   int   // sum of the lanes' weights
	errors  *lane // that answers in place of the others, nil for none
	metrics *observe.RouteMetrics
	limits  routeLimits
	// resolved are closed when the names of ExternalName Services have been looked up once.
	resolved []<-chan struct{}
	retired  bool // read and written by Publish only
}

// lane is one Backend of a chain.
type lane struct {
	backend *router.Backend
	weight  int
	pool    *upstream.Pool
	view    *upstream.View
	speech  speech
	// timed says that the balancer wants to know how long answers take.
	timed bool
	// sticky keeps clients with their endpoints; nil where nothing does.
	sticky *filters.Sticky
	// sole says that the endpoint stands for others: it is worth another try.
	sole bool
	// metrics are nil where those of the chain are meant.
	metrics *observe.RouteMetrics
}

// Prepare makes the pools that t needs and returns the Services that have a new one: their addresses must be set before
// Publish, so that a new route never answers 503 for want of addresses that are known.
func (e *Engine) Prepare(t *router.Table) []router.Service {
	var fresh []router.Service
	seen := map[router.Service]bool{}
	for p := range t.Ports() {
		if _, added := e.registry.Ensure(p); added && !seen[p.Service()] {
			seen[p.Service()] = true
			fresh = append(fresh, p.Service())
		}
	}
	return fresh
}

// Publish makes t live: it compiles the routes that are new, stores one pointer, and then lets go of what no table needs any
// more. Requests in flight keep the route that they have.
func (e *Engine) Publish(t *router.Table) {
	before := e.live.Load()
	old := before.table
	late := make(chan struct{})
	names := time.AfterFunc(nameWait, func() { close(late) })
	defer names.Stop()
	for r := range t.RoutesNotIn(old) {
		if r.Passthrough.On {
			e.through++
		}
		// A route may come back after it was retired: the Builder remembers what it compiled.
		if c, ok := r.Attachment().(*chain); !ok || c.retired {
			c = e.compile(r)
			r.Attach(c)
			c.awaitNames(late)
		}
	}
	for r := range old.RoutesNotIn(t) {
		if r.Passthrough.On {
			e.through--
		}
	}
	settings := e.govern(t.Globals())
	terms := e.termsOf(settings)
	e.sweeper.change(before.terms.timeouts.Idle, terms.timeouts.Idle)
	e.registry.SetReuse(upstream.Reuse{
		IdleTimeout: settings.PodConnections.Timeout, MaxIdlePerEndpoint: settings.PodConnections.Idle,
		MaxRequests: settings.PodConnections.Requests, MaxAge: settings.PodConnections.Age,
	})
	e.live.Store(&live{table: t, generation: before.generation + 1, settings: settings, terms: terms, tracer: e.tracerOf(settings), through: e.through > 0})
	e.retire(old, t)
}

// govern returns what values say of the whole proxy, and what the options do where they say nothing.
func (e *Engine) govern(values []policy.Value) *filters.Settings {
	s := filters.Govern(e.opts.Policies, values)
	if s.LogFormat == nil {
		s.LogFormat = e.opts.LogFormat
	}
	return s
}

// nameWait is how long one Publish may wait for the first addresses of new ExternalName Services.
const nameWait = 200 * time.Millisecond

// awaitNames waits until the names of c's Backends have been looked up once, so that a new route does not begin with 503, or until
// late is closed.
func (c *chain) awaitNames(late <-chan struct{}) {
	for _, first := range c.resolved {
		select {
		case <-first:
		case <-late:
		}
	}
	c.resolved = nil
}

// compile resolves what requests on r will need.
func (e *Engine) compile(r *router.Route) *chain {
	c := &chain{route: r, filters: filters.Compile(e.opts.Policies, r, &e.runtime)}
	c.limits = e.limitsOf(&c.filters.Forwarding)
	var service router.Service
	for i := range r.Backends {
		l := e.lane(c, &r.Backends[i], c.forwarding(i))
		if l.pool != nil && !l.sole {
			l.sticky = c.stickyOf(i)
		}
		if i == 0 {
			service = l.backend.Service.Service()
		} else {
			l.metrics = e.laneMetrics(r, l.backend.Service)
		}
		c.total += l.weight
		c.lanes = append(c.lanes, l)
	}
	if r.ErrorBackend != nil && r.ErrorBackend.Unavailable == router.Available && c.filters.Forwarding.Errors != nil {
		l := e.lane(c, r.ErrorBackend, &c.filters.Forwarding)
		c.errors = &l
	}
	c.metrics = e.routeMetrics(r.ID, service)
	return c
}

// lane resolves one Backend of c, to which requests are sent as f says.
func (e *Engine) lane(c *chain, b *router.Backend, f *filters.Forwarding) lane {
	l := lane{backend: b, weight: max(b.Weight, 0), speech: speechOf(b)}
	if b.Unavailable == router.Available {
		l.pool, _ = e.registry.Ensure(b.Service)
		if b.ClusterIP.IsValid() {
			l.pool.Fix(b.ClusterIP)
			l.sole = true
		}
		spec := viewOf(b, &f.Balance)
		l.view, l.timed = l.pool.View(spec), spec.Algorithm == upstream.PeakEWMA
		c.resolved = append(c.resolved, e.registry.SetExternalName(b.Service, b.ExternalName, b.ExternalPort))
	}
	return l
}

// forwarding returns what is said about the i-th Backend: a canary says it itself.
func (c *chain) forwarding(i int) *filters.Forwarding {
	if i > 0 && c.route.Alternative != nil {
		f := filters.CanaryForwarding(c.route)
		return &f
	}
	return &c.filters.Forwarding
}

// viewOf says how a Backend balances.
func viewOf(b *router.Backend, say *filters.Balance) upstream.ViewSpec {
	switch {
	case say.HashBy != nil:
		return upstream.ViewSpec{Algorithm: upstream.Hash, Key: hashBy{say.HashBy}, Subset: say.Subset}
	case b.Affinity > 0:
		return upstream.Affinity(b.Affinity)
	case say.Algorithm == filters.RoundRobin:
		return upstream.ViewSpec{Algorithm: upstream.RoundRobin}
	case say.Algorithm == filters.EWMA:
		return upstream.ViewSpec{Algorithm: upstream.PeakEWMA}
	}
	return upstream.ViewSpec{}
}

// hashBy hashes what an expression gives. A request for which it gives nothing has a hash too, as in nginx.
type hashBy struct{ *expr.Expr }

// Hash implements upstream.Key. The value is made behind what Scratch holds, and given up at once.
func (k hashBy) Hash(x *exchange.Exchange) (uint64, bool) {
	n := len(x.Scratch)
	b := k.AppendEscaped(x.Scratch, x, expr.EscapeNone)
	x.Scratch = b[:n]
	return upstream.HashBytes(b[n:]), true
}

// retire releases the chains of routes that are in old and not in t, and the pools that no route of t uses.
func (e *Engine) retire(old, t *router.Table) {
	for r := range old.RoutesNotIn(t) {
		if c, ok := r.Attachment().(*chain); ok {
			c.release()
		}
	}
	ports := map[router.ServicePort]struct{}{}
	for p := range t.Ports() {
		ports[p] = struct{}{}
	}
	e.registry.Sweep(func(p router.ServicePort) bool {
		_, ok := ports[p]
		return ok
	})
}

func (c *chain) release() {
	c.retired = true
	c.filters.Release()
	for _, l := range c.lanes {
		if l.view != nil {
			l.view.Release()
		}
		if l.metrics != nil {
			l.metrics.Release()
		}
	}
	if c.errors != nil {
		c.errors.view.Release()
	}
	if c.metrics != nil {
		c.metrics.Release()
	}
}

func (e *Engine) routeMetrics(id router.RouteID, service router.Service) *observe.RouteMetrics {
	if e.opts.Metrics == nil {
		return nil
	}
	return e.opts.Metrics.Route(id, service)
}

// laneMetrics returns the counters of requests that go to another Backend of r than the first.
func (e *Engine) laneMetrics(r *router.Route, p router.ServicePort) *observe.RouteMetrics {
	switch {
	case e.opts.Metrics == nil:
		return nil
	case r.Alternative == nil:
		return e.opts.Metrics.Route(r.ID, p.Service())
	}
	return e.opts.Metrics.Canary(r.ID, p.Service(), p.Namespace+"-"+p.Name+"-"+p.Port)
}
