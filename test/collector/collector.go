// Package collector is a collector of OpenTelemetry for tests: it takes spans over OTLP, by gRPC or HTTP, with the code that OpenTelemetry and gRPC
// publish and none of ours, and keeps them.
package collector

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	receiver "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // by its import gRPC's server can read it
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"
)

// Collector keeps the spans that it was sent. Its methods may be called concurrently.
type Collector struct {
	// Answer, where set, says what a request gets, before its spans are kept: they are, where the error is nil. By HTTP, an error is 503.
	Answer func(*receiver.ExportTraceServiceRequest) (*receiver.ExportTraceServiceResponse, error)

	receiver.UnimplementedTraceServiceServer
	mu       sync.Mutex
	spans    []*trace.Span
	resource *resource.Resource
	header   http.Header
	requests int
	// compression is that of the last request, "" for none.
	compression string
}

// GRPC starts to take spans by gRPC, until the test ends, and returns where.
func (c *Collector) GRPC(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.StatsHandler(compressions{c}))
	receiver.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("collector: %v", err)
		}
	})
	return l.Addr().String()
}

// HTTP starts to take spans by HTTP, until the test ends, and returns where; the path is /v1/traces.
func (c *Collector) HTTP(t testing.TB) (address string) {
	t.Helper()
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// Export implements the service of gRPC.
func (c *Collector) Export(ctx context.Context, q *receiver.ExportTraceServiceRequest) (*receiver.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	header := http.Header{}
	for name, values := range md {
		for _, value := range values {
			header.Add(name, value)
		}
	}
	return c.take(q, header)
}

// ServeHTTP implements OTLP over HTTP.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header), http.StatusBadRequest)
		return
	}
	c.compressed(r.Header.Get("Content-Encoding"))
	body, err := bodyOf(r)
	q := new(receiver.ExportTraceServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, q)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := c.take(q, r.Header)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	body, err = proto.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(body) // the client is gone
}

// bodyOf reads a body, which may be compressed.
func bodyOf(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(r.Body)
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func (c *Collector) take(q *receiver.ExportTraceServiceRequest, header http.Header) (*receiver.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	answer := &receiver.ExportTraceServiceResponse{}
	if c.Answer != nil {
		var err error
		if answer, err = c.Answer(q); err != nil {
			return nil, err
		}
	}
	c.header = header
	for _, r := range q.GetResourceSpans() {
		c.resource = r.GetResource()
		for _, s := range r.GetScopeSpans() {
			c.spans = append(c.spans, s.GetSpans()...)
		}
	}
	return answer, nil
}

// Spans returns the spans so far.
func (c *Collector) Spans() []*trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Requests returns the number of requests so far, whatever they got.
func (c *Collector) Requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// Header returns the header of the last request that was taken.
func (c *Collector) Header() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header
}

// Compression returns how the last request was compressed, "" for not at all.
func (c *Collector) Compression() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.compression
}

func (c *Collector) compressed(by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compression = by
}

// compressions notes what the library tells the service's method nothing of. It implements stats.Handler.
type compressions struct{ c *Collector }

func (compressions) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (compressions) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (compressions) HandleConn(context.Context, stats.ConnStats)                       {}

func (h compressions) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InHeader); ok {
		h.c.compressed(in.Compression)
	}
}

// Resource returns the attributes of the resource that spans were last sent of.
func (c *Collector) Resource() map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Attributes(c.resource.GetAttributes())
}

// Await waits until there are n spans, and returns all.
func (c *Collector) Await(t testing.TB, n int) []*trace.Span {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		spans := c.Spans()
		if len(spans) >= n {
			return spans
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d spans came, want %d: %v", len(spans), n, spans)
		}
	}
}

// Attributes returns attributes as a map of strings, int64s and bools; what has the name of another, as "again NAME".
func Attributes(list []*common.KeyValue) map[string]any {
	m := make(map[string]any, len(list))
	for _, a := range list {
		key := a.GetKey()
		if _, there := m[key]; there {
			key = "again " + key
		}
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[key] = v.IntValue
		case *common.AnyValue_BoolValue:
			m[key] = v.BoolValue
		default:
			m[key] = fmt.Sprint("unexpected ", a.GetValue())
		}
	}
	return m
}
