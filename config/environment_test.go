package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/tracing"
)

// variables returns what stands in for os.Getenv.
func variables(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m["OTEL_"+pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

// Where the collector is, as the specification of OpenTelemetry's exporters has it.
func TestEndpointFromEnvironment(t *testing.T) {
	const rpc = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	for _, c := range []struct {
		variables []string
		want      string // "" for no tracing
		ignored   string
	}{
		{[]string{}, "", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:4318"}, "http://otel:4318/v1/traces", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", " http://otel:4318/in/ "}, "http://otel:4318/in/v1/traces", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "https://otlp.vendor.test/otlp"}, "https://otlp.vendor.test:443/otlp/v1/traces", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://[2001:db8::1]"}, "http://[2001:db8::1]:80/v1/traces", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:4317"}, "gRPC http://otel:4317" + rpc, ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:4317", "EXPORTER_OTLP_PROTOCOL", "http/protobuf"}, "http://otel:4317/v1/traces", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "https://otel:9000/x", "EXPORTER_OTLP_PROTOCOL", "grpc"}, "gRPC https://otel:9000" + rpc, ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "otel:4317"}, "gRPC https://otel:4317" + rpc, ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "otel:4317", "EXPORTER_OTLP_INSECURE", "True"}, "gRPC http://otel:4317" + rpc, ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:1", "EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "EXPORTER_OTLP_PROTOCOL", "http/protobuf"}, "gRPC http://otel:1" + rpc, ""},
		// That for traces goes before that for all, and is used as it is.
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://all:1", "EXPORTER_OTLP_TRACES_ENDPOINT", "http://otel:4318/x"}, "http://otel:4318/x", ""},
		{[]string{"EXPORTER_OTLP_TRACES_ENDPOINT", "http://otel:4318"}, "http://otel:4318/", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:4318", "SDK_DISABLED", "TRUE"}, "", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:4318", "TRACES_EXPORTER", "none"}, "", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:4318", "TRACES_EXPORTER", "console, otlp"}, "http://otel:4318/v1/traces", ""},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:4318", "TRACES_EXPORTER", "zipkin"}, "", "OTEL_TRACES_EXPORTER"},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://otel:4318", "EXPORTER_OTLP_PROTOCOL", "http/json"}, "http://otel:4318/v1/traces", "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "otel:4318", "EXPORTER_OTLP_PROTOCOL", "http/protobuf"}, "", "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "unix:///run/otel"}, "", "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{[]string{"EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:sesame@otel"}, "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
		{[]string{"EXPORTER_OTLP_ENDPOINT", "http://sesame\x00"}, "", "OTEL_EXPORTER_OTLP_ENDPOINT"},
	} {
		o := config.TracingFrom(variables(c.variables...))
		got, err := o.Options()
		if err != nil || got.Everything != (c.want != "") || c.want != "" && got.Endpoint.String() != c.want {
			t.Errorf("%q: %q, %v; want %q", c.variables, got.Endpoint, err, c.want)
		}
		ignored := strings.Join(o.Ignored(), "; ")
		if (ignored == "") != (c.ignored == "") || !strings.HasPrefix(ignored, c.ignored) || strings.Contains(ignored, "sesame") {
			t.Errorf("%q: ignored %q, want %q", c.variables, ignored, c.ignored)
		}
	}
}

// The other variables, and that flags go before all of them.
func TestTracingFromEnvironment(t *testing.T) {
	getenv := variables(
		"EXPORTER_OTLP_ENDPOINT", "http://otel:4318", "EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a%3Db, x-tenant=t1,",
		"EXPORTER_OTLP_TRACES_COMPRESSION", "gzip", "RESOURCE_ATTRIBUTES", "service.name=lost,k8s.cluster.name=east%2Cwest", "SERVICE_NAME", "edge",
		"TRACES_SAMPLER", "parentbased_traceidratio", "TRACES_SAMPLER_ARG", "0.25", "BSP_MAX_QUEUE_SIZE", "9", "BSP_MAX_EXPORT_BATCH_SIZE", "4",
		"BSP_SCHEDULE_DELAY", "200")
	o := config.TracingFrom(getenv)
	got, err := o.Options()
	if err != nil || len(o.Ignored()) > 0 {
		t.Fatal(err, o.Ignored())
	}
	want := tracing.Settings{
		Endpoint: tracing.Endpoint{URL: "http://otel:4318/v1/traces"}, Service: "edge",
		Sampler: tracing.Sampler{Rule: tracing.Ratio, Share: 0.25, ParentBased: true}, QueueSpans: 9, BatchSpans: 4, Delay: 2e8,
	}
	if got.Settings != want || !got.Compressed {
		t.Errorf("%+v, want %+v", got, want)
	}
	if a := []tracing.Attribute{{Name: "k8s.cluster.name", Value: "east,west"}}; !slices.Equal(got.Resource, a) {
		t.Errorf("resource %v", got.Resource)
	}
	if a := []tracing.Attribute{{Name: "authorization", Value: "Bearer a=b"}, {Name: "x-tenant", Value: "t1"}}; !slices.Equal(got.Headers, a) {
		t.Errorf("headers %v", got.Headers)
	}

	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("x-tenant: t2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o = config.TracingFrom(getenv)
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.AddFlags(fs)
	if err := fs.Parse([]string{
		"--otlp-endpoint=grpc://other", "--otlp-headers-file=" + headers, "--otlp-service-name=flag", "--otlp-resource=a=b", "--otlp-sampler=never",
		"--otlp-sampler-ratio=0.5", "--otlp-sampler-parent-based=false", "--otlp-queue-spans=7", "--otlp-batch-spans=3", "--otlp-delay=2s",
		"--otlp-compression=none",
	}); err != nil {
		t.Fatal(err)
	}
	if got, err = o.Options(); err != nil {
		t.Fatal(err)
	}
	want = tracing.Settings{
		Endpoint: tracing.Endpoint{URL: "http://other:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export", GRPC: true}, Service: "flag",
		Sampler: tracing.Sampler{Rule: tracing.Never, Share: 0.5}, QueueSpans: 7, BatchSpans: 3, Delay: 2e9,
	}
	if got.Settings != want || got.Compressed {
		t.Errorf("%+v, want %+v", got, want)
	}
	// The last of a name counts, in both.
	if n := len(got.Headers); n == 0 || got.Headers[n-1] != (tracing.Attribute{Name: "x-tenant", Value: "t2"}) {
		t.Errorf("headers %v", got.Headers)
	}
	if n := len(got.Resource); n == 0 || got.Resource[n-1] != (tracing.Attribute{Name: "a", Value: "b"}) {
		t.Errorf("resource %v", got.Resource)
	}
}

// What cannot be used is as if it were not set, and told of without what may be a secret.
func TestIgnoredVariables(t *testing.T) {
	for _, c := range [][2]string{
		{"EXPORTER_OTLP_HEADERS", "authorization=sesame,sesame"},
		{"EXPORTER_OTLP_HEADERS", "a b=sesame"},
		{"EXPORTER_OTLP_HEADERS", "a=sesame%0d%0a"},
		{"RESOURCE_ATTRIBUTES", "a=sesame,b=%zz"},
		{"EXPORTER_OTLP_COMPRESSION", "zstd"},
		{"TRACES_SAMPLER", "jaeger_remote"},
		{"BSP_MAX_QUEUE_SIZE", "-1"},
		{"BSP_SCHEDULE_DELAY", "9999999999999999999"},
	} {
		o := config.TracingFrom(variables(c[0], c[1]))
		got, err := o.Options()
		if err != nil || len(got.Headers)+len(got.Resource) > 0 || got.Compressed || got.Settings.WithDefaults() != (tracing.Settings{
			Sampler: tracing.Sampler{Share: 0.01, ParentBased: true},
		}).WithDefaults() {
			t.Errorf("%q: %+v, %v", c, got, err)
		}
		if text := strings.Join(o.Ignored(), "; "); !strings.HasPrefix(text, "OTEL_"+c[0]+" has no effect") || strings.Contains(text, "sesame") {
			t.Errorf("%q: %q", c, text)
		}
	}
	// A share that is none: all, which is what the specification has for none.
	o := config.TracingFrom(variables("TRACES_SAMPLER", "traceidratio", "TRACES_SAMPLER_ARG", "NaN"))
	if got, err := o.Options(); err != nil || got.Sampler != (tracing.Sampler{Rule: tracing.Ratio, Share: 1}) || len(o.Ignored()) != 1 {
		t.Errorf("%+v, %v, %q", got.Sampler, err, o.Ignored())
	}
}

// Files that cannot be read are mistakes, whoever named them: nothing is sent with less than was asked for.
func TestFilesOfVariables(t *testing.T) {
	for _, c := range [][]string{
		{"EXPORTER_OTLP_CERTIFICATE", "/nowhere"},
		{"EXPORTER_OTLP_TRACES_CERTIFICATE", "/dev/null"},
		{"EXPORTER_OTLP_CLIENT_CERTIFICATE", "/nowhere"},
		{"EXPORTER_OTLP_CLIENT_CERTIFICATE", "/nowhere", "EXPORTER_OTLP_CLIENT_KEY", "/nowhere"},
	} {
		err := config.TracingFrom(variables(c...)).Validate()
		if err == nil || !strings.Contains(err.Error(), "OTEL_"+c[0]) || !strings.HasPrefix(err.Error(), "--otlp-") {
			t.Errorf("%q: %v", c, err)
		}
	}
}
