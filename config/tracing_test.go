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

// Every flag reaches the options.
func TestTracingOptions(t *testing.T) {
	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("Authorization: Bearer a:b\n\nx-tenant:t1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := config.NewTracing()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.AddFlags(fs)
	if err := fs.Parse([]string{
		"--otlp-endpoint=grpcs://otel", "--otlp-headers-file=" + headers, "--otlp-service-name=edge", "--otlp-resource=a=b,c=d=e", "--otlp-sampler=ratio",
		"--otlp-sampler-ratio=0.5", "--otlp-sampler-parent-based=false", "--otlp-queue-spans=7", "--otlp-batch-spans=3", "--otlp-delay=2s",
	}); err != nil {
		t.Fatal(err)
	}
	got, err := o.Options()
	if err != nil {
		t.Fatal(err)
	}
	want := tracing.Settings{
		Endpoint: tracing.Endpoint{URL: "https://otel:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export", GRPC: true}, Service: "edge",
		Sampler: tracing.Sampler{Rule: tracing.Ratio, Share: 0.5}, QueueSpans: 7, BatchSpans: 3, Delay: 2e9,
	}
	if got.Settings != want || !got.Everything {
		t.Errorf("%+v, want %+v", got.Settings, want)
	}
	if a := []tracing.Attribute{{Name: "a", Value: "b"}, {Name: "c", Value: "d=e"}}; !slices.Equal(got.Resource, a) {
		t.Errorf("resource %v", got.Resource)
	}
	if a := []tracing.Attribute{{Name: "Authorization", Value: "Bearer a:b"}, {Name: "x-tenant", Value: "t1"}}; !slices.Equal(got.Headers, a) {
		t.Errorf("headers %v", got.Headers)
	}
	// What is wrong with the file is told without what is in it.
	if err := os.WriteFile(headers, []byte("Authorization: ok\nsesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("%v", err)
	}
}

// Without an endpoint nothing is traced but what the ConfigMap says.
func TestTracingIsOff(t *testing.T) {
	o, err := config.NewTracing().Options()
	if err != nil || o.Endpoint != (tracing.Endpoint{}) || o.Everything || !o.Sampler.ParentBased || o.Sampler.Rule != tracing.Always {
		t.Errorf("%+v, %v", o, err)
	}
}
