package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/http2"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// front is what both commands run: the engine with its certificates, logs, metrics, sockets and admin pages. Tables and
// addresses come from elsewhere: the front is a controllers.DataPlane.
type front struct {
	options frontOptions
	log     logr.Logger
	engine  *proxy.Engine
	certs   *certs.Store
	access  *observe.AccessLog
	metrics *observe.Metrics
	tls     *tls.Config
	// terms are what the live table says of TLS, and saidOfTLS is its text, which Publish alone reads and writes.
	terms     atomic.Pointer[server.Terms]
	saidOfTLS string

	draining atomic.Bool
	traffic  atomic.Bool // the listeners are open
	// failed receives the first error of a server that should have gone on.
	failed  chan error
	serving sync.WaitGroup
	admin   []*http.Server
	// endPlots ends what draws the dashboard's plots, nil without one.
	endPlots context.CancelFunc

	http, https, adminSockets, metricsSockets []net.Listener
}

// newFront returns a front that listens nowhere yet. The caller ends it with close.
func newFront(o frontOptions, log logr.Logger) (*front, error) {
	f := &front{options: o, log: log, failed: make(chan error, 1)}
	var err error
	if f.access, err = observe.OpenAccessLog(observe.AccessLogOptions{Destination: o.log.Access, DropQuery: o.log.DropQuery}); err != nil {
		return nil, fmt.Errorf("--access-log: %w", err)
	}
	if err := f.makeTLS(); err != nil {
		return nil, errors.Join(err, f.closeLog())
	}
	if err := f.makeMetrics(); err != nil {
		return nil, errors.Join(err, f.closeLog())
	}
	options := engineOptions(o.http, o.upstream)
	options.HTTPSPort = o.listeners.HTTPSPort()
	options.HTTP2 = http2.Options{MaxStreams: o.http2.Streams, ExtendedConnect: o.http2.WebSocket}
	options.H2C = o.http2.Plain
	options.Timeouts.Hello = o.tls.HelloTimeout
	options.Upstream.Observer, options.Upstream.External = upstreamObserver(f.metrics), o.external
	options.LogFormat = o.log.Line()
	options.Metrics, options.AccessLog, options.Panicked = f.metrics, f.access, panicLogger(log)
	options.Memory, options.Pressured = o.memory, func(what string, share float64) {
		log.Info("memory in use passed a mark", "now", what, "percent of the limit", int(share*100))
	}
	if options.Tracing, err = tracingOptions(o.tracing, log); err != nil {
		return nil, errors.Join(err, f.closeLog())
	}
	if err := bodies.NewSpooler(options.Spool).Check(); err != nil {
		// Few requests need it: those answer 503 until the folder is there.
		log.Info("large request bodies of routes with proxy-request-buffering: on will be refused", "flag", "--spool-dir", "cause", err.Error())
	}
	f.engine = proxy.New(options)
	f.metrics.Follow(observe.Sources{
		Connections: func() (int, int) { return f.engine.Connections(), f.engine.Idle() },
		Endpoints:   f.endpointCounts,
		Spool: func() observe.SpoolUsage {
			s := f.engine.Spool()
			return observe.SpoolUsage{Files: s.Files, Bytes: s.Bytes, Spilled: s.Spilled, Refused: s.Refused, Failed: s.Failed}
		},
	})
	return f, f.metrics.Register(observe.NewSpans(f.spans))
}

func (f *front) makeTLS() error {
	var err error
	if f.certs, err = certs.NewStore(f.options.tls.Store()); err != nil {
		return err
	}
	options, err := f.options.tls.Server()
	if err != nil {
		return err
	}
	options.Protocols = f.options.http2.Protocols()
	options.Table = func() *router.Table { return f.engine.Table() } // there is an engine before there is a handshake
	options.Terms = f.terms.Load
	f.tls, err = server.NewConfig(f.certs, options)
	return err
}

func (f *front) makeMetrics() error {
	o, err := metricsOptions(f.options.metrics, f.options.class)
	if err != nil {
		return err
	}
	o.AccessLog, o.Certificates = f.access, f.certificates
	if f.metrics, err = observe.NewMetrics(o); err != nil {
		return err
	}
	return errors.Join(
		f.metrics.Register(collectors.NewGoCollector()),
		f.metrics.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
}

// certificates returns what metrics say about the live certificates.
func (f *front) certificates() []observe.CertificateInfo {
	list := f.certs.List()
	infos := make([]observe.CertificateInfo, len(list))
	for i, c := range list {
		infos[i] = observe.CertificateInfo{Hosts: c.Hosts, Namespace: c.Namespace, Secret: c.Secret, State: string(c.State), NotAfter: c.NotAfter}
	}
	return infos
}

// Prepare implements controllers.DataPlane.
func (f *front) Prepare(t *router.Table) []router.Service { return f.engine.Prepare(t) }

// SetAddresses implements controllers.DataPlane.
func (f *front) SetAddresses(s router.Service, byPort map[string][]router.Address) {
	f.engine.SetAddresses(s, byPort)
}

// Publish implements controllers.DataPlane. Certificates come first: a route that redirects to HTTPS must find its own.
func (f *front) Publish(t *router.Table) {
	f.certs.Publish(t.Certificates(), t.DefaultCertificate())
	f.engine.Publish(t)
	f.followTLS()
}

// adminPages are what differs between the commands in what the admin pages show.
type adminPages struct {
	// ready says why the command is not ready for traffic, or nil; problems are those of the last Build.
	ready    func() error
	problems func() []ingress.Problem
	// synced is up to when what is served is known to be what the source says.
	synced func() time.Time
	// applied says what has become of an object of the cluster; nil without one.
	applied appliedFunc
}

// openAdmin opens the sockets for people and machines that look at Podlane, and serves them.
func (f *front) openAdmin(ctx context.Context, a adminPages) error {
	var err error
	if f.adminSockets, err = listen(ctx, "admin-address", f.options.listeners.Admin); err != nil {
		return err
	}
	if f.metricsSockets, err = listen(ctx, "metrics-address", f.options.listeners.Metrics); err != nil {
		return err
	}
	metrics := newMetricsPage(f.metrics, f.log)
	p := &pages{
		metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.metrics.SetSynced(a.synced())
			metrics.ServeHTTP(w, r)
		}),
		ready:        func() error { return f.ready(a.ready) },
		table:        f.engine.Table,
		endpoints:    f.engine.Endpoints,
		problems:     a.problems,
		certificates: f.certs.List,
		synced:       a.synced,
		applied:      a.applied,
		explain:      &explainer{f.engine, f.certs, f.tls, a.problems},
		profiling:    f.options.listeners.Profiling,
	}
	if f.options.listeners.Dashboard && len(f.adminSockets) > 0 {
		f.addDashboard(ctx, p)
	}
	f.serveAdmin(f.adminSockets, p.private())
	f.serveAdmin(f.metricsSockets, p.public())
	return nil
}

// ready is what /readyz says: nil only while the source is ready, the listeners are open, and no shutdown has begun.
func (f *front) ready(source func() error) error {
	if f.draining.Load() {
		return errors.New("shutting down")
	}
	if err := source(); err != nil {
		return err
	}
	if !f.traffic.Load() {
		return errors.New("the listeners are not open yet")
	}
	return nil
}

// The limits of the admin servers, which are for few and friendly clients.
const (
	adminHeaderTimeout = 5 * time.Second
	adminReadTimeout   = 10 * time.Second
	adminWriteTimeout  = 2 * time.Minute // a CPU profile takes its time
	adminIdleTimeout   = time.Minute
	adminHeaderBytes   = 16 << 10
)

func (f *front) serveAdmin(sockets []net.Listener, handler http.Handler) {
	if len(sockets) == 0 {
		return
	}
	s := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: adminHeaderTimeout, ReadTimeout: adminReadTimeout,
		WriteTimeout: adminWriteTimeout, IdleTimeout: adminIdleTimeout, MaxHeaderBytes: adminHeaderBytes,
		ErrorLog: slog.NewLogLogger(logr.ToSlogHandler(f.log), slog.LevelDebug),
	}
	f.admin = append(f.admin, s)
	for _, l := range sockets {
		f.serving.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				f.fail(fmt.Errorf("admin server on %s: %w", l.Addr(), err))
			}
		})
	}
}

// openTraffic opens the sockets for requests, all or none, and serves them. The first Table must be live.
func (f *front) openTraffic(ctx context.Context) error {
	var err error
	if f.http, err = listen(ctx, "http-address", f.options.listeners.HTTP); err != nil {
		return err
	}
	if f.https, err = listen(ctx, "https-address", f.options.listeners.HTTPS); err != nil {
		closeAll(f.http)
		return err
	}
	for _, l := range f.http {
		f.serve(&proxy.Listener{Listener: l, Port: f.options.listeners.PublicHTTP})
	}
	handshake := f.handshake(server.NewHandshaker(f.options.tls.Handshaker()))
	for _, l := range f.https {
		f.serve(&proxy.Listener{Listener: l, Port: f.options.listeners.PublicHTTPS, Handshake: handshake, Credentials: credentials})
	}
	f.traffic.Store(true)
	return nil
}

func (f *front) serve(l *proxy.Listener) {
	f.serving.Go(func() {
		if err := f.engine.Serve(l); err != nil {
			f.fail(err)
		}
	})
}

// fail reports the first error of a server.
func (f *front) fail(err error) {
	select {
	case f.failed <- err:
	default:
	}
}

// drain ends serving so that nobody notices: readiness goes off at once, connections are accepted until everyone has
// seen that, and requests in flight are finished. The second signal cuts all of it short.
func (f *front) drain(s stopping) {
	f.draining.Store(true)
	o := *f.options.shutdown
	o.Timeout = cmp.Or(f.engine.Settings().Clients.Shutdown, o.Timeout)
	f.log.Info("shutting down", "drainDelay", o.DrainDelay.String(), "timeout", o.Timeout.String())
	if f.traffic.Load() {
		f.engine.Leave()
		wait(s.kill, o.DrainDelay)
	}
	ctx, cancel := context.WithTimeout(s.kill, o.Timeout)
	defer cancel()
	if err := f.engine.Shutdown(ctx); err != nil {
		f.log.Info("requests in flight were cut", "reason", err.Error())
	}
}

// wait returns after d, or when ctx is done.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// farewell is how long the end may take once there are no requests any more.
const farewell = 2 * time.Second

// close ends everything that runs still and waits for it. Only close is called after it.
func (f *front) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	cut, cutNow := context.WithCancel(ctx)
	cutNow()
	// After drain there is nothing left to cut; without it, something has failed.
	_ = f.engine.Shutdown(cut)
	var errs []error
	for _, s := range f.admin {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, s.Close())
		}
	}
	closeAll(f.adminSockets)
	closeAll(f.metricsSockets)
	if f.endPlots != nil {
		f.endPlots()
	}
	f.serving.Wait()
	return errors.Join(append(errs, f.closeLog())...)
}

func (f *front) closeLog() error {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	return f.access.Close(ctx)
}

// reopenLog is for SIGUSR1, which logrotate sends.
func (f *front) reopenLog() {
	if err := f.access.Reopen(); err != nil {
		f.log.Error(err, "the access log could not be opened anew, the old file stays")
	}
}
