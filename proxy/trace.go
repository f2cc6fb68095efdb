package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/tracing"
)

const (
	// lastTraces is how long a Tracer lives on whose table is live no more: requests that began with it end meanwhile.
	lastTraces = 10 * time.Second
	// lastSpans is how long the collector is waited for at the end.
	lastSpans = 3 * time.Second
)

// tracers are the Tracer of the live table, and those that end.
type tracers struct {
	mu     sync.Mutex
	live   *tracing.Tracer // nil for none; changed by Publish only
	old    map[*tracing.Tracer]struct{}
	ended  tracing.Counts // of those that are no more
	ending sync.WaitGroup
}

// TraceCounts returns what became of the spans of requests since the engine was made.
func (e *Engine) TraceCounts() tracing.Counts {
	t := &e.tracers
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := t.ended.Add(t.live.Counts())
	for old := range t.old {
		counts = counts.Add(old.Counts())
	}
	return counts
}

// tracerOf returns the Tracer for what the options and s say, nil where nothing is traced: that which is live, if it is no other. A Tracer that it takes
// the place of ends once the requests are over that it may record.
func (e *Engine) tracerOf(s *filters.Settings) *tracing.Tracer {
	t := &e.tracers
	o := e.opts.Tracing
	s.Traces.Overlay(&o.Settings)
	o.Settings = o.WithDefaults()
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.live
	switch {
	case o.Endpoint == tracing.Endpoint{}:
		t.live = nil
	case before != nil && before.Settings() == o.Settings:
		return before
	default:
		t.live = tracing.New(context.WithoutCancel(e.life), o) // Close ends it
	}
	if before != nil {
		t.retire(e.life, before)
	}
	return t.live
}

// retire has old end after a while, or when ctx does. The caller holds t.mu.
func (t *tracers) retire(ctx context.Context, old *tracing.Tracer) {
	if t.old == nil {
		t.old = map[*tracing.Tracer]struct{}{}
	}
	t.old[old] = struct{}{}
	t.ending.Go(func() {
		wait := time.NewTimer(lastTraces)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		_ = old.Close(limit) // what is lost is counted
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.old, old)
		t.ended = t.ended.Add(old.Counts())
	})
}

// close sends what is left. Nothing is published any more, and the engine's life is over.
func (t *tracers) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lastSpans)
	defer cancel()
	err := t.live.Close(ctx)
	t.ending.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // the collector is away: its loss is counted, and no reason to say that requests were lost
	}
	return err
}

// beginTrace gives the request its place in a trace, where that is wanted for c. It was matched since start.
func (s *session) beginTrace(t *tracing.Tracer, c *chain, start time.Time) {
	say, x := &c.filters.Tracing, s.x
	if say.On == filters.No || say.On == filters.Unsaid && !t.Everything() {
		return
	}
	believed := say.Trust == filters.Yes
	if say.Trust == filters.Unsaid {
		believed = trusted(s.c.terms.forwarded, x.Client.Peer.Addr())
	}
	if believed {
		s.trace = t.Continue(x)
	} else {
		s.trace = t.Begin(x)
	}
	if s.trace == nil {
		return
	}
	s.trace.Matched(start)
	if say.Name != nil {
		s.trace.Name = say.Name.AppendEscaped(s.trace.Name, x, expr.EscapeText)
	}
}

// traceUnmatched begins a trace of a request that is answered before a route was looked for, where all are traced.
func (s *session) traceUnmatched() {
	if s.settings != nil || s.rehearsal != nil {
		return
	}
	if t := s.e.live.Load().tracer; t != nil && t.Everything() {
		s.trace = t.Refused(s.x)
	}
}

// endTrace hands the spans of the exchange on.
func (s *session) endTrace() {
	if s.trace != nil {
		s.trace.End(s.x, tracing.Outcome{Status: s.statusSeen(), Generation: s.generation})
		s.trace = nil
	}
}
