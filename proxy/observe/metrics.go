package observe

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MetricsOptions are the settings of Metrics. The zero value is useful.
type MetricsOptions struct {
	// Buckets are the upper bounds of request durations in seconds, ascending, 24 at most. nil is DefaultBuckets.
	Buckets []float64
	// Detail says which labels series have, and MaxSeries (DefaultMaxSeries) what their number stays below: where there are too many
	// objects for that, series are about groups of them. Negative means no limit.
	Detail    Detail
	MaxSeries int
	// Nginx asks for ingress-nginx's families too, which MaxSeries does not bound.
	Nginx NginxOptions
	// AccessLog is whose counts are shown; nil where it is off.
	AccessLog *AccessLog
	// Certificates returns the certificates that are served, at each scrape; nil for none. It may be called concurrently.
	Certificates func() []CertificateInfo
	// Version is Podlane's, for podlane_build_info.
	Version string
}

// CertificateInfo is what metrics say about a certificate.
type CertificateInfo struct {
	// Hosts are the names that it is served for.
	Hosts []string
	// Namespace and Secret name the Secret; both are empty for the self-signed default certificate.
	Namespace, Secret string
	// State is a word from the closed set of tls/certs.
	State string
	// NotAfter is when it expires; zero where there is none.
	NotAfter time.Time
}

// Metrics holds all metrics of the process. What is a field is always there; the methods that return counters resolve a
// label and are called at start or Publish, never for a request.
type Metrics struct {
	// ConnectionsAccepted counts connections of clients, and ConnectionsOpen is how many there are.
	ConnectionsAccepted prometheus.Counter
	ConnectionsOpen     prometheus.Gauge
	// HandshakesCompleted counts TLS handshakes with clients that succeeded, and HandshakesResumed those of them that resumed a session.
	HandshakesCompleted, HandshakesResumed prometheus.Counter
	// UpstreamConnects counts connections to Pods that were made, UpstreamReuses requests that went over one from the pool,
	// and UpstreamEjections endpoints that were left out for a while.
	UpstreamConnects, UpstreamReuses, UpstreamEjections prometheus.Counter

	closed, rejected, handshakeErrors, connectErrors, panics, mirrored *prometheus.CounterVec

	publishes   prometheus.Counter
	build       prometheus.Histogram
	eventToLive prometheus.Histogram
	state       state

	registry *prometheus.Registry
	families *routeFamilies
	seconds  *bounds // of times
	bounds   []int64 // the same, in nanoseconds
	plans    planOptions

	nginx         NginxOptions
	nginxFamilies *nginxFamilies
	sizes         *bounds

	mu           sync.Mutex
	routes       map[routeKey]*RouteMetrics
	groups       [numLevels]map[routeKey]*group
	sorted       *sorted // nil after a change
	lastRung     int
	certificates int
}

// DefaultBuckets returns the bounds of request durations, in seconds.
func DefaultBuckets() []float64 {
	return []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}
}

// NewMetrics returns Metrics with nothing counted. It fails when the buckets are unusable.
func NewMetrics(o MetricsOptions) (*Metrics, error) {
	if o.Buckets == nil {
		o.Buckets = DefaultBuckets()
	}
	limits, err := durations(o.Buckets)
	if err != nil {
		return nil, err
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(), families: newRouteFamilies(), nginxFamilies: newNginxFamilies(),
		seconds: newBounds(limits, slices.Clone(o.Buckets), perSecond), bounds: limits, sizes: sizeBounds(),
		plans: planOptions{detail: o.Detail, buckets: len(limits), max: cmp.Or(o.MaxSeries, DefaultMaxSeries), nginx: o.Nginx.On},
		nginx: o.Nginx, routes: make(map[routeKey]*RouteMetrics),
	}
	m.lastRung = o.Detail.firstRung()
	for l := range m.groups {
		m.groups[l] = make(map[routeKey]*group)
	}
	m.state.init(o)
	m.state.bound = m.Bound
	m.makeCounters()
	m.makeTableMetrics()
	for _, c := range []prometheus.Collector{
		m.ConnectionsAccepted, m.ConnectionsOpen, m.HandshakesCompleted, m.HandshakesResumed, m.UpstreamConnects, m.UpstreamReuses, m.UpstreamEjections,
		m.closed, m.rejected, m.handshakeErrors, m.connectErrors, m.panics, m.mirrored, m.publishes, m.build, m.eventToLive, &m.state,
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	if o.Nginx.On {
		return m, m.registerNginx()
	}
	return m, nil
}

// durations returns buckets, which are in seconds, in nanoseconds.
func durations(buckets []float64) ([]int64, error) {
	if len(buckets) == 0 || len(buckets) > maxBuckets {
		return nil, fmt.Errorf("%d duration buckets: use 1 to %d", len(buckets), maxBuckets)
	}
	bounds := make([]int64, len(buckets))
	last := int64(0)
	for i, b := range buckets {
		// The conversion of what is no number, or too large a one, is not defined.
		if math.IsNaN(b) || b > math.MaxInt64/float64(2*time.Second) {
			return nil, fmt.Errorf("duration bucket %v", b)
		}
		if bounds[i] = int64(math.Round(b * perSecond)); bounds[i] <= last {
			return nil, fmt.Errorf("duration bucket %v s: buckets are positive, ascending, and nanoseconds apart", b)
		}
		last = bounds[i]
	}
	return bounds, nil
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
}

func (m *Metrics) makeCounters() {
	m.ConnectionsAccepted = counter("podlane_connections_accepted_total", "Connections of clients that were accepted.")
	m.ConnectionsOpen = prometheus.NewGauge(prometheus.GaugeOpts{Name: "podlane_connections_open", Help: "Connections of clients that are open."})
	m.HandshakesCompleted = counter("podlane_tls_handshakes_total", "TLS handshakes with clients that succeeded.")
	m.HandshakesResumed = counter("podlane_tls_handshakes_resumed_total", "TLS handshakes with clients that resumed a session.")
	m.UpstreamConnects = counter("podlane_upstream_connects_total", "Connections to Pods that were made.")
	m.UpstreamReuses = counter("podlane_upstream_reuses_total", "Requests that went over a connection that was kept from another.")
	m.UpstreamEjections = counter("podlane_upstream_ejections_total", "Endpoints that were left out for a while after failures.")
	m.closed = counters("podlane_connections_closed_total", "Connections of clients that ended, by why.", "reason")
	m.rejected = counters("podlane_requests_rejected_total", "Requests that the proxy answered by itself, by why.", "reason")
	m.handshakeErrors = counters("podlane_tls_handshake_errors_total", "TLS handshakes with clients that failed, by why.", "reason")
	m.connectErrors = counters("podlane_upstream_connect_errors_total", "Connections to Pods that could not be made, by why.", "reason")
	m.mirrored = counters("podlane_mirrored_requests_total", "Copies of requests for mirrors, by what became of them.", "outcome")
	m.panics = counters("podlane_panics_total", "Panics that were recovered from, by where.", "origin")
}

func (m *Metrics) makeTableMetrics() {
	m.publishes = counter("podlane_table_publishes_total", "Tables that were made live.")
	m.build = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "podlane_table_build_duration_seconds", Help: "Time from a complete snapshot to the live table.",
		Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10},
	})
	m.eventToLive = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "podlane_event_to_live_seconds", Help: "Time from the first event of a change to when requests see it.",
		Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10},
	})
}

// ConnectionClosed returns the counter of client connections that ended for reason, from a closed set of the caller.
func (m *Metrics) ConnectionClosed(reason string) prometheus.Counter {
	return m.closed.WithLabelValues(reason)
}

// Rejected returns the counter of requests that the proxy answered by itself for reason, from a closed set of the caller.
func (m *Metrics) Rejected(reason string) prometheus.Counter {
	return m.rejected.WithLabelValues(reason)
}

// HandshakeFailed returns the counter of TLS handshakes that failed for reason, from the closed set of tls/server.
func (m *Metrics) HandshakeFailed(reason string) prometheus.Counter {
	return m.handshakeErrors.WithLabelValues(reason)
}

// ConnectFailed returns the counter of connections to Pods that failed for reason, from a closed set of the caller.
func (m *Metrics) ConnectFailed(reason string) prometheus.Counter {
	return m.connectErrors.WithLabelValues(reason)
}

// BuildFailed counts a Build that panicked, after which the live Table stays.
func (m *Metrics) BuildFailed() {
	m.state.broken.Store(true)
	m.Panicked("build").Inc()
}

// Panicked returns the counter of recovered panics of a part of the process: "build", "connection".
func (m *Metrics) Panicked(origin string) prometheus.Counter {
	return m.panics.WithLabelValues(origin)
}

// Mirrored returns the counter of copies of requests with an outcome, from a closed set of the caller.
func (m *Metrics) Mirrored(outcome string) prometheus.Counter {
	return m.mirrored.WithLabelValues(outcome)
}

// Register adds a collector of the caller's: Go's runtime, the process, controllers. It fails when a metric is there already.
func (m *Metrics) Register(c prometheus.Collector) error {
	if err := m.registry.Register(c); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Publication is what metrics say about a Table that was made live.
type Publication struct {
	// Generation is the Table's, Routes how many it has, and Certificates how many hosts have one.
	Generation   uint64
	Routes       int
	Certificates int
	// Build is the time from a complete snapshot to the live table.
	Build time.Duration
	// EventToLive is the time from the first event that the Table answers to; 0 where it answers to none.
	EventToLive time.Duration
}

// Published records that a Table was made live.
func (m *Metrics) Published(p Publication) {
	m.mu.Lock()
	if m.certificates != p.Certificates {
		m.certificates, m.sorted = p.Certificates, nil
	}
	m.mu.Unlock()
	now := time.Now()
	m.state.publishedAt.Store(&now)
	m.state.published.Add(1)
	m.state.broken.Store(false)
	m.publishes.Inc()
	m.build.Observe(p.Build.Seconds())
	if p.EventToLive > 0 {
		m.eventToLive.Observe(p.EventToLive.Seconds())
	}
	m.state.generation.Store(p.Generation)
	m.state.routes.Store(int64(p.Routes))
}

// EndpointsLive records that a change of endpoints, which makes no Table, was made live, and how long after its event.
func (m *Metrics) EndpointsLive(d time.Duration) { m.eventToLive.Observe(d.Seconds()) }

// SetProblems replaces the number of Problems by reason. The caller must not change byReason any more.
func (m *Metrics) SetProblems(byReason map[string]int) { m.state.problems.Store(&byReason) }

// SetHeld records how many objects are broken and stand in the form that they had before.
func (m *Metrics) SetHeld(n int) { m.state.held.Store(int64(n)) }

// SetSynced records when the cluster, or the folder of manifests, was last known to be what is served.
func (m *Metrics) SetSynced(t time.Time) { m.state.synced.Store(&t) }
