// Package tracing makes spans of requests and sends them to a collector of OpenTelemetry (OTLP, over gRPC or HTTP). It owns the trace context of W3C
// on the way in and out, sampling, what a span says, and the queue of spans that wait for the collector.
//
// Whoever serves a request notes a few times and, at its end, encodes the spans and copies the bytes into a queue; one goroutine sends what has come
// together. Nothing here waits for the collector, and what it does not take is dropped and counted. A span never holds the query of a URL, nor a field
// that a client proves its identity with.
package tracing
