package config

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"podlane.dev/podlane/proxy/tracing"
)

// Tracing are the options of traces, which go to a collector of OpenTelemetry.
type Tracing struct {
	// Endpoint is the collector's URL, "" for none.
	Endpoint string
	// HeadersFile holds fields for the collector, a line each; CAFile certificates of those that vouch for it. Both are read at the start.
	HeadersFile, CAFile string
	// CertFile and KeyFile are what shows the collector who this is; "" for nothing. They are read at the start, and again for each connection.
	CertFile, KeyFile string
	// Compression is gzip or none.
	Compression string
	// Service is the resource's service.name, Resource holds further attributes of it as NAME=VALUE.
	Service  string
	Resource Words
	// Sampler is always, never or ratio; Ratio its share; ParentBased has the parent decide where there is one.
	Sampler     string
	Ratio       float64
	ParentBased bool
	// QueueSpans may wait for the collector, BatchSpans are sent together, Delay is how long the first of them waits.
	QueueSpans, BatchSpans int
	Delay                  time.Duration

	// What the environment gave that no flag has: see TracingFrom. exact is an endpoint that is used as it is, caFrom and certFrom name the variables that
	// CAFile and CertFile are from.
	exact, caFrom, certFrom           string
	variableHeaders, variableResource []tracing.Attribute
	ignored                           []string
}

// The forms of Compression.
const (
	compressNone = "none"
	compressGzip = "gzip"
)

// NewTracing returns the defaults.
func NewTracing() *Tracing {
	return &Tracing{
		Service: tracing.DefaultService, Sampler: tracing.Always.String(), Ratio: 0.01, ParentBased: true, Compression: compressNone,
		QueueSpans: tracing.DefaultQueueSpans, BatchSpans: tracing.DefaultBatchSpans, Delay: tracing.DefaultDelay,
	}
}

// Title is the heading in --help.
func (*Tracing) Title() string { return "Traces" }

// AddFlags binds the options to fs.
func (t *Tracing) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&t.Endpoint, "otlp-endpoint", t.Endpoint,
		"collector of OpenTelemetry that gets spans of all requests but those with enable-opentelemetry: \"false\": grpc://HOST:4317 or http://HOST:4318, "+
			"or grpcs:// or https:// with TLS; otlp-collector-host of the ConfigMap goes before it, as otel-* do before the others, and "+
			"OpenTelemetry's variables, such as OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_TRACES_SAMPLER, stand where a flag is not set")
	fs.StringVar(&t.HeadersFile, "otlp-headers-file", t.HeadersFile, "file with fields for the collector, such as \"Authorization: Bearer ...\", one a line")
	fs.StringVar(&t.CAFile, "otlp-ca-file", t.CAFile, "PEM file with certificates that vouch for the collector; without it the system's")
	fs.StringVar(&t.CertFile, "otlp-client-cert-file", t.CertFile, "PEM file with the certificate that the collector is shown; with --otlp-client-key-file")
	fs.StringVar(&t.KeyFile, "otlp-client-key-file", t.KeyFile, "PEM file with its key; both are read again for each connection")
	fs.Var(choice{&t.Compression, []string{compressNone, compressGzip}}, "otlp-compression", "how what is sent to the collector is compressed")
	fs.StringVar(&t.Service, "otlp-service-name", t.Service, "service.name of the spans")
	fs.Var(&t.Resource, "otlp-resource", "further attributes of the resource, NAME=VALUE between commas, as in k8s.cluster.name=east")
	fs.Var(choice{&t.Sampler, []string{tracing.Always.String(), tracing.Never.String(), tracing.Ratio.String()}}, "otlp-sampler",
		"which requests that begin a trace are recorded")
	fs.Float64Var(&t.Ratio, "otlp-sampler-ratio", t.Ratio, "share that --otlp-sampler=ratio records, from 0 to 1")
	fs.BoolVar(&t.ParentBased, "otlp-sampler-parent-based", t.ParentBased,
		"record a request that continues a trace exactly where that is recorded; whose word is taken about that, opentelemetry-trust-incoming-span says")
	fs.IntVar(&t.QueueSpans, "otlp-queue-spans", t.QueueSpans, "spans that may wait for the collector; those beyond are dropped and counted")
	fs.IntVar(&t.BatchSpans, "otlp-batch-spans", t.BatchSpans, "spans that are sent together")
	addDuration(fs, &t.Delay, "otlp-delay", "how long a span waits for others")
}

// Validate checks the values, and reads the files.
func (t *Tracing) Validate() error {
	_, err := t.Options()
	return err
}

// Ignored returns a sentence for each variable of the environment that could not be used.
func (t *Tracing) Ignored() []string { return t.ignored }

// Options returns the options as proxy/tracing takes them, or the mistake in them.
func (t *Tracing) Options() (tracing.Options, error) {
	o := tracing.Options{Everything: t.Endpoint != "", Settings: tracing.Settings{
		Service: t.Service, QueueSpans: t.QueueSpans, BatchSpans: t.BatchSpans, Delay: t.Delay,
		Sampler: tracing.Sampler{Rule: map[string]tracing.Rule{"never": tracing.Never, "ratio": tracing.Ratio}[t.Sampler], Share: t.Ratio, ParentBased: t.ParentBased},
	}}
	var err error
	if t.Endpoint != "" {
		if o.Endpoint, err = tracing.ParseEndpoint(t.Endpoint); err != nil {
			return o, fmt.Errorf("--otlp-endpoint: %w", err)
		}
		if t.Endpoint == t.exact {
			o.Endpoint = o.Endpoint.Exactly(t.exact)
		}
	}
	if t.Service == "" {
		return o, errors.New("--otlp-service-name is empty: write a name such as podlane")
	}
	// The negation is true for NaN too.
	if !(t.Ratio >= 0 && t.Ratio <= 1) {
		return o, fmt.Errorf("--otlp-sampler-ratio: %g is no share: write a number from 0 to 1, such as 0.25", t.Ratio)
	}
	if err := first(
		atLeast("otlp-queue-spans", t.QueueSpans, 1, "1"), atLeast("otlp-batch-spans", t.BatchSpans, 1, "1"),
		atLeast("otlp-delay", t.Delay, time.Millisecond, "1ms"),
	); err != nil {
		return o, err
	}
	o.Compressed = t.Compression == compressGzip
	o.Resource = slices.Clone(t.variableResource)
	for _, pair := range t.Resource {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" || value == "" {
			return o, fmt.Errorf("--otlp-resource: %q is not NAME=VALUE: write k8s.cluster.name=east", pair)
		}
		o.Resource = append(o.Resource, tracing.Attribute{Name: name, Value: value})
	}
	if o.Headers, err = t.headers(); err != nil {
		return o, err
	}
	if o.RootCAs, err = t.roots(); err != nil {
		return o, err
	}
	o.Certificate, err = t.certificate()
	return o, err
}

// certificate returns what reads the certificate that the collector is shown, nil where it is shown none. That can be read now.
func (t *Tracing) certificate() (func() (*tls.Certificate, error), error) {
	if t.CertFile == "" && t.KeyFile == "" {
		return nil, nil //nolint:nilnil // see above
	}
	name, cert, key := fileOption("--otlp-client-cert-file", t.certFrom), t.CertFile, t.KeyFile
	if cert == "" || key == "" {
		return nil, fmt.Errorf("%s: a certificate and its key go together: name the files of both", name)
	}
	read := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return &pair, nil
	}
	_, err := read()
	return read, err
}

// fileOption returns the name of an option for a message: that of its flag, and of the variable that may have set it.
func fileOption(flag, variable string) string {
	if variable == "" {
		return flag
	}
	return flag + " (" + variable + ")"
}

// headers reads the file with fields for the collector; those that a variable gave stand before them. No error tells what is in it: these are secrets.
func (t *Tracing) headers() ([]tracing.Attribute, error) {
	list := slices.Clone(t.variableHeaders)
	if t.HeadersFile == "" {
		return list, nil
	}
	text, err := os.ReadFile(t.HeadersFile)
	if err != nil {
		return nil, fmt.Errorf("--otlp-headers-file: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok || !isFieldName(name) || !isFieldValue(value) {
			return nil, fmt.Errorf("--otlp-headers-file: line %d of %s is no field: write \"Authorization: Bearer ...\"", n, t.HeadersFile)
		}
		list = append(list, tracing.Attribute{Name: name, Value: value})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--otlp-headers-file: %s: %w", t.HeadersFile, err)
	}
	return list, nil
}

// isFieldName reports whether s is letters, digits, dashes and underscores.
func isFieldName(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s is something in visible ASCII.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// roots reads the file with certificates; nil stands for those of the system.
func (t *Tracing) roots() (*x509.CertPool, error) {
	if t.CAFile == "" {
		return nil, nil //nolint:nilnil // see above
	}
	text, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileOption("--otlp-ca-file", t.caFrom), err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM", fileOption("--otlp-ca-file", t.caFrom), t.CAFile)
	}
	return pool, nil
}
