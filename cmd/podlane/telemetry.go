package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/controllers"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/tracing"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/server"
)

// This file joins what packages report to the metrics and logs that show it. Counters are resolved here, once.

// upstreamObserver counts what pools do.
func upstreamObserver(m *observe.Metrics) upstream.Observer {
	var failed [upstream.Limited + 1]prometheus.Counter
	for why := upstream.Refused; why <= upstream.Limited; why++ {
		failed[why] = m.ConnectFailed(why.String())
	}
	return upstream.Observer{
		OnConnect: func(_ *upstream.Endpoint, _ time.Duration, err error) {
			if why := upstream.KindOf(err); why != upstream.NoFailure {
				failed[why].Inc()
				return
			}
			m.UpstreamConnects.Inc()
		},
		OnReuse: func(*upstream.Endpoint) { m.UpstreamReuses.Inc() },
		OnEject: func(*upstream.Endpoint, upstream.Failure) { m.UpstreamEjections.Inc() },
	}
}

// brakeObserver returns what counts steps that remove too much, and shows which are held.
func brakeObserver(f *front) (func(controllers.BrakeStep), error) {
	held := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "podlane_brake_held", Help: "Hosts or endpoints that one step would have removed, and that stay for now.",
	}, []string{"what"})
	steps := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "podlane_brake_steps_total", Help: "Steps that removed more hosts or endpoints than --brake-percent, held or not.",
	}, []string{"what"})
	for _, kind := range controllers.BrakeKinds() {
		held.WithLabelValues(string(kind)).Set(0)
		steps.WithLabelValues(string(kind)).Add(0)
	}
	return func(s controllers.BrakeStep) {
		number := 0
		if s.Held {
			number = s.Removed
		}
		if held.WithLabelValues(string(s.Kind)).Set(float64(number)); !s.Ended {
			steps.WithLabelValues(string(s.Kind)).Inc()
		}
	}, errors.Join(f.metrics.Register(held), f.metrics.Register(steps))
}

// handshake returns the function that the engine runs for each encrypted connection: h's, counted.
func (f *front) handshake(h *server.Handshaker) func(net.Conn) (*tls.Conn, error) {
	failed := map[server.Failure]prometheus.Counter{}
	for _, why := range server.Failures() {
		failed[why] = f.metrics.HandshakeFailed(string(why))
	}
	return func(nc net.Conn) (*tls.Conn, error) {
		c := h.Server(nc, f.tls)
		// The engine closes the connection to end a handshake early.
		err := h.Handshake(context.Background(), c)
		if why, ok := errors.AsType[*server.HandshakeError](err); ok {
			failed[why.Reason].Inc()
		}
		if err != nil {
			return nil, err
		}
		f.metrics.HandshakesCompleted.Inc()
		if c.ConnectionState().DidResume {
			f.metrics.HandshakesResumed.Inc()
		}
		return c, nil
	}
}

// credentials returns what a client showed in its handshake, nil where it was not asked.
func credentials(c *tls.Conn) exchange.Credentials {
	if shown := server.CredentialsOf(c); shown != nil {
		return shown
	}
	return nil
}

// panicEvery is how often the stack of a recovered panic is logged: one that every request runs into must not fill a disk.
const panicEvery = time.Minute

// panicLogger returns a function that logs a recovered panic at most once in panicEvery.
func panicLogger(log logr.Logger) func(value any, stack []byte) {
	var last atomic.Int64
	start := time.Now()
	return func(value any, stack []byte) {
		now := int64(time.Since(start)) + 1 // 0 is never
		before := last.Load()
		if before != 0 && now-before < int64(panicEvery) || !last.CompareAndSwap(before, now) {
			return
		}
		log.Error(fmt.Errorf("panic: %v", value), "a connection ended by a panic, this is a bug", "stack", string(stack))
	}
}

// tracingOptions returns the options of traces with what they tell of this process.
func tracingOptions(t *config.Tracing, log logr.Logger) (tracing.Options, error) {
	o, err := t.Options()
	if err != nil {
		return o, err
	}
	for _, variable := range t.Ignored() {
		log.Error(errors.New(variable), "a variable of the environment is as if it were not set")
	}
	o.Version = thisBuild().version
	if name, err := os.Hostname(); err == nil { // else it has none
		o.Resource = append([]tracing.Attribute{{Name: "host.name", Value: name}}, o.Resource...)
	}
	o.Failed = func(err error, lost uint64) {
		log.Error(err, "the collector of traces does not take spans; requests are served all the same", "lost since this was last said", lost)
	}
	return o, nil
}

// spans returns what became of spans, as metrics take it.
func (f *front) spans() observe.SpanCounts {
	c := f.engine.TraceCounts()
	return observe.SpanCounts{Sent: c.Sent, Failed: c.Failed, Dropped: c.Dropped}
}

// problemCounts returns the number of Problems by reason, as metrics take it.
func problemCounts(problems []ingress.Problem) map[string]int {
	counts := map[string]int{}
	for i := range problems {
		counts[string(problems[i].Reason)]++
	}
	return counts
}
