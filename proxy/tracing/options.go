package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Attribute is a name and a value.
type Attribute struct{ Name, Value string }

// Settings say what is recorded and where it goes. They are comparable; the zero value of a field means the default beside it.
type Settings struct {
	// Endpoint is the collector's; without one nothing is traced.
	Endpoint Endpoint
	// Service is the resource's service.name ("podlane").
	Service string
	Sampler Sampler
	// QueueSpans (2048) may wait for the collector; BatchSpans (512) are sent in one request, and Delay (5 s) is how long the first of them waits.
	QueueSpans, BatchSpans int
	Delay                  time.Duration
}

// The defaults of Settings, OpenTelemetry's own.
const (
	DefaultService    = "podlane"
	DefaultQueueSpans = 2048
	DefaultBatchSpans = 512
	DefaultDelay      = 5 * time.Second
)

// WithDefaults returns s with defaults in the place of zeros.
func (s Settings) WithDefaults() Settings {
	if s.Service == "" {
		s.Service = DefaultService
	}
	if s.QueueSpans <= 0 {
		s.QueueSpans = DefaultQueueSpans
	}
	if s.BatchSpans <= 0 {
		s.BatchSpans = DefaultBatchSpans
	}
	if s.Delay <= 0 {
		s.Delay = DefaultDelay
	}
	s.BatchSpans = min(s.BatchSpans, s.QueueSpans)
	return s
}

// Options are the settings of a Tracer, and what no table says.
type Options struct {
	Settings
	// Resource describes this process further.
	Resource []Attribute
	// Version is the program's.
	Version string
	// Headers go with each request to the collector. They may be secrets, and are never told.
	Headers []Attribute
	// RootCAs verify the collector where Endpoint is encrypted; nil stands for those of the system.
	RootCAs *x509.CertPool
	// Certificate, where set, returns what the collector is shown; it is called for each connection.
	Certificate func() (*tls.Certificate, error)
	// Compressed has what is sent compressed by gzip.
	Compressed bool
	// Everything traces requests of routes that do not say whether they are, and those without a route.
	Everything bool
	// Failed, where set, is told that the collector took spans not: at most once a minute, with the last cause and how many were lost since it was told
	// before. It must not block.
	Failed func(err error, lost uint64)
}

// Endpoint is where a collector takes spans. It is comparable; the zero Endpoint is none.
type Endpoint struct {
	// URL has a scheme of http or https, the host with its port, and for OTLP over HTTP the path.
	URL string
	// GRPC says that gRPC is spoken there, and not HTTP.
	GRPC bool
}

// errEndpoint says how an endpoint is written.
var errEndpoint = errors.New("write grpc://collector:4317 or http://collector:4318, or with TLS grpcs:// or https://")

// ParseEndpoint reads what --otlp-endpoint says: grpc, grpcs, http or https, a host, and a port (4317 for gRPC, 4318 for HTTP); over HTTP a path too,
// in place of /v1/traces.
func ParseEndpoint(text string) (Endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Endpoint{}, errors.Join(fmt.Errorf("%q is not a URL", text), errEndpoint)
	}
	e := Endpoint{GRPC: strings.HasPrefix(u.Scheme, "grpc")}
	port := "4318"
	switch u.Scheme {
	case "grpc":
		u.Scheme, port = "http", "4317"
	case "grpcs":
		u.Scheme, port = "https", "4317"
	case "http", "https":
	default:
		return Endpoint{}, fmt.Errorf("%q: the scheme %q is unknown: %w", text, u.Scheme, errEndpoint)
	}
	switch {
	case u.Hostname() == "":
		return Endpoint{}, fmt.Errorf("%q has no host: %w", text, errEndpoint)
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return Endpoint{}, fmt.Errorf("%q has more than a host, a port and a path: %w", text, errEndpoint)
	case e.GRPC && u.Path != "" && u.Path != "/":
		return Endpoint{}, fmt.Errorf("%q: gRPC has no path: %w", text, errEndpoint)
	case u.Port() == "":
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	switch {
	case e.GRPC:
		u.Path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	case u.Path == "" || u.Path == "/":
		u.Path = "/v1/traces"
	}
	e.URL = u.String()
	return e, nil
}

// Exactly returns e, which ParseEndpoint made of text, with the path that text has over HTTP: / where it has none.
func (e Endpoint) Exactly(text string) Endpoint {
	if u, err := url.Parse(text); err == nil && !e.GRPC && (u.Path == "" || u.Path == "/") {
		e.URL = strings.TrimSuffix(e.URL, "/v1/traces") + "/"
	}
	return e
}

// String returns the URL, which holds no secrets.
func (e Endpoint) String() string {
	if e.GRPC {
		return "gRPC " + e.URL
	}
	return e.URL
}
