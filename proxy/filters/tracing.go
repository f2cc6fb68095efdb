package filters

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/tracing"
	"podlane.dev/podlane/router/policy"
)

// Tracing says whether the requests of one Route are traced, and how. The zero value leaves it to the proxy.
type Tracing struct {
	On Say
	// Trust says whose word is taken about the trace that a request is a part of: everybody's, nobody's, or trusted proxies' where nothing is said.
	Trust Say
	// Name is the name of the request's span, nil for the usual one.
	Name *expr.Expr
}

// String returns the value for the text of a Table.
func (t Tracing) String() string {
	name := "-"
	if t.Name != nil {
		name = strconv.Quote(t.Name.String())
	}
	return fmt.Sprintf("on %s, trusted %s, name %s", t.On, t.Trust, name)
}

// OpenTelemetry returns the family of which requests are traced.
func OpenTelemetry() Policy {
	return &Of[Tracing]{
		Of: policy.Of[Tracing]{
			Name: "opentelemetry",
			Doc: "Whether requests are traced, where there is a collector (--otlp-endpoint, otlp-collector-host). Pods get traceparent and tracestate (W3C Trace " +
				"Context) of each try. Where a route is not traced they get what the client sent.",
			Keys: []policy.Key{
				{
					Name: "enable-opentelemetry", Kind: policy.Bool, Where: policy.Everywhere, Default: "true with --otlp-endpoint, else false", Example: "true",
					Doc:     "Traces the requests.",
					Differs: "requests that no route gets are traced with --otlp-endpoint alone",
				},
				{
					Name: "opentelemetry-trust-incoming-span", Kind: policy.Bool, Where: policy.Everywhere, Default: "those of --trusted-proxies", Compat: "true",
					Example: "false",
					Doc: "Whether a request continues the trace that its traceparent names: of every client, or of none. Whoever is trusted decides what is " +
						"recorded, where the sampler is parent-based.",
				},
				{
					Name: "opentelemetry-operation-name", Kind: policy.String, Where: policy.Everywhere, Default: "the method and the path of the rule",
					Example: "HTTP $request_method $service_name",
					Doc:     "Name of the request's span, with variables.",
					Differs: "it is made when the request begins; variables that hold what clients prove themselves with ($http_authorization, cookies) are refused",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseTracing,
		},
		Extend: func(c *Chain, v Tracing) { c.Tracing = v },
	}
}

func parseTracing(v policy.Values) (Tracing, error) {
	var t Tracing
	var err1, err2, err3 error
	t.On, err1 = say(v, "enable-opentelemetry")
	t.Trust, err2 = say(v, "opentelemetry-trust-incoming-span")
	if text := v.Text("opentelemetry-operation-name", ""); text != "" {
		if t.Name, err3 = expr.ParseLog(text); err3 != nil {
			err3 = fmt.Errorf("opentelemetry-operation-name: %w", err3)
		}
	}
	return t, errors.Join(err1, err2, err3)
}

// Traces is what the operator says of traces. The zero value of a field says nothing.
type Traces struct {
	Endpoint tracing.Endpoint
	Service  string
	// Rule is what otel-sampler says; Ruled says that it says something. Share is -1 where nothing is said of it.
	Rule         tracing.Rule
	Ruled        bool
	Share        float64
	ParentBased  Say
	Queue, Batch int
	Delay        time.Duration
}

// String returns the value for the text of a Table.
func (t Traces) String() string {
	text := fmt.Sprintf("to %s as %s", cmp.Or(t.Endpoint.URL, "-"), cmp.Or(t.Service, "-"))
	if t.Ruled {
		text += ", sampler " + t.Rule.String()
	}
	if t.Share >= 0 {
		text += fmt.Sprintf(", share %g", t.Share)
	}
	return text + fmt.Sprintf(", parent-based %s, queue %d, batch %d, delay %s", t.ParentBased, t.Queue, t.Batch, t.Delay)
}

// Overlay puts what is said into s.
func (t *Traces) Overlay(s *tracing.Settings) {
	if *t == (Traces{}) {
		return
	}
	s.Endpoint = cmp.Or(t.Endpoint, s.Endpoint)
	s.Service = cmp.Or(t.Service, s.Service)
	s.QueueSpans, s.BatchSpans, s.Delay = cmp.Or(t.Queue, s.QueueSpans), cmp.Or(t.Batch, s.BatchSpans), cmp.Or(t.Delay, s.Delay)
	if t.Ruled {
		s.Sampler.Rule = t.Rule
	}
	if t.Share >= 0 {
		s.Sampler.Share = t.Share
	}
	if t.ParentBased != Unsaid {
		s.Sampler.ParentBased = t.ParentBased == Yes
	}
}

// samplers are ingress-nginx's words.
var samplers = map[string]tracing.Rule{"AlwaysOn": tracing.Always, "AlwaysOff": tracing.Never, "TraceIdRatioBased": tracing.Ratio}

// TracesSettings returns the family of where traces go, and what is recorded.
func TracesSettings() Policy {
	return &Of[Traces]{
		Of: policy.Of[Traces]{
			Name: "opentelemetry-settings",
			Doc: "Where spans go, over OTLP, and how many of the requests are recorded. What is said goes before the flags of the same meaning. Spans wait in a " +
				"bounded queue; a collector that is away costs spans, which are counted, and no request waits.",
			Keys:      tracesKeys(),
			IfInvalid: policy.Ignore,
			Global:    true,
			Parse:     parseTraces,
		},
		Global: func(s *Settings, v Traces) { s.Traces = v },
	}
}

func tracesKeys() []policy.Key {
	key := func(name string, kind policy.Kind, says [4]string) policy.Key {
		return policy.Key{Name: name, Kind: kind, Where: policy.ConfigMap, Default: says[0], Example: says[1], Doc: says[2], Differs: says[3]}
	}
	return []policy.Key{
		key("otlp-collector-host", policy.String, [4]string{"--otlp-endpoint", "collector.observability", "Name or address of the collector, which takes OTLP over gRPC.", ""}),
		key("otlp-collector-port", policy.Int, [4]string{"4317", "14317", "Its port.", ""}),
		key("otel-service-name", policy.String, [4]string{"--otlp-service-name", "edge", "The resource's service.name.", "the default is podlane"}),
		key("otel-sampler", policy.String, [4]string{
			"AlwaysOn", "TraceIdRatioBased",
			"Which requests that begin a trace are recorded: AlwaysOn, AlwaysOff or TraceIdRatioBased.", "",
		}),
		key("otel-sampler-ratio", policy.String, [4]string{"0.01", "0.25", "The share that TraceIdRatioBased records, from 0 to 1.", ""}),
		key("otel-sampler-parent-based", policy.Bool, [4]string{"true", "false", "Whether a request that continues a trace is recorded exactly where that is.", ""}),
		key("otel-max-queuesize", policy.Int, [4]string{"2048", "10000", "How many spans may wait for the collector.", ""}),
		key("otel-schedule-delay-millis", policy.Int, [4]string{"5000", "1000", "How long a span waits for others, in milliseconds.", ""}),
		key("otel-max-export-batch-size", policy.Int, [4]string{"512", "128", "How many spans are sent together.", ""}),
	}
}

// maxQueue bounds what waits for the collector, in spans of about half a kilobyte, and maxDelay how long they wait for others.
const (
	maxQueue = 1 << 20
	maxDelay = 60_000
)

func parseTraces(v policy.Values) (Traces, error) {
	t := Traces{Service: v.Text("otel-service-name", ""), Share: -1}
	var errs []error
	number := func(key string, most int) int {
		n, err := v.Int(key, 0)
		if err == nil && v.Has(key) && (n < 1 || n > most) {
			err = &policy.ValueError{Key: key, Value: v[key], Want: fmt.Sprintf("a number from 1 to %d", most)}
		}
		if err != nil {
			errs = append(errs, err)
		}
		return n
	}
	t.Queue, t.Batch = number("otel-max-queuesize", maxQueue), number("otel-max-export-batch-size", maxQueue)
	t.Delay = time.Duration(number("otel-schedule-delay-millis", maxDelay)) * time.Millisecond
	port := cmp.Or(number("otlp-collector-port", 1<<16-1), 4317)
	if host := v.Text("otlp-collector-host", ""); host != "" {
		var err error
		if t.Endpoint, err = tracing.ParseEndpoint("grpc://" + net.JoinHostPort(host, strconv.Itoa(port))); err != nil || !isHost(host) {
			errs = append(errs, &policy.ValueError{Key: "otlp-collector-host", Value: host, Want: `the name or address of a collector, as in "collector.observability"`})
		}
	}
	var err error
	if t.ParentBased, err = say(v, "otel-sampler-parent-based"); err != nil {
		errs = append(errs, err)
	}
	return t, errors.Join(append(errs, parseSampler(v, &t))...)
}

// isHost reports whether s is a name of a host, or an address.
func isHost(s string) bool {
	if net.ParseIP(s) != nil {
		return true
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' && s[i] != '.' && s[i] != '_' {
			return false
		}
	}
	return true
}

func parseSampler(v policy.Values, t *Traces) error {
	var errs []error
	if name := v.Text("otel-sampler", ""); name != "" {
		if t.Rule, t.Ruled = samplers[name]; !t.Ruled {
			errs = append(errs, &policy.ValueError{Key: "otel-sampler", Value: name, Want: "AlwaysOn, AlwaysOff or TraceIdRatioBased"})
		}
	}
	if text := v.Text("otel-sampler-ratio", ""); text != "" {
		share, err := strconv.ParseFloat(text, 64)
		// The negation is true for NaN too.
		if err != nil || !(share >= 0 && share <= 1) {
			return errors.Join(append(errs, &policy.ValueError{Key: "otel-sampler-ratio", Value: text, Want: "a number from 0 to 1, as in 0.25"})...)
		}
		t.Share = share
	}
	return errors.Join(errs...)
}
