package tracing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

const (
	// maxSpare are the chunks that are kept for reuse.
	maxSpare = 4
	// maxPooled is the capacity up to which the buffer of one trace is reused.
	maxPooled = 16 << 10
)

// Counts are numbers of spans since a Tracer began.
type Counts struct {
	// Sent spans were taken by the collector. Dropped ones found the queue full, or the Tracer closed; Failed ones were not taken.
	Sent, Dropped, Failed uint64
}

// Add returns the sums.
func (c Counts) Add(other Counts) Counts {
	return Counts{c.Sent + other.Sent, c.Dropped + other.Dropped, c.Failed + other.Failed}
}

// Tracer records requests and sends their spans to a collector, from one goroutine. Its methods may be called concurrently, and those of requests on a
// nil *Tracer, which records nothing.
type Tracer struct {
	options  Options
	exporter *exporter
	traces   sync.Pool // of *Trace
	buffers  sync.Pool // of *[]byte

	mu     sync.Mutex
	queue  []*chunk // the last one is being filled
	spare  []*chunk
	spans  int // in queue and in the sender's hands
	closed bool

	some    chan struct{} // capacity 1: the queue is no longer empty
	plenty  chan struct{} // capacity 1: a batch is full
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when the sender has ended
	abort   context.CancelFunc

	sent, dropped, failed atomic.Uint64
	told                  telling // the sender's
}

// chunk is spans, encoded one behind the other, that leave in one request.
type chunk struct {
	buf   []byte
	spans int
}

// New starts a Tracer. The caller closes it; where ctx ends before, nothing more is sent.
func New(ctx context.Context, o Options) *Tracer {
	o.Settings = o.WithDefaults()
	ctx, abort := context.WithCancel(ctx)
	t := &Tracer{
		options: o, exporter: newExporter(&o), abort: abort,
		traces:  sync.Pool{New: func() any { return new(Trace) }},
		buffers: sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }},
		some:    make(chan struct{}, 1), plenty: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	go t.run(ctx)
	return t
}

// Settings returns what the Tracer was made with, defaults filled in.
func (t *Tracer) Settings() Settings { return t.options.Settings }

// Everything reports whether requests are traced of which no annotation says whether they are.
func (t *Tracer) Everything() bool { return t.options.Everything }

// Now returns the time, and zero where nothing is recorded.
func (t *Tracer) Now() time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Now()
}

// Counts returns the totals.
func (t *Tracer) Counts() Counts {
	if t == nil {
		return Counts{}
	}
	return Counts{Sent: t.sent.Load(), Dropped: t.dropped.Load(), Failed: t.failed.Load()}
}

// Continue gives x its place in the trace that its fields tell of, which are trusted, or else begins one: see Begin.
func (t *Tracer) Continue(x *exchange.Exchange) *Trace {
	f := &x.Request.Fields
	if f.Count(exchange.Traceparent) == 1 {
		if parent, ok := ParseParent(f.Get(exchange.Traceparent)); ok {
			x.Trace.TraceID = parent.TraceID
			return t.join(x, parent)
		}
	}
	return t.Begin(x)
}

// Begin begins a trace with x, whatever its fields say, and has the Pod told. It returns nil where the request is not recorded, else what the caller gives
// back with End.
func (t *Tracer) Begin(x *exchange.Exchange) *Trace {
	x.Trace.TraceID = newTraceID()
	x.Request.Fields.Del(exchange.Tracestate)
	return t.join(x, exchange.TraceContext{})
}

// Refused begins a trace with x, which no Pod gets: its fields, which may be anything, are neither read nor changed. It returns what Begin does.
func (t *Tracer) Refused(x *exchange.Exchange) *Trace {
	x.Trace.TraceID, x.Trace.SpanID = newTraceID(), newSpanID()
	return t.sample(x, exchange.TraceContext{})
}

// join makes x a part of its trace, as the child of parent.
func (t *Tracer) join(x *exchange.Exchange, parent exchange.TraceContext) *Trace {
	x.Trace.SpanID = newSpanID()
	trace := t.sample(x, parent)
	SetParent(x, x.Trace.SpanID)
	return trace
}

// sample decides whether x is recorded, and returns what becomes of it.
func (t *Tracer) sample(x *exchange.Exchange, parent exchange.TraceContext) *Trace {
	x.Trace.Sampled = t.options.Sampler.Samples(parent, x.Trace.TraceID)
	if !x.Trace.Sampled {
		return nil
	}
	trace := t.traces.Get().(*Trace)
	trace.tracer, trace.parent = t, parent
	return trace
}

// SetParent tells the Pod, or whoever gets the fields of x, that span is the parent of what it does.
func SetParent(x *exchange.Exchange, span [8]byte) {
	c := x.Trace
	c.SpanID = span
	at := len(x.Scratch)
	x.Scratch = c.AppendParent(x.Scratch)
	x.Request.Fields.Set(exchange.Traceparent, x.Scratch[at:])
	x.Scratch = x.Scratch[:at]
}

// enqueue takes the spans of one trace, or drops them where there is no room.
func (t *Tracer) enqueue(spans []byte, n int) {
	t.mu.Lock()
	if t.closed || t.spans+n > t.options.QueueSpans {
		t.mu.Unlock()
		t.dropped.Add(uint64(n))
		return
	}
	first := len(t.queue) == 0
	full := false
	if first || t.queue[len(t.queue)-1].spans+n > t.options.BatchSpans {
		full = !first
		t.queue = append(t.queue, t.emptyChunk())
	}
	last := t.queue[len(t.queue)-1]
	last.buf = append(last.buf, spans...)
	last.spans += n
	t.spans += n
	full = full || last.spans >= t.options.BatchSpans
	t.mu.Unlock()
	if first {
		signal(t.some)
	}
	if full {
		signal(t.plenty)
	}
}

// emptyChunk returns a spare chunk or a new one. The caller holds t.mu.
func (t *Tracer) emptyChunk() *chunk {
	if n := len(t.spare); n > 0 {
		c := t.spare[n-1]
		t.spare = t.spare[:n-1]
		return c
	}
	return new(chunk)
}

// signal wakes the sender if it waits for c, or lets it not wait when it comes to it.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take returns the oldest chunk, nil where the queue is empty.
func (t *Tracer) take() *chunk {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		return nil
	}
	c := t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	return c
}

// release gives back the room of a chunk that is done with.
func (t *Tracer) release(c *chunk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spans -= c.spans
	if len(t.spare) < maxSpare {
		c.buf, c.spans = c.buf[:0], 0
		t.spare = append(t.spare, c)
	}
}

// Close drops spans that come after it and sends those that are queued, once each. When ctx ends before, the rest is dropped and counted, and the error
// says so. Further calls wait in the same way.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.closing)
	}
	left := t.spans
	t.mu.Unlock()
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
	}
	t.abort()
	<-t.done
	return errors.Join(fmt.Errorf("close tracing with up to %d spans unsent", left), ctx.Err())
}
