package observe

import (
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// state is what is read at each scrape and not counted: a prometheus.Collector.
type state struct {
	generation atomic.Uint64
	routes     atomic.Int64
	problems   atomic.Pointer[map[string]int]
	held       atomic.Int64
	synced     atomic.Pointer[time.Time]
	role       atomic.Int32 // a Role
	sources    atomic.Pointer[Sources]

	published   atomic.Uint64
	publishedAt atomic.Pointer[time.Time]
	broken      atomic.Bool // the last Build panicked

	version      string
	accessLog    *AccessLog
	certificates func() []CertificateInfo
	bound        func() Bound
	desc         stateDescs
}

type stateDescs struct {
	info, generation, routes, problems, syncAge, logWritten, logDropped, expiry, certificates *prometheus.Desc

	leader, idle, spoolFiles, spoolBytes, spooled, bound, maxSeries, steps, held, endpoints, empty *prometheus.Desc
}

// list returns all of them.
func (d *stateDescs) list() []*prometheus.Desc {
	return []*prometheus.Desc{
		d.info, d.generation, d.routes, d.problems, d.syncAge, d.logWritten, d.logDropped, d.expiry, d.certificates,
		d.leader, d.idle, d.spoolFiles, d.spoolBytes, d.spooled, d.bound, d.maxSeries, d.steps, d.held, d.endpoints, d.empty,
	}
}

// SpoolUsage is what request bodies on disk take, and what became of those before.
type SpoolUsage struct {
	Files, Bytes             int64
	Spilled, Refused, Failed uint64
}

// Sources are what the engine is asked at each scrape. The functions may be called concurrently.
type Sources struct {
	// Connections returns how many connections of clients are open, and how many of them have no request.
	Connections func() (open, idle int)
	// Spool returns what is on disk.
	Spool func() SpoolUsage
	// Endpoints returns the numbers of endpoints; nil where nobody knows them.
	Endpoints func() EndpointCounts
}

// EndpointCounts are numbers of endpoints.
type EndpointCounts struct {
	// States has how many are in each state, which is from a closed set of the caller.
	States map[string]int
	// Empty is how many ports of Services have no endpoint that gets requests.
	Empty int
}

// Follow adds what is asked at each scrape. There is none before.
func (m *Metrics) Follow(s Sources) { m.state.sources.Store(&s) }

// Role is what a replica is in an election.
type Role int32

// The roles. NoRole is where there is no election, or none is known of yet.
const (
	NoRole Role = iota
	Follower
	Leader
)

// SetRole records whether this replica is the one that writes status and Events.
func (m *Metrics) SetRole(r Role) { m.state.role.Store(int32(r)) }

func (s *state) init(o MetricsOptions) {
	now := time.Now()
	s.synced.Store(&now) // until the first sync, its age is the process's
	s.version, s.accessLog, s.certificates = o.Version, o.AccessLog, o.Certificates
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	s.desc = stateDescs{
		info:         desc("podlane_build_info", "Always 1; the version of Podlane and of Go.", "version", "goversion"),
		generation:   desc("podlane_table_generation", "Generation of the live table."),
		routes:       desc("podlane_table_routes", "Routes of the live table."),
		problems:     desc("podlane_problems", "Mistakes in objects, by kind.", "reason"),
		held:         desc("podlane_objects_held", "Objects that are broken and stand in the form that they had before."),
		endpoints:    desc("podlane_endpoints", "Endpoints of the Services that routes send to, by state.", "state"),
		empty:        desc("podlane_services_without_endpoint", "Ports of Services that routes send to and that have no endpoint for requests."),
		syncAge:      desc("podlane_last_sync_age_seconds", "Time since the source of objects was last known to be what is served."),
		logWritten:   desc("podlane_access_log_written_lines_total", "Lines of the access log that were written."),
		logDropped:   desc("podlane_access_log_dropped_lines_total", "Lines of the access log that were dropped, because the queue was full or the write failed.", "reason"),
		expiry:       desc("podlane_certificate_expiry_timestamp_seconds", "When a certificate expires; no Secret: the self-signed default certificate.", "namespace", "secret"),
		certificates: desc("podlane_certificates", "Certificates by how they stand.", "state"),
		leader:       desc("podlane_leader", "1 where this replica writes status and Events, 0 where another does."),
		idle:         desc("podlane_connections_idle", "Connections of clients that are open and have no request."),
		spoolFiles:   desc("podlane_spool_files", "Request bodies that are on disk."),
		spoolBytes:   desc("podlane_spool_bytes", "Bytes of request bodies that are on disk."),
		spooled:      desc("podlane_spooled_requests_total", "Requests whose body was to go to disk, by what became of it.", "outcome"),
		bound:        desc("podlane_metrics_series_bound", "What the number of series stays below with the objects of now."),
		maxSeries:    desc("podlane_metrics_series_limit", "What --metrics-max-series says; 0 for no limit."),
		steps:        desc("podlane_metrics_labels_dropped_steps", "How many steps labels are coarser than asked for, to stay below --metrics-max-series."),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(c chan<- *prometheus.Desc) {
	for _, desc := range s.desc.list() {
		c <- desc
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(c chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		for i := range labels {
			labels[i] = strings.ToValidUTF8(labels[i], "\ufffd")
		}
		c <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	gauge(s.desc.info, 1, s.version, runtime.Version())
	gauge(s.desc.generation, float64(s.generation.Load()))
	gauge(s.desc.routes, float64(s.routes.Load()))
	gauge(s.desc.syncAge, time.Since(*s.synced.Load()).Seconds())
	if problems := s.problems.Load(); problems != nil {
		for reason, n := range *problems {
			gauge(s.desc.problems, float64(n), reason)
		}
	}
	gauge(s.desc.held, float64(s.held.Load()))
	total := func(desc *prometheus.Desc, v uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), labels...)
	}
	counts := s.accessLog.Counts()
	total(s.desc.logWritten, counts.Written)
	total(s.desc.logDropped, counts.DroppedQueue, "queue")
	total(s.desc.logDropped, counts.DroppedWrite, "write")
	if s.certificates != nil {
		s.collectCertificates(gauge)
	}
	if role := Role(s.role.Load()); role != NoRole {
		gauge(s.desc.leader, float64(role-Follower))
	}
	bound := s.bound()
	gauge(s.desc.bound, float64(bound.Series))
	gauge(s.desc.maxSeries, float64(bound.Max))
	gauge(s.desc.steps, float64(bound.Steps))
	if sources := s.sources.Load(); sources != nil {
		if sources.Endpoints != nil {
			counts := sources.Endpoints()
			for name, n := range counts.States {
				gauge(s.desc.endpoints, float64(n), name)
			}
			gauge(s.desc.empty, float64(counts.Empty))
		}
		_, idle := sources.Connections()
		gauge(s.desc.idle, float64(idle))
		spool := sources.Spool()
		gauge(s.desc.spoolFiles, float64(spool.Files))
		gauge(s.desc.spoolBytes, float64(spool.Bytes))
		total(s.desc.spooled, spool.Spilled, "spilled")
		total(s.desc.spooled, spool.Refused, "refused")
		total(s.desc.spooled, spool.Failed, "failed")
	}
}

// collectCertificates reports the expiry of each Secret once, however many Ingresses use it, and the states.
func (s *state) collectCertificates(gauge func(*prometheus.Desc, float64, ...string)) {
	type secret struct{ namespace, name string }
	expiry := make(map[secret]time.Time)
	states := make(map[string]int)
	for _, info := range s.certificates() {
		states[info.State]++
		key := secret{info.Namespace, info.Secret}
		if known, ok := expiry[key]; !info.NotAfter.IsZero() && (!ok || info.NotAfter.Before(known)) {
			expiry[key] = info.NotAfter
		}
	}
	for key, t := range expiry {
		gauge(s.desc.expiry, float64(t.UnixNano())/float64(time.Second), key.namespace, key.name)
	}
	for name, n := range states {
		gauge(s.desc.certificates, float64(n), name)
	}
}

var _ prometheus.Collector = (*state)(nil)
