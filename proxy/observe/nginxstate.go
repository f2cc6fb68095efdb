package observe

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// nginxState is what ingress-nginx says about itself: a prometheus.Collector.
type nginxState struct {
	*state
	success, reloaded, reloadedAt, hash, expiry, connections, info *prometheus.Desc
}

func newNginxState(s *state) *nginxState {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(nginxPrefix+name, help, labels, nil)
	}
	return &nginxState{
		state:       s,
		success:     desc("success", "Tables that were made live."),
		reloaded:    desc("config_last_reload_successful", "Whether the last table could be built."),
		reloadedAt:  desc("config_last_reload_successful_timestamp_seconds", "When the last table was made live."),
		hash:        desc("config_hash", "Generation of the live table; dashboards list its labels."),
		expiry:      desc("ssl_expire_time_seconds", "When the certificate of a host expires.", "host", "namespace", "secret_name"),
		connections: desc("nginx_process_connections", "Connections of clients; active: all that are open, waiting: those between requests.", "state"),
		info:        desc("build_info", "Always 1; the version of Podlane.", "release"),
	}
}

// Describe implements prometheus.Collector.
func (s *nginxState) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.success, s.reloaded, s.reloadedAt, s.hash, s.expiry, s.connections, s.info} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (s *nginxState) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	c <- prometheus.MustNewConstMetric(s.success, prometheus.CounterValue, float64(s.published.Load()))
	whole := 1.0
	if s.broken.Load() {
		whole = 0
	}
	gauge(s.reloaded, whole)
	if at := s.publishedAt.Load(); at != nil {
		gauge(s.reloadedAt, float64(at.UnixMilli())/1000)
	}
	gauge(s.hash, float64(s.generation.Load()))
	if use := s.sources.Load(); use != nil {
		open, idle := use.Connections()
		gauge(s.connections, float64(open), "active")
		gauge(s.connections, float64(idle), "waiting")
	}
	gauge(s.info, 1, s.version)
	if s.certificates != nil {
		s.collectHosts(gauge)
	}
}

// collectHosts reports when the certificate of each host expires: of two for the same host, the sooner.
func (s *nginxState) collectHosts(gauge func(*prometheus.Desc, float64, ...string)) {
	type host struct{ name, namespace, secret string }
	expiry := make(map[host]time.Time)
	for _, info := range s.certificates() {
		for _, name := range info.Hosts {
			key := host{strings.ToValidUTF8(name, "\ufffd"), info.Namespace, info.Secret}
			if known, ok := expiry[key]; !info.NotAfter.IsZero() && (!ok || info.NotAfter.Before(known)) {
				expiry[key] = info.NotAfter
			}
		}
	}
	for key, t := range expiry {
		gauge(s.expiry, float64(t.Unix()), key.name, key.namespace, key.secret)
	}
}

// registerNginx adds what ingress-nginx says about itself and its process.
func (m *Metrics) registerNginx() error {
	r := prometheus.WrapRegistererWith(prometheus.Labels{
		"controller_class": m.nginx.Class, "controller_namespace": m.nginx.Namespace, "controller_pod": m.nginx.Pod,
	}, m.registry)
	for _, c := range []prometheus.Collector{
		newNginxState(&m.state), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: nginxPrefix + "nginx"}),
	} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics of ingress-nginx: %w", err)
		}
	}
	return nil
}
