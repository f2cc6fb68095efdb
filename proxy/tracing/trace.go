package tracing

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"podlane.dev/podlane/proxy/exchange"
)

// Trace is what is noted of one request that is recorded. It belongs to the request's goroutine, from Begin to End.
type Trace struct {
	tracer *Tracer
	parent exchange.TraceContext
	// Name is the name of the request's span; empty is the method and the route's path. Whoever serves the request appends to it.
	Name    []byte
	matched interval
	asked   [maxAsked]interval
	n       int // of asked
}

// maxAsked bounds the questions of one request that have spans.
const maxAsked = 4

// interval is a span of time.
type interval struct{ start, end time.Time }

// Outcome is what became of a request, where its Exchange does not say.
type Outcome struct {
	// Status is what the client got, 499 where it went away before.
	Status int
	// Generation is that of the Table.
	Generation uint64
}

// Matched notes when the route was looked for, and that it is over now.
func (t *Trace) Matched(start time.Time) { t.matched = interval{start, time.Now()} }

// Asked notes when an authentication service was asked, and that it is over now.
func (t *Trace) Asked(start time.Time) {
	if t.n < maxAsked {
		t.asked[t.n] = interval{start, time.Now()}
		t.n++
	}
}

// Try gives l, a try of x, its span, and has the Pod told.
func (t *Trace) Try(x *exchange.Exchange, l *exchange.Leg) {
	l.Span = newSpanID()
	SetParent(x, l.Span)
}

// End hands the spans of x, which is over, to the sender. t must not be used any more.
func (t *Trace) End(x *exchange.Exchange, o Outcome) {
	tracer := t.tracer
	buf := tracer.buffers.Get().(*[]byte)
	b := t.appendServer((*buf)[:0], x, o)
	spans := 1
	if !t.matched.start.IsZero() {
		b = appendInner(b, x, inner{"match", kindInternal, t.matched})
		spans++
	}
	for _, a := range t.asked[:t.n] {
		b = appendInner(b, x, inner{"auth", kindClient, a})
		spans++
	}
	for i := range x.Upstream.Legs {
		b = appendTry(b, x, i)
		spans++
	}
	tracer.enqueue(b, spans)
	if cap(b) <= maxPooled {
		*buf = b
		tracer.buffers.Put(buf)
	}
	name := t.Name[:0]
	if cap(name) > maxPooled {
		name = nil
	}
	*t = Trace{Name: name}
	tracer.traces.Put(t)
}

// head appends what every span begins with.
func head(b []byte, x *exchange.Exchange, id, parent [8]byte) []byte {
	b = appendBytes(b, spanTraceID, x.Trace.TraceID[:])
	b = appendBytes(b, spanID, id[:])
	if parent != [8]byte{} {
		b = appendBytes(b, spanParent, parent[:])
	}
	return b
}

// appendServer appends the span of the request as the client made it.
func (t *Trace) appendServer(b []byte, x *exchange.Exchange, o Outcome) []byte {
	q, start := &x.Request, len(b)
	b = head(b, x, x.Trace.SpanID, t.parent.SpanID)
	flags := uint32(sampledFlag | flagsKnown)
	if t.parent.Known() {
		flags |= flagsRemote
		if state := q.Fields.Get(exchange.Tracestate); len(state) > 0 {
			b = appendText(b, spanState, state)
		}
	}
	b = protowire.AppendFixed32(protowire.AppendTag(b, spanFlags, protowire.Fixed32Type), flags)
	method, original := methodOf(q.Method)
	b = t.appendName(b, x, method)
	b = appendVarint(b, spanKind, kindServer)
	b = appendTime(b, spanStart, x.Timing.Start)
	b = appendTime(b, spanEnd, x.Timing.End)
	b = text(b, "http.request.method", method)
	b = text(b, "http.request.method_original", original)
	b = text(b, "url.scheme", x.Client.Proto)
	b = text(b, "url.path", q.RawPath)
	b = text(b, "server.address", q.Hostname)
	b = text(b, "network.protocol.version", versionOf(q.Version))
	if x.Client.Addr.IsValid() {
		var buf [64]byte
		b = text(b, "client.address", x.Client.Addr.AppendTo(buf[:0]))
	}
	b = address(b, "network.peer.address", "network.peer.port", x.Client.Peer)
	b = text(b, "user_agent.original", q.Fields.Get(exchange.UserAgent))
	b = number(b, "http.request.body.size", x.BytesIn)
	b = number(b, "http.response.body.size", x.BytesOut)
	b = number(b, "http.response.status_code", int64(o.Status))
	b = appendDecision(b, x, o)
	if o.Status >= 500 {
		b = appendFailure(b, o.Status, x.Response.Why)
	}
	return message(b, start, scopeSpansSpan)
}

// appendDecision appends what the request met on its way.
func appendDecision(b []byte, x *exchange.Exchange, o Outcome) []byte {
	if r := x.Route; r != nil {
		b = text(b, "http.route", r.ID.Path)
		b = text(b, "podlane.namespace", r.ID.Namespace)
		b = text(b, "podlane.ingress", r.ID.Ingress)
		b = text(b, "podlane.route", r.ID.Path)
		b = text(b, "podlane.rule_host", r.ID.Host)
	}
	up := &x.Upstream
	b = number(b, "podlane.generation", int64(o.Generation))
	b = text(b, "podlane.reason", string(x.Response.Why))
	b = text(b, "podlane.request_id", x.RequestID)
	b = text(b, "podlane.service", up.Service.Name)
	b = text(b, "podlane.pod", up.Pod)
	if up.Tries > 0 {
		b = number(b, "podlane.tries", int64(up.Tries))
	}
	if up.CanaryBy != exchange.NoDecider {
		b = truth(b, "podlane.canary", up.Canary)
		b = text(b, "podlane.canary_by", string(up.CanaryBy))
	}
	return b
}

// appendName appends the name of the request's span.
func (t *Trace) appendName(b []byte, x *exchange.Exchange, method string) []byte {
	if len(t.Name) > 0 {
		return appendText(b, spanName, t.Name)
	}
	if method == otherMethod {
		method = "HTTP"
	}
	start := len(b)
	b = append(b, method...)
	if x.Route != nil {
		path := x.Route.ID.Path
		b = append(append(b, ' '), path[:min(len(path), maxText)]...)
	}
	return message(b, start, spanName)
}

// inner is a part of a request that is no message of its own.
type inner struct {
	name string
	kind uint64
	interval
}

func appendInner(b []byte, x *exchange.Exchange, in inner) []byte {
	start := len(b)
	b = head(b, x, newSpanID(), x.Trace.SpanID)
	b = appendText(b, spanName, in.name)
	b = appendVarint(b, spanKind, in.kind)
	b = appendTime(b, spanStart, in.start)
	b = appendTime(b, spanEnd, in.end)
	return message(b, start, scopeSpansSpan)
}

// appendTry appends the span of the i-th try.
func appendTry(b []byte, x *exchange.Exchange, i int) []byte {
	l, start := &x.Upstream.Legs[i], len(b)
	id := l.Span
	if id == [8]byte{} {
		id = newSpanID()
	}
	method, original := methodOf(x.Request.Method)
	b = head(b, x, id, x.Trace.SpanID)
	if method == otherMethod {
		b = appendText(b, spanName, "HTTP")
	} else {
		b = appendText(b, spanName, method)
	}
	b = appendVarint(b, spanKind, kindClient)
	b = appendTime(b, spanStart, l.Start)
	b = appendTime(b, spanEnd, l.Start.Add(l.Whole))
	b = text(b, "http.request.method", method)
	b = text(b, "http.request.method_original", original)
	b = address(b, "server.address", "server.port", l.Addr)
	if l.Version != 0 {
		b = text(b, "network.protocol.version", versionOf(l.Version))
	}
	if i > 0 {
		b = number(b, "http.request.resend_count", int64(i))
	}
	if l.Status != 0 {
		b = number(b, "http.response.status_code", int64(l.Status))
	}
	b = text(b, "podlane.pod", l.Pod)
	b = text(b, "podlane.reason", string(l.Why))
	b = truth(b, "podlane.connection.reused", l.Reused)
	if l.Connect > 0 {
		b = appendEvent(b, "connected", l.Start.Add(l.Connect))
	}
	if l.FirstByte > 0 {
		b = appendEvent(b, "first byte", l.Start.Add(l.FirstByte))
	}
	if l.Status >= 400 || l.Why != exchange.NoReason {
		b = appendFailure(b, l.Status, l.Why)
	}
	return message(b, start, scopeSpansSpan)
}

func appendEvent(b []byte, name string, t time.Time) []byte {
	start := len(b)
	return message(appendText(appendTime(b, eventTime, t), eventName, name), start, spanEvents)
}

// appendFailure appends that a span is of something that failed, and its error.type: the reason, or the status.
func appendFailure(b []byte, status int, why exchange.Why) []byte {
	if why != exchange.NoReason {
		b = text(b, "error.type", string(why))
	} else {
		var buf [8]byte
		b = text(b, "error.type", strconv.AppendInt(buf[:0], int64(status), 10))
	}
	start := len(b)
	return message(appendVarint(b, statusCode, codeError), start, spanStatus)
}

// otherMethod stands for a method that is not among those that are known: anyone may send any.
const otherMethod = "_OTHER"

// methodOf returns the method as spans have it, and that which was sent where it is another.
func methodOf(method []byte) (known string, original []byte) {
	for _, m := range [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"} {
		if string(method) == m {
			return m, nil
		}
	}
	return otherMethod, method
}

// versionOf returns a version as spans have it.
func versionOf(v exchange.Version) string {
	switch v {
	case exchange.HTTP10:
		return "1.0"
	case exchange.HTTP2:
		return "2"
	}
	return "1.1"
}
