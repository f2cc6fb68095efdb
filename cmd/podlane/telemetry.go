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
	brake := observe.NewBrake()
	for _, kind := range controllers.BrakeKinds() {
		brake.Watch(string(kind))
	}
	return func(s controllers.BrakeStep) {
		number := 0
		if s.Held {
			number = s.Removed
		}
		if brake.Hold(string(s.Kind), number); !s.Ended {
			brake.Stepped(string(s.Kind))
		}
	}, f.metrics.Register(brake)
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

// showProblems has metrics show the number of Problems by reason, and of the objects that stand in an earlier form because of one.
func showProblems(m *observe.Metrics, problems []ingress.Problem) {
	counts, held := map[string]int{}, map[ingress.Object]struct{}{}
	for i := range problems {
		p := &problems[i]
		counts[string(p.Reason)]++
		if p.Effect == ingress.Kept && p.Reason != ingress.MassRemoval { // which is what the brake holds
			held[p.Object] = struct{}{}
		}
	}
	m.SetProblems(counts)
	m.SetHeld(len(held))
}

// endpointCounts returns what metrics say of endpoints.
func (f *front) endpointCounts() observe.EndpointCounts {
	c := f.engine.EndpointCounts()
	states := make(map[string]int, len(c.States))
	for state, n := range c.States {
		states[string(state)] = n
	}
	return observe.EndpointCounts{States: states, Empty: c.Empty}
}
