// Package proxy is the engine: it publishes tables, accepts connections, and takes each request through validation, matching,
// filters and balancing to a Pod, and the answer back.
//
// One goroutine serves one client connection on both of its legs; a second one exists only while a request body that has not
// arrived yet streams to the Pod. A request loads the live table once and keeps its route. The engine knows nothing of Kubernetes: it is
// fed router.Tables and router.Addresses through plain methods.
package proxy

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/http1"
	"podlane.dev/podlane/proxy/http2"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/socket"
	"podlane.dev/podlane/proxy/subrequest"
	"podlane.dev/podlane/proxy/tracing"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// Timeouts bound every wait. Zero means the default beside each; negative means no limit. They are kept with a precision of
// about 50 ms.
type Timeouts struct {
	// FirstByte (10 s) of a new connection, and Header (10 s) from a request's first byte to the end of its head.
	FirstByte, Header time.Duration
	// Body (60 s) without a byte of a request body.
	Body time.Duration
	// Idle (75 s) between requests. It shrinks to 5 s above 80% of MaxConnections.
	Idle time.Duration
	// Park (1 s) without a request, after which an idle connection waits without a goroutine of its own. Nothing of it is seen from outside but
	// memory.
	Park time.Duration
	// UpstreamHeader (60 s) from the end of the request to the head of the Pod's answer, and UpstreamBody (60 s) without a
	// byte of its body.
	UpstreamHeader, UpstreamBody time.Duration
	// Departure (1 s) without a byte in the middle of a Pod's answer, after which a reset by the client is noticed, and where the answer is an event
	// stream the end of its sending side too, unless AllowHalfClose is set. Without a limit, either is noticed with the Pod's next byte only.
	Departure time.Duration
	// Stall (60 s) in which a peer takes no byte.
	Stall time.Duration
	// Tunnel (1 h) without a byte in either direction of an upgraded connection; event streams too.
	Tunnel time.Duration
	// ProxyHeader (5 s) for the header of the PROXY protocol, and Hello (5 s) for a ClientHello where some host's TLS passes through.
	ProxyHeader, Hello time.Duration
	// Linger (30 s in all, 5 s of silence) is how long what a client still sends is discarded after an early answer.
	Linger, LingerSilence time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.FirstByte, 10 * time.Second}, {&t.Header, 10 * time.Second}, {&t.Body, time.Minute}, {&t.Idle, 75 * time.Second}, {&t.Park, time.Second},
		{&t.UpstreamHeader, time.Minute}, {&t.UpstreamBody, time.Minute}, {&t.Departure, time.Second}, {&t.Stall, time.Minute}, {&t.Tunnel, time.Hour},
		{&t.ProxyHeader, 5 * time.Second}, {&t.Hello, 5 * time.Second},
		{&t.Linger, 30 * time.Second}, {&t.LingerSilence, 5 * time.Second},
	} {
		switch {
		case *d.v == 0:
			*d.v = d.def
		case *d.v < 0:
			*d.v = 0
		}
	}
	return t
}

// Options are the engine's settings. The zero value of a field means the default beside it.
type Options struct {
	Limits   http1.Limits
	Timeouts Timeouts
	// MaxBody is the size of a request body in bytes (1 MiB) beyond which the answer is 413; negative means no limit.
	MaxBody int64
	// MaxRequests is the number of requests after which a connection is closed (10,000).
	MaxRequests int
	// MaxConnections is the number of client connections beyond which accepting pauses; 0 derives it from RLIMIT_NOFILE.
	MaxConnections int
	// MaxPerAddress is the number of connections of one client address, that of the PROXY protocol where there is one, beyond which
	// further ones are closed at once; 0 means no limit. Trusted proxies are exempt: all clients behind one share its address.
	MaxPerAddress int
	// TrustedProxies are the peers whose X-Forwarded-*, Forwarded and X-Real-IP fields are believed. Default: none.
	TrustedProxies []netip.Prefix
	// ProxyProtocol are the peers whose connections begin with a header of the PROXY protocol, version 1 or 2: they must send one, and it is
	// believed. All other connections begin without one. Default: none.
	ProxyProtocol []netip.Prefix
	// AllowHalfClose delivers the answer to a client that has closed its sending side before the Pod answered, or while the Pod was silent for
	// Timeouts.Departure in an event stream, instead of taking it for gone.
	AllowHalfClose bool
	// HTTP2 are the limits of HTTP/2 connections; those that Limits and Timeouts have too are taken from there.
	HTTP2 http2.Options
	// H2C accepts HTTP/2 on plain connections from clients that know of it beforehand (RFC 9113 section 3.3).
	H2C bool
	// Policies are the annotation families in their order of execution.
	Policies []filters.Policy
	// HTTPSPort is the port that redirects to HTTPS say where they say one (443).
	HTTPSPort uint16
	// Spool says where request bodies lie that are read before a Pod is asked, and what they may take.
	Spool bodies.SpoolerOptions
	// Upstream are the settings of pools and endpoints.
	Upstream upstream.Options
	// Subrequests are the settings of requests of the proxy's own. Addresses that ExternalName Services may not lead to are refused to them too,
	// unless they say otherwise.
	Subrequests subrequest.Options
	// Metrics and AccessLog may be nil.
	Metrics   *observe.Metrics
	AccessLog *observe.AccessLog
	// Tracing says what is traced where the table does not say; without an endpoint, nothing.
	Tracing tracing.Options
	// LogFormat is how its lines are written where the table does not say; nil is JSON.
	LogFormat *filters.LogFormat
	// Memory returns the share (0 to 1) of the process's memory limit that is in use; nil means that there is no limit. From 0.85 on
	// connections are closed after their answer, from 0.92 on new requests get 503.
	Memory func() float64
	// Pressured, where set, is told when memory passes one of these marks. It must not block.
	Pressured func(what string, share float64)
	// Panicked, where set, is told of a panic that one connection recovered from. It is called rarely and must not block.
	Panicked func(value any, stack []byte)
}

// Engine is the proxy. Its methods may be called concurrently, but for Prepare and Publish, which belong to one goroutine.
type Engine struct {
	opts     Options
	limits   http1.Limits
	timeouts Timeouts
	registry *upstream.Registry
	pods     podConns
	clock    http1.Clock
	sweeper  *sweeper
	watcher  *socket.Watcher // nil where connections do not sleep
	slept    atomic.Int64    // connections that fell asleep since the collector was run for them
	live     atomic.Pointer[live]
	gate     *gate
	memory   memory

	leaving   atomic.Bool // answers end their connections
	draining  atomic.Bool
	lingering atomic.Int64
	active    atomic.Int64 // requests in flight
	// connection is the number of the last connection.
	connection atomic.Uint64
	mu         sync.Mutex
	listeners  map[*Listener]struct{}
	serving    sync.WaitGroup
	closeOnce  sync.Once
	fallback   *chain // answers requests without a route
	runtime    filters.Runtime
	// life is the context of what the engine does beside its calls, and has no end of its own: Shutdown calls end.
	life    context.Context //nolint:containedctx // it is as long as the engine's
	end     context.CancelFunc
	tally   tally
	tracers tracers
	spooler *bodies.Spooler
	through int // live routes that pass TLS through; read and written by Publish only
}

// live is what a request loads: the table and what Publish hung from it.
type live struct {
	table *router.Table
	// generation counts the tables that this engine has published.
	generation uint64
	// settings are what the operator says about the whole proxy beyond its options.
	settings *filters.Settings
	// terms are the numbers that hold.
	terms *terms
	// tracer records requests; nil for none.
	tracer *tracing.Tracer
	// through says that the TLS of some host of the table passes through to its Pods. Without one no ClientHello is looked at.
	through bool
}

// New returns an engine that answers 404 to everything until the first Publish. Close it with Shutdown.
func New(o Options) *Engine {
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	if o.MaxRequests == 0 {
		o.MaxRequests = 10_000
	}
	gate := newGate(o.MaxConnections, o.MaxPerAddress)
	if o.Upstream.ServiceConnections == 0 {
		o.Upstream.ServiceConnections = gate.serviceLimit()
	}
	e := &Engine{
		opts:      o,
		limits:    o.Limits,
		timeouts:  o.Timeouts.withDefaults(),
		registry:  upstream.NewRegistry(o.Upstream),
		sweeper:   newSweeper(gate.full),
		gate:      gate,
		listeners: map[*Listener]struct{}{},
		tally:     newTally(o.Metrics),
		runtime:   filters.NewRuntime(o.HTTPSPort),
		spooler:   bodies.NewSpooler(o.Spool),
	}
	e.life, e.end = context.WithCancel(context.Background())
	if o.Subrequests.Refused == nil {
		o.Subrequests.Refused = o.Upstream.External.Refused
	}
	if o.Subrequests.Copied == nil {
		o.Subrequests.Copied = func(became subrequest.Outcome) { e.tally.mirrored[became].Inc() }
	}
	e.runtime.Subrequests = subrequest.New(e.life, o.Subrequests)
	e.limits.Yield = runtime.GOMAXPROCS(0) <= maxYielding
	gate.pods = e.registry.Open
	gate.idle = func() int { return int(e.sweeper.idle.Load()) }
	e.memory.used = o.Memory
	e.fallback = &chain{filters: &filters.Chain{}, metrics: e.routeMetrics(router.RouteID{}, router.Service{})}
	e.fallback.limits = e.limitsOf(&e.fallback.filters.Forwarding)
	none := e.govern(nil)
	e.live.Store(&live{table: router.NewTable(nil, nil), settings: none, terms: e.termsOf(none), tracer: e.tracerOf(none)})
	if w, err := socket.NewWatcher(); err == nil {
		e.watcher = w
		go w.Run()
	}
	var c collector
	var swept int64
	go e.sweeper.run(func() {
		if now := e.sweeper.now.Load(); now-swept >= runtimeSweep.Milliseconds() {
			swept = now
			e.runtime.Sweep(time.Now())
		}
		e.pods.sweep(e.sweeper.now.Load())
		gate.wake()
		e.measureMemory()
		c.look(e)
	})
	return e
}

// runtimeSweep is how often memory of what filters count is given back.
const runtimeSweep = 5 * time.Second

// maxYielding is the number of processors up to which http1.Limits.Yield pays.
const maxYielding = 8

// Table returns the live table.
func (e *Engine) Table() *router.Table { return e.live.Load().table }

// Settings returns what the operator says about the whole proxy in the live table. The caller must not change it.
func (e *Engine) Settings() *filters.Settings { return e.live.Load().settings }

// Generation counts the tables that were published: 0 before the first.
func (e *Engine) Generation() uint64 { return e.live.Load().generation }

// Endpoints returns the state of every pool, for debug pages.
func (e *Engine) Endpoints() []upstream.PoolStatus { return e.registry.Pools() }

// EndpointCounts returns how many endpoints of pools that the live table uses are in which state.
func (e *Engine) EndpointCounts() upstream.Counts { return e.registry.Counts() }

// SetAddresses replaces the addresses of one Service: the key of byPort is the port's name. Ports without an entry have
// none; a Service without a pool is ignored. The cost is that of the one Service.
func (e *Engine) SetAddresses(s router.Service, byPort map[string][]router.Address) {
	e.registry.SetAddresses(s, byPort)
}

// Connections is the number of open client connections, Requests that of requests in flight.
func (e *Engine) Connections() int { return e.sweeper.len() }

// Idle is the number of client connections that have no request.
func (e *Engine) Idle() int { return int(e.sweeper.idle.Load()) }

// Spool returns what request bodies take on disk.
func (e *Engine) Spool() bodies.SpoolerStats { return e.spooler.Stats() }

// Requests is the number of requests in flight.
func (e *Engine) Requests() int { return int(e.active.Load()) }

// Leave makes every further answer carry Connection: close, and HTTP/2 connections take no new streams: clients that are active go elsewhere
// by themselves. It is for the time in which others learn that this process ends: where Shutdown closes a connection that is idle, the request
// that is on its way to it at that moment is lost, and after Leave only clients that were silent since then have such connections.
func (e *Engine) Leave() {
	e.leaving.Store(true)
	e.endStreams()
}

// endStreams asks the clients of HTTP/2 connections to open no more streams on them.
func (e *Engine) endStreams() {
	e.sweeper.each(func(c *conn) {
		if h2 := c.h2.Load(); h2 != nil {
			h2.conn.Shutdown()
		}
	})
}

// Drain makes every further answer carry Connection: close, and closes connections that are idle. Listeners stay open.
func (e *Engine) Drain() {
	e.leaving.Store(true)
	e.draining.Store(true)
	e.sweeper.each(func(c *conn) { c.closeIfIdle() })
}

// Shutdown closes the listeners, drains, and waits until every connection has ended or ctx is done; then it closes what is
// left and returns ctx's error.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.Drain()
	e.closeListeners()
	err := e.waitConnections(ctx)
	e.closeOnce.Do(func() {
		e.sweeper.each(func(c *conn) { c.abort() })
		e.serving.Wait()
		close(e.sweeper.stop)
		<-e.sweeper.done
		if e.watcher != nil {
			err = errors.Join(err, e.watcher.Close())
		}
		e.registry.Close()
		e.pods.close()
		e.end()
		e.runtime.Subrequests.Close()
		err = errors.Join(err, e.tracers.close(context.WithoutCancel(ctx)))
	})
	return err
}

// closeListeners ends accepting.
func (e *Engine) closeListeners() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for l := range e.listeners {
		e.finish(l)
	}
}

// accepting reports whether a Serve has not returned: it may be about to start a connection that it has accepted.
func (e *Engine) accepting() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.listeners) > 0
}

func (e *Engine) waitConnections(ctx context.Context) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for e.sweeper.len() > 0 || e.accepting() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
			// A connection that was accepted or became idle meanwhile ends here.
			e.sweeper.each(func(c *conn) { c.closeIfIdle() })
		}
	}
	return nil
}
