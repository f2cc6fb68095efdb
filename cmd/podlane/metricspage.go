package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"podlane.dev/podlane/proxy/observe"
)

// metricsPage is /metrics. Text goes the short way, and whole: to compress it would cost several times what it costs to make, for a peer in the same
// cluster. Clients that ask for messages of protobuf get them from promhttp.
type metricsPage struct {
	metrics  *observe.Metrics
	log      logr.Logger
	messages http.Handler
	// buffers are *[]byte: a page is megabytes, and the next one as long.
	buffers sync.Pool
}

func newMetricsPage(m *observe.Metrics, log logr.Logger) *metricsPage {
	return &metricsPage{
		metrics: m, log: log, buffers: sync.Pool{New: func() any { return new([]byte) }},
		messages: promhttp.HandlerFor(m.Gatherer(), promhttp.HandlerOpts{ErrorLog: promLogger{log}}),
	}
}

// textFormat is the format that every version of Prometheus reads.
const textFormat = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"

// ServeHTTP implements http.Handler.
func (p *metricsPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if prefersMessages(r.Header.Get("Accept")) {
		p.messages.ServeHTTP(w, r)
		return
	}
	buffer := p.buffers.Get().(*[]byte)
	defer p.buffers.Put(buffer)
	text, err := p.metrics.AppendText((*buffer)[:0])
	*buffer = text
	if err != nil {
		// What could be gathered is worth having.
		promLogger{p.log}.Println(err)
	}
	w.Header().Set("Content-Type", textFormat)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(text) // the client is gone
}

// prefersMessages reports whether a client names protobuf before any text: that is how Prometheus asks where native histograms are on.
func prefersMessages(accept string) bool {
	first, _, _ := strings.Cut(accept, ",")
	return strings.HasPrefix(strings.TrimSpace(first), "application/vnd.google.protobuf")
}

// promLogger is promhttp's logger.
type promLogger struct{ log logr.Logger }

// Println logs what went wrong in a scrape.
func (l promLogger) Println(v ...any) {
	l.log.Info("metrics could not be gathered", "error", fmt.Sprint(v...))
}
