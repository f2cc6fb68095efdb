package proxy_test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/tracing"
	"podlane.dev/podlane/router/policy"
	"podlane.dev/podlane/test/collector"
)

// tracesTo returns settings that trace everything and tell c; more are further keys and their values.
func tracesTo(t *testing.T, c *collector.Collector, more ...string) policy.Values {
	t.Helper()
	host, port, err := net.SplitHostPort(c.GRPC(t))
	if err != nil {
		t.Fatal(err)
	}
	v := policy.Values{
		"enable-opentelemetry": "true", "otlp-collector-host": host, "otlp-collector-port": port, "otel-schedule-delay-millis": "1", "otel-service-name": "edge",
	}
	for i := 0; i < len(more); i += 2 {
		v[more[i]] = more[i+1]
	}
	return v
}

// The ConfigMap says where traces go and what is recorded, from the next request on; requests that are under way are told where theirs began.
func TestTracesFollowTheConfigMap(t *testing.T) {
	var seen parentSeen
	pod := backend(t, func(_ http.ResponseWriter, q *http.Request) { seen.note(q) })
	r := newRig(t, proxy.Options{Policies: answerFamilies()})
	first, second := new(collector.Collector), new(collector.Collector)
	r.govern(tracesTo(t, first), pod)
	fetch(t, r.client, "GET", "http://a.test/").Body.Close()
	first.Await(t, 3)
	if n := first.Resource()["service.name"]; n != "edge" {
		t.Errorf("service.name is %v", n)
	}
	r.govern(tracesTo(t, second), pod)
	fetch(t, r.client, "GET", "http://a.test/").Body.Close()
	second.Await(t, 3)
	r.govern(tracesTo(t, second, "otel-sampler", "AlwaysOff"), pod)
	fetch(t, r.client, "GET", "http://a.test/").Body.Close()
	if got := seen.Load().(string); !strings.HasSuffix(got, "-00|") {
		t.Errorf("the Pod got %q, want a context that is not recorded", got)
	}
	r.govern(nil, pod)
	fetch(t, r.client, "GET", "http://a.test/").Body.Close()
	if got := seen.Load(); got != "|" {
		t.Errorf("the Pod got %q without tracing", got)
	}
	if a, b := len(first.Spans()), len(second.Spans()); a != 3 || b != 3 {
		t.Errorf("%d spans came to the first collector and %d to the second, want 3 each", a, b)
	}
	waitFor(t, "the spans to be counted", func() bool { return r.engine.TraceCounts() == tracing.Counts{Sent: 6} })
}

// The ConfigMap says which share of the requests that begin a trace is recorded, and whether a request that continues one is recorded where that is.
func TestTracesAreSampledByTheConfigMap(t *testing.T) {
	var seen parentSeen
	pod := backend(t, func(_ http.ResponseWriter, q *http.Request) { seen.note(q) })
	const recorded, not = strangersParent, "00-" + strangersTrace + "-" + strangersSpan + "-00"
	for _, c := range []struct {
		sampler, ratio, basedOnParent, parent string
		want                                  bool
	}{
		{"AlwaysOn", "", "", "", true},
		{"AlwaysOff", "", "", "", false},
		{"TraceIdRatioBased", "1", "", "", true},
		{"TraceIdRatioBased", "0", "", "", false},
		// The parent decides where nothing else is said: that is the flag's default.
		{"AlwaysOff", "", "", recorded, true},
		{"AlwaysOn", "", "", not, false},
		{"TraceIdRatioBased", "0", "true", recorded, true},
		{"AlwaysOff", "", "false", recorded, false},
		{"AlwaysOn", "", "false", not, true},
		{"TraceIdRatioBased", "1", "false", not, true},
	} {
		var to collector.Collector
		usual := tracing.Settings{Sampler: tracing.Sampler{ParentBased: true}}
		r := newRig(t, proxy.Options{Policies: answerFamilies(), Tracing: tracing.Options{Settings: usual}})
		more := []string{"opentelemetry-trust-incoming-span", "true", "otel-sampler", c.sampler}
		for key, value := range map[string]string{"otel-sampler-ratio": c.ratio, "otel-sampler-parent-based": c.basedOnParent} {
			if value != "" {
				more = append(more, key, value)
			}
		}
		r.govern(tracesTo(t, &to, more...), pod)
		var fields []string
		if c.parent != "" {
			fields = []string{"Traceparent", c.parent}
		}
		fetch(t, r.client, "GET", "http://a.test/", fields...).Body.Close()
		// The Pod is told whether the request is recorded, and the spans of one that is come.
		if told := strings.HasSuffix(seen.Load().(string), "-01|"); told != c.want {
			t.Errorf("%+v: the Pod got %q", c, seen.Load())
		} else if told {
			to.Await(t, 3)
		}
	}
}

// The ConfigMap says how many spans may wait for the collector, how many are sent together, and how long they wait for others.
func TestTracesAreSentByTheConfigMap(t *testing.T) {
	pod := backend(t, func(http.ResponseWriter, *http.Request) {})
	ask := func(r *rig, requests int) {
		for range requests {
			fetch(t, r.client, "GET", "http://a.test/").Body.Close()
		}
	}
	t.Run("together", func(t *testing.T) {
		var to collector.Collector
		r := newRig(t, proxy.Options{Policies: answerFamilies()})
		// Nothing leaves for a minute but what leaves because there are as many as are sent together.
		r.govern(tracesTo(t, &to, "otel-max-export-batch-size", "6", "otel-schedule-delay-millis", "60000"), pod)
		ask(r, 2)
		to.Await(t, 6)
	})
	t.Run("no more together", func(t *testing.T) {
		var to collector.Collector
		r := newRig(t, proxy.Options{Policies: answerFamilies()})
		r.govern(tracesTo(t, &to, "otel-max-export-batch-size", "6"), pod)
		ask(r, 20)
		to.Await(t, 60)
		if n := to.Requests(); n < 10 {
			t.Errorf("60 spans in %d requests, want at least 10", n)
		}
	})
	t.Run("too many", func(t *testing.T) {
		r := newRig(t, proxy.Options{Policies: answerFamilies()})
		host, port, err := net.SplitHostPort(closedPort(t))
		if err != nil {
			t.Fatal(err)
		}
		r.govern(policy.Values{
			"enable-opentelemetry": "true", "otlp-collector-host": host, "otlp-collector-port": port,
			"otel-max-queuesize": "6", "otel-max-export-batch-size": "6", "otel-schedule-delay-millis": "60000",
		}, pod)
		ask(r, 20)
		waitFor(t, "all but those that may wait, or are being sent, to be dropped", func() bool { return r.engine.TraceCounts().Dropped >= 60-2*6 })
		if n := r.engine.TraceCounts(); n.Sent != 0 {
			t.Errorf("%+v", n)
		}
	})
}
