package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/tracing"
)

// The variables of OpenTelemetry's specification that come in two forms: for traces, and for all signals.
const (
	otlpTraces = "OTEL_EXPORTER_OTLP_TRACES_"
	otlpAll    = "OTEL_EXPORTER_OTLP_"
)

// environment reads variables of OpenTelemetry. What it cannot use is as if it were not set, as the specification demands, and noted.
type environment struct {
	getenv  func(string) string
	ignored []string
}

// value returns a variable without space around it.
func (e *environment) value(name string) string { return strings.TrimSpace(e.getenv(name)) }

// exporter returns a variable of the exporter, that for traces before that for all signals, and its name.
func (e *environment) exporter(name string) (value, from string) {
	for _, from := range [...]string{otlpTraces + name, otlpAll + name} {
		if value := e.value(from); value != "" {
			return value, from
		}
	}
	return "", ""
}

// ignore notes that a variable is not used, and why, without what is in it.
func (e *environment) ignore(name, why string) {
	e.ignored = append(e.ignored, name+" has no effect: "+why)
}

// TracingFrom returns the defaults that the environment gives: the variables OTEL_* of OpenTelemetry's specification, which flags go before. getenv is
// os.Getenv. The result's Ignored says what could not be used.
func TracingFrom(getenv func(string) string) *Tracing {
	t, e := NewTracing(), &environment{getenv: getenv}
	t.Endpoint = e.endpoint()
	if e.value(otlpTraces+"ENDPOINT") != "" {
		t.exact = t.Endpoint // that for traces is used as it is
	}
	t.CAFile, t.caFrom = e.exporter("CERTIFICATE")
	t.CertFile, t.certFrom = e.exporter("CLIENT_CERTIFICATE")
	t.KeyFile, _ = e.exporter("CLIENT_KEY")
	e.compression(t)
	e.sampler(t)
	e.resource(t)
	e.batches(t)
	text, from := e.exporter("HEADERS")
	list, why := pairs(text)
	for _, h := range list {
		if !isFieldName(h.Name) || !isFieldValue(h.Value) {
			list, why = nil, "it holds what is no field of HTTP"
		}
	}
	if t.variableHeaders = list; why != "" {
		e.ignore(from, why+"; write NAME=VALUE between commas, percent-encoded")
	}
	t.ignored = e.ignored
	return t
}

// endpoint returns the collector as --otlp-endpoint has it, "" for none.
func (e *environment) endpoint() string {
	text, from := e.exporter("ENDPOINT")
	if text == "" || strings.EqualFold(e.value("OTEL_SDK_DISABLED"), "true") || !e.exportsOTLP() {
		return ""
	}
	protocol, named := e.exporter("PROTOCOL")
	if protocol != "" && protocol != "grpc" && protocol != "http/protobuf" {
		e.ignore(named, fmt.Sprintf("%q is not spoken; write grpc or http/protobuf", protocol))
		protocol = ""
	}
	u, err := e.parse(text, protocol)
	if err != nil {
		e.ignore(from, "it is no URL; write http://collector:4318 or https://collector:4318")
		return ""
	}
	if u.Port() == "" { // a URL without one has that of its scheme, other than --otlp-endpoint
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	// 4317 is the port of gRPC, which is what most libraries speak where no protocol is named.
	if protocol == "grpc" || protocol == "" && u.Port() == "4317" {
		u.Scheme = map[string]string{"http": "grpc", "https": "grpcs"}[u.Scheme]
		u.Path, u.RawPath = "", ""
	} else if from == otlpAll+"ENDPOINT" {
		u = u.JoinPath("v1/traces")
	}
	if _, err := tracing.ParseEndpoint(u.String()); err != nil {
		e.ignore(from, "it has more than a host, a port and a path; fields such as passwords are in "+otlpAll+"HEADERS")
		return ""
	}
	return u.String()
}

// errNoURL says that an endpoint is none of http or https.
var errNoURL = errors.New("no URL of http or https")

// parse reads an endpoint. Those of gRPC need no scheme.
func (e *environment) parse(text, protocol string) (*url.URL, error) {
	if !strings.Contains(text, "://") && protocol != "http/protobuf" {
		scheme := "https"
		if insecure, _ := e.exporter("INSECURE"); strings.EqualFold(insecure, "true") {
			scheme = "http"
		}
		text = scheme + "://" + text
	}
	u, err := url.Parse(text)
	if err == nil && u.Scheme != "http" && u.Scheme != "https" {
		err = errNoURL
	}
	return u, err
}

// exportsOTLP reports whether OTEL_TRACES_EXPORTER has traces sent by OTLP, which is the default.
func (e *environment) exportsOTLP() bool {
	const name = "OTEL_TRACES_EXPORTER"
	text := e.value(name)
	switch {
	case text == "":
		return true
	case slices.ContainsFunc(strings.Split(text, ","), func(s string) bool { return strings.TrimSpace(s) == "otlp" }):
		return true
	case text != "none":
		e.ignore(name, fmt.Sprintf("traces are sent by otlp alone, and %q names others; there are none now", text))
	}
	return false
}

func (e *environment) compression(t *Tracing) {
	switch text, from := e.exporter("COMPRESSION"); text {
	case "":
	case compressGzip, compressNone:
		t.Compression = text
	default:
		e.ignore(from, fmt.Sprintf("%q is not known; write gzip or none", text))
	}
}

// sampler reads the sampler: Podlane's words for those of the specification.
func (e *environment) sampler(t *Tracing) {
	const name = "OTEL_TRACES_SAMPLER"
	text := e.value(name)
	if text == "" {
		return
	}
	rule, parent := strings.CutPrefix(text, "parentbased_")
	rules := map[string]tracing.Rule{"always_on": tracing.Always, "always_off": tracing.Never, "traceidratio": tracing.Ratio}
	r, known := rules[rule]
	if !known {
		e.ignore(name, fmt.Sprintf("%q is not known; write always_on, always_off or traceidratio, or one of them after parentbased_", text))
		return
	}
	t.Sampler, t.ParentBased = r.String(), parent
	if r != tracing.Ratio {
		return
	}
	t.Ratio = 1
	const argument = name + "_ARG"
	if text := e.value(argument); text != "" {
		share, err := strconv.ParseFloat(text, 64)
		if err != nil || !(share >= 0 && share <= 1) {
			e.ignore(argument, fmt.Sprintf("%q is no share; write a number from 0 to 1, such as 0.25", text))
			return
		}
		t.Ratio = share
	}
}

// resource reads what describes the process.
func (e *environment) resource(t *Tracing) {
	const attributes = "OTEL_RESOURCE_ATTRIBUTES"
	list, why := pairs(e.value(attributes))
	if why != "" {
		e.ignore(attributes, why+"; write NAME=VALUE between commas, percent-encoded")
	}
	for _, a := range list {
		if a.Name == "service.name" {
			t.Service = a.Value // else there would be two of it
			continue
		}
		t.variableResource = append(t.variableResource, a)
	}
	if name := e.value("OTEL_SERVICE_NAME"); name != "" {
		t.Service = name
	}
}

// batches reads how spans wait for the collector.
func (e *environment) batches(t *Tracing) {
	e.count("OTEL_BSP_MAX_QUEUE_SIZE", func(n int) { t.QueueSpans = n })
	e.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", func(n int) { t.BatchSpans = n })
	e.count("OTEL_BSP_SCHEDULE_DELAY", func(n int) { t.Delay = time.Duration(n) * time.Millisecond })
}

// maxCount is far more than anyone means, and no time that overflows.
const maxCount = 1 << 30

// count gives use a variable that is a whole number above 0.
func (e *environment) count(name string, use func(int)) {
	text := e.value(name)
	if text == "" {
		return
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxCount {
		e.ignore(name, fmt.Sprintf("%q is no whole number above 0", text))
		return
	}
	use(n)
}

// pairs reads NAME=VALUE between commas, in the percent-encoding of W3C baggage; with a mistake in it there are none, and why is set. It tells nothing of
// what is in there: these may be secrets.
func pairs(text string) (list []tracing.Attribute, why string) {
	n := 0
	for part := range strings.SplitSeq(text, ",") {
		n++
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name, errName := url.PathUnescape(strings.TrimSpace(name))
		value, errValue := url.PathUnescape(strings.TrimSpace(value))
		if !ok || name == "" || value == "" || errName != nil || errValue != nil {
			return nil, fmt.Sprintf("part %d of it is not NAME=VALUE", n)
		}
		list = append(list, tracing.Attribute{Name: name, Value: value})
	}
	return list, ""
}
