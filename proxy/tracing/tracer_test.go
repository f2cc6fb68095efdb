package tracing_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	receiver "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/tracing"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/test/collector"
)

// endpoint returns what text says.
func endpoint(t testing.TB, text string) tracing.Endpoint {
	t.Helper()
	e, err := tracing.ParseEndpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// start returns a Tracer that is closed at the end of the test.
func start(t testing.TB, o tracing.Options) *tracing.Tracer {
	t.Helper()
	tracer := tracing.New(context.Background(), o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = tracer.Close(ctx)
	})
	return tracer
}

// request returns an exchange as it is when its trace begins.
func request(fields ...string) *exchange.Exchange {
	x := exchange.New()
	x.Timing.Start = time.Now()
	q := &x.Request
	q.Method, q.Version, q.RawPath, q.Hostname = []byte("GET"), exchange.HTTP2, []byte("/cart/\xff"), []byte("shop.test")
	x.Client = exchange.Client{Peer: netip.MustParseAddrPort("10.0.0.9:4711"), Addr: netip.MustParseAddr("192.0.2.7"), Proto: "https"}
	x.Route = &router.Route{ID: router.RouteID{Namespace: "shop", Ingress: "web", Host: "shop.test", Path: "/cart"}}
	x.RequestID = []byte("c0ffee")
	for i := 0; i < len(fields); i += 2 {
		q.Fields.AddString(fields[i], fields[i+1])
	}
	return x
}

// answered notes two tries and an answer.
func answered(tr *tracing.Trace, x *exchange.Exchange) {
	up := &x.Upstream
	up.Tries, up.Pod, up.Service.Name, up.Canary, up.CanaryBy = 2, "cart-2", "cart", true, exchange.DecidedByWeight
	begin := x.Timing.Start
	up.Legs = append(up.Legs[:0],
		exchange.Leg{Addr: netip.MustParseAddrPort("10.1.0.1:80"), Pod: "cart-1", Start: begin, Whole: time.Millisecond, Why: exchange.ConnectFailed},
		exchange.Leg{
			Addr: netip.MustParseAddrPort("10.1.0.2:80"), Pod: "cart-2", Start: begin.Add(time.Millisecond), Connect: time.Millisecond,
			FirstByte: 2 * time.Millisecond, Whole: 3 * time.Millisecond, Status: 503, Version: exchange.HTTP11,
		})
	if tr != nil {
		tr.Matched(begin)
		tr.Asked(begin)
		tr.Try(x, &up.Legs[0])
		tr.Try(x, &up.Legs[1])
	}
	x.BytesOut, x.Response.Status = 17, 503
	x.Timing.End = begin.Add(5 * time.Millisecond)
}

// counted returns the counts once there are any: a collector has spans before it is known that it took them.
func counted(t *tracing.Tracer) tracing.Counts {
	for deadline := time.Now().Add(time.Minute); t.Counts() == (tracing.Counts{}) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	return t.Counts()
}

// overProtocols runs f with a collector of each kind.
func overProtocols(t *testing.T, f func(t *testing.T, c *collector.Collector, e tracing.Endpoint)) {
	t.Helper()
	t.Run("grpc", func(t *testing.T) {
		c := new(collector.Collector)
		f(t, c, endpoint(t, "grpc://"+c.GRPC(t)))
	})
	t.Run("http", func(t *testing.T) {
		c := new(collector.Collector)
		f(t, c, endpoint(t, "http://"+c.HTTP(t)))
	})
}

// What OpenTelemetry's own code reads of what is sent is what was noted.
func TestSpans(t *testing.T) {
	overProtocols(t, func(t *testing.T, c *collector.Collector, e tracing.Endpoint) {
		t.Helper()
		tracer := start(t, tracing.Options{
			Settings: tracing.Settings{Endpoint: e, Service: "edge", Delay: time.Millisecond}, Version: "1.2.3",
			Resource: []tracing.Attribute{{Name: "host.name", Value: "lost"}, {Name: "service.version", Value: "1.2.4"}, {Name: "host.name", Value: "node\xff"}},
			Headers:  []tracing.Attribute{{Name: "X-Tenant", Value: "t1"}},
		})
		x := request("traceparent", parent, "tracestate", "a=1,b=2", "user-agent", "curl/8", "authorization", "Bearer sesame", "cookie", "sid=sesame")
		tr := tracer.Continue(x)
		answered(tr, x)
		tr.End(x, tracing.Outcome{Status: 503, Generation: 42})
		spans := c.Await(t, 5)
		byName := map[string][]*trace.Span{}
		for _, s := range spans {
			byName[s.GetName()] = append(byName[s.GetName()], s)
			if hex.EncodeToString(s.GetTraceId()) != parent[3:35] || len(s.GetSpanId()) != 8 {
				t.Errorf("%v is of another trace", s)
			}
			if s.GetStartTimeUnixNano() == 0 || s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano() {
				t.Errorf("the times of %v", s)
			}
			if text := s.String(); strings.Contains(text, "sesame") {
				t.Errorf("a credential is in %s", text)
			}
		}
		if len(spans) != 5 || len(byName["GET /cart"]) != 1 || len(byName["match"]) != 1 || len(byName["auth"]) != 1 || len(byName["GET"]) != 2 {
			t.Fatalf("%v", byName)
		}
		server := byName["GET /cart"][0]
		checkServer(t, server)
		for _, name := range []string{"match", "auth", "GET"} {
			for _, s := range byName[name] {
				if string(s.GetParentSpanId()) != string(server.GetSpanId()) {
					t.Errorf("%v is no child of the server's span", s)
				}
			}
		}
		checkTries(t, byName["GET"])
		if r := c.Resource(); r["service.name"] != "edge" || r["service.version"] != "1.2.4" || len(r) != 3 || r["host.name"] != "node\ufffd" {
			t.Errorf("resource: %v", r)
		}
		if c.Header().Get("X-Tenant") != "t1" {
			t.Errorf("header: %v", c.Header())
		}
		if n := counted(tracer); n != (tracing.Counts{Sent: 5}) {
			t.Errorf("%+v", n)
		}
	})
}

func checkServer(t *testing.T, s *trace.Span) {
	t.Helper()
	if s.GetKind() != trace.Span_SPAN_KIND_SERVER || hex.EncodeToString(s.GetParentSpanId()) != parent[36:52] || s.GetTraceState() != "a=1,b=2" {
		t.Errorf("%v", s)
	}
	if s.GetStatus().GetCode() != trace.Status_STATUS_CODE_ERROR || s.GetFlags() != 0x301 {
		t.Errorf("status %v, flags %x", s.GetStatus(), s.GetFlags())
	}
	got := collector.Attributes(s.GetAttributes())
	for name, want := range map[string]any{
		"http.request.method": "GET", "url.scheme": "https", "url.path": "/cart/\ufffd", "server.address": "shop.test", "http.route": "/cart",
		"network.protocol.version": "2", "client.address": "192.0.2.7", "network.peer.address": "10.0.0.9", "network.peer.port": int64(4711),
		"user_agent.original": "curl/8", "http.response.status_code": int64(503), "http.response.body.size": int64(17), "error.type": "503",
		"podlane.namespace": "shop", "podlane.ingress": "web", "podlane.route": "/cart", "podlane.rule_host": "shop.test", "podlane.generation": int64(42),
		"podlane.pod": "cart-2", "podlane.service": "cart", "podlane.tries": int64(2), "podlane.canary": true, "podlane.canary_by": "weight",
		"podlane.request_id": "c0ffee",
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
}

func checkTries(t *testing.T, tries []*trace.Span) {
	t.Helper()
	failed, last := collector.Attributes(tries[0].GetAttributes()), collector.Attributes(tries[1].GetAttributes())
	if failed["podlane.pod"] != "cart-1" || failed["podlane.reason"] != "connect-failed" || failed["error.type"] != "connect-failed" ||
		failed["http.response.status_code"] != nil || tries[0].GetStatus().GetCode() != trace.Status_STATUS_CODE_ERROR {
		t.Errorf("%v", tries[0])
	}
	if last["podlane.pod"] != "cart-2" || last["server.address"] != "10.1.0.2" || last["server.port"] != int64(80) || last["http.request.resend_count"] != int64(1) ||
		last["http.response.status_code"] != int64(503) || last["network.protocol.version"] != "1.1" {
		t.Errorf("%v", tries[1])
	}
	if e := tries[1].GetEvents(); len(e) != 2 || e[0].GetName() != "connected" || e[1].GetName() != "first byte" || e[1].GetTimeUnixNano()-e[0].GetTimeUnixNano() != 1e6 {
		t.Errorf("%v", e)
	}
	if tries[0].GetKind() != trace.Span_SPAN_KIND_CLIENT {
		t.Errorf("%v", tries[0].GetKind())
	}
}

// With TLS the collector must show a certificate that the operator's authorities vouch for.
func TestSecureCollectors(t *testing.T) {
	to := new(collector.Collector)
	server := httptest.NewUnstartedServer(to)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for _, pool := range []*x509.CertPool{roots, x509.NewCertPool()} {
		var told atomic.Value
		tracer := start(t, tracing.Options{
			Settings: tracing.Settings{Endpoint: endpoint(t, server.URL), Delay: time.Hour}, RootCAs: pool, Failed: func(err error, _ uint64) { told.Store(err.Error()) },
		})
		x := request()
		tr := tracer.Begin(x)
		x.Timing.End = time.Now()
		tr.End(x, tracing.Outcome{Status: 200})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := tracer.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		why, _ := told.Load().(string)
		if n := tracer.Counts(); pool == roots && n.Sent != 1 || pool != roots && (n.Failed != 1 || !strings.Contains(why, "x509")) {
			t.Errorf("%+v, told of %q", n, why)
		}
	}
	if n := len(to.Spans()); n != 1 {
		t.Errorf("%d spans came", n)
	}
}

// What is compressed comes as it is, in one request after another.
func TestCompressed(t *testing.T) {
	overProtocols(t, func(t *testing.T, c *collector.Collector, e tracing.Endpoint) {
		t.Helper()
		tracer := start(t, tracing.Options{Settings: tracing.Settings{Endpoint: e, Delay: time.Millisecond}, Compressed: true})
		for batch := range 3 {
			for range 20 {
				x := request()
				tr := tracer.Begin(x)
				answered(tr, x)
				tr.End(x, tracing.Outcome{Status: 503})
			}
			c.Await(t, (batch+1)*20*5)
		}
		if got := c.Compression(); got != "gzip" {
			t.Errorf("compressed by %q", got)
		}
	})
}

// A collector that asks for a certificate is shown the one that is in the files when the connection is made.
func TestCollectorAsksWhoItIs(t *testing.T) {
	to := new(collector.Collector)
	server := httptest.NewUnstartedServer(to)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	asked := 0
	for _, certificate := range []func() (*tls.Certificate, error){
		nil,
		func() (*tls.Certificate, error) { return nil, errors.New("no such file") },
		func() (*tls.Certificate, error) { asked++; return &server.TLS.Certificates[0], nil },
	} {
		tracer := start(t, tracing.Options{
			Settings: tracing.Settings{Endpoint: endpoint(t, server.URL), Delay: time.Hour}, RootCAs: roots, Certificate: certificate,
		})
		x := request()
		tr := tracer.Begin(x)
		answered(tr, x)
		tr.End(x, tracing.Outcome{Status: 503})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := tracer.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if n := tracer.Counts(); (n.Sent > 0) != (asked > 0) || n.Sent+n.Failed == 0 {
			t.Errorf("%+v, asked %d times", n, asked)
		}
	}
	if asked != 1 || to.Requests() != 1 {
		t.Errorf("asked %d times, %d requests", asked, to.Requests())
	}
}

// Strangers begin traces of their own: what they say of another is not believed, and does not reach the Pod.
func TestContext(t *testing.T) {
	tracer := start(t, tracing.Options{Settings: tracing.Settings{Endpoint: endpoint(t, "http://127.0.0.1:1"), Sampler: tracing.Sampler{Rule: tracing.Never, ParentBased: true}}})
	for _, c := range []struct {
		what, parent       string
		trusted, continues bool
	}{
		{"a stranger", parent, false, false},
		{"a trusted client", parent, true, true},
		{"a trusted client with nonsense", "00-1", true, false},
	} {
		x := request("Traceparent", c.parent, "TraceState", "a=1")
		begin := tracer.Begin
		if c.trusted {
			begin = tracer.Continue
		}
		tr := begin(x)
		told := string(x.Request.Fields.Get(exchange.Traceparent))
		if (tr != nil) != c.continues || x.Request.Fields.Count(exchange.Traceparent) != 1 || x.Request.Fields.Has(exchange.Tracestate) != c.continues {
			t.Errorf("%s: recorded %v, and the Pod is told %q with state %v", c.what, tr != nil, told, x.Request.Fields.Has(exchange.Tracestate))
		}
		if continues := strings.HasPrefix(told, parent[:35]); continues != c.continues || strings.Contains(told, parent[36:52]) {
			t.Errorf("%s: the Pod is told %q", c.what, told)
		}
		if _, ok := tracing.ParseParent([]byte(told)); !ok || strings.HasSuffix(told, "-01") != c.continues {
			t.Errorf("%s: the Pod is told %q", c.what, told)
		}
	}
	twice := request("traceparent", parent, "traceparent", parent)
	if tracer.Continue(twice) != nil || twice.Request.Fields.Count(exchange.Traceparent) != 1 {
		t.Error("two contexts are none")
	}
}

// A collector that is away costs spans and nothing else: what waits is bounded, what is lost is counted, and told of once.
func TestCollectorAway(t *testing.T) {
	var told, lost atomic.Uint64
	tracer := start(t, tracing.Options{
		Settings: tracing.Settings{Endpoint: endpoint(t, "grpc://127.0.0.1:1"), QueueSpans: 100, BatchSpans: 10, Delay: time.Millisecond},
		Failed:   func(_ error, n uint64) { told.Add(1); lost.Add(n) },
	})
	const traces = 5000
	for range traces {
		x := request()
		tr := tracer.Begin(x)
		answered(tr, x)
		tr.End(x, tracing.Outcome{Status: 200})
		x.Release()
	}
	if n := tracer.Counts(); n.Sent != 0 || n.Dropped < 5*traces-200 {
		t.Errorf("%+v: want 100 spans to wait at most, and the others to be dropped", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := tracer.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := tracer.Counts(); n.Failed+n.Dropped != 5*traces || n.Failed == 0 {
		t.Errorf("%+v: want %d in all", n, 5*traces)
	}
	if told.Load() != 1 || lost.Load() == 0 {
		t.Errorf("told %d times, of %d spans", told.Load(), lost.Load())
	}
	x := request()
	tr := tracer.Begin(x)
	x.Timing.End = time.Now()
	before := tracer.Counts().Dropped
	if tr.End(x, tracing.Outcome{}); tracer.Counts().Dropped != before+1 {
		t.Errorf("a span after Close: %+v", tracer.Counts())
	}
}

// A collector that takes connections and never answers holds nobody up, Close neither.
func TestSilentCollector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tracer := tracing.New(t.Context(), tracing.Options{Settings: tracing.Settings{Endpoint: endpoint(t, "http://"+l.Addr().String()), Delay: time.Millisecond}})
	x := request()
	tr := tracer.Begin(x)
	x.Timing.End = time.Now()
	tr.End(x, tracing.Outcome{Status: 200})
	c, err := l.Accept() // it is being sent
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tracer.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n := tracer.Counts(); n != (tracing.Counts{Failed: 1}) {
		t.Errorf("%+v", n)
	}
}

// What a collector cannot take now is sent again; what it refuses is not, and counted.
func TestAnswersOfCollectors(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		// part is how many spans of the first request are refused.
		part     int64
		requests int
		want     tracing.Counts
	}{
		{"busy", status.Error(codes.Unavailable, "later"), 0, 2, tracing.Counts{Sent: 1}},
		{"refusing", status.Error(codes.InvalidArgument, "no"), 0, 1, tracing.Counts{Failed: 1}},
		{"in part", nil, 1, 1, tracing.Counts{Failed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := true
			to := &collector.Collector{Answer: func(*receiver.ExportTraceServiceRequest) (*receiver.ExportTraceServiceResponse, error) {
				answer := &receiver.ExportTraceServiceResponse{}
				if !first {
					return answer, nil
				}
				if first = false; c.part > 0 {
					answer.PartialSuccess = &receiver.ExportTracePartialSuccess{RejectedSpans: c.part, ErrorMessage: "too old"}
				}
				return answer, c.err
			}}
			tracer := start(t, tracing.Options{Settings: tracing.Settings{Endpoint: endpoint(t, "grpc://"+to.GRPC(t)), Delay: time.Millisecond}})
			x := request()
			tr := tracer.Begin(x)
			x.Timing.End = time.Now()
			tr.End(x, tracing.Outcome{Status: 200})
			if n := counted(tracer); n != c.want || to.Requests() != c.requests {
				t.Errorf("%+v after %d requests, want %+v after %d", n, to.Requests(), c.want, c.requests)
			}
		})
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop objects at random")
	}
	tracer := start(t, tracing.Options{Settings: tracing.Settings{Endpoint: endpoint(t, "http://127.0.0.1:1"), QueueSpans: 50, Delay: time.Hour}})
	x := request("traceparent", parent, "tracestate", "a=1", "user-agent", "curl/8")
	if n := testing.AllocsPerRun(500, func() {
		tr := tracer.Continue(x)
		answered(tr, x)
		tr.End(x, tracing.Outcome{Status: 200, Generation: 1})
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"grpc://otel:14317":       "gRPC http://otel:14317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
		"grpcs://otel/":           "gRPC https://otel:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
		"http://otel":             "http://otel:4318/v1/traces",
		"https://[2001:db8::1]/x": "https://[2001:db8::1]:4318/x",
		"otel:4317":               "",
		"grpc://otel/x":           "",
		"http://":                 "",
		"http://u:p@otel":         "",
		"http://otel?x":           "",
		"ftp://otel":              "",
		"http://\x00":             "",
	} {
		e, err := tracing.ParseEndpoint(text)
		if (err == nil) != (want != "") || err == nil && e.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, e, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "grpc://collector:4317") {
			t.Errorf("%q: %v does not say what to write", text, err)
		}
	}
}
