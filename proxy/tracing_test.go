package proxy_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/tracing"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
	"podlane.dev/podlane/test/collector"
)

// A trace of somebody else, as traceparent tells it.
const (
	strangersTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	strangersSpan   = "00f067aa0ba902b7"
	strangersParent = "00-" + strangersTrace + "-" + strangersSpan + "-01"
)

// traced returns options of an engine that traces everything, and the collector that it tells.
func traced(t testing.TB) (proxy.Options, *collector.Collector) {
	t.Helper()
	c := new(collector.Collector)
	endpoint, err := tracing.ParseEndpoint("grpc://" + c.GRPC(t))
	if err != nil {
		t.Fatal(err)
	}
	return proxy.Options{
		Policies: answerFamilies(), H2C: true,
		Tracing: tracing.Options{Settings: tracing.Settings{Endpoint: endpoint, Delay: time.Millisecond}, Everything: true},
	}, c
}

// parentSeen is the traceparent that a Pod got last.
type parentSeen struct{ atomic.Value }

func (p *parentSeen) note(q *http.Request) {
	p.Store(strings.Join(q.Header.Values("Traceparent"), " and ") + "|" + q.Header.Get("Tracestate"))
}

// named returns the spans of that name.
func named(spans []*trace.Span, name string) (found []*trace.Span) {
	for _, s := range spans {
		if s.GetName() == name {
			found = append(found, s)
		}
	}
	return found
}

// parentOf returns s as traceparent tells it.
func parentOf(s *trace.Span) string {
	return "00-" + hex.EncodeToString(s.GetTraceId()) + "-" + hex.EncodeToString(s.GetSpanId()) + "-01"
}

// Whatever client and Pod speak, the Pod's parent is the span of the try, whose parent is that of the request, which begins a trace.
func TestTracesReachPods(t *testing.T) {
	overPods(t, func(t *testing.T, scheme router.PodScheme) {
		t.Helper()
		var seen parentSeen
		pod := startPod(t, scheme, func(w http.ResponseWriter, q *http.Request) {
			seen.note(q)
			fmt.Fprint(w, "ok")
		}, nil)
		o, to := traced(t)
		overClients(t, o, func(t *testing.T, r *rig, c *http.Client, base string) {
			t.Helper()
			r.routeTo("a.test", router.Backend{Scheme: scheme}, podAddr(pod))
			before := len(to.Spans())
			fetch(t, c, "GET", base+"/x?secret=sesame", "Traceparent", strangersParent, "Tracestate", "a=1", "Authorization", "Bearer sesame").Body.Close()
			spans := to.Await(t, before+3)[before:]
			server, tries, match := named(spans, "GET /"), named(spans, "GET"), named(spans, "match")
			if len(server) != 1 || len(tries) != 1 || len(match) != 1 {
				t.Fatalf("%v", spans)
			}
			if got, want := seen.Load(), parentOf(tries[0])+"|"; got != want {
				t.Errorf("the Pod got %q, want %q", got, want)
			}
			if string(tries[0].GetParentSpanId()) != string(server[0].GetSpanId()) || len(server[0].GetParentSpanId()) != 0 {
				t.Errorf("%v is not the child of %v, or that has a parent", tries[0], server[0])
			}
			if text := fmt.Sprint(spans); strings.Contains(text, "sesame") || strings.Contains(text, strangersTrace) {
				t.Errorf("a secret, or a stranger's trace, is in %s", text)
			}
			if a := collector.Attributes(server[0].GetAttributes()); a["http.response.status_code"] != int64(200) || a["podlane.ingress"] != "ing" {
				t.Errorf("%v", a)
			}
		})
	})
}

// Those who are trusted continue their traces: trusted proxies, or everybody where the annotation says so, or nobody.
func TestTracesContinue(t *testing.T) {
	var seen parentSeen
	pod := backend(t, func(_ http.ResponseWriter, q *http.Request) { seen.note(q) })
	for _, c := range []struct {
		name      string
		proxies   string
		values    policy.Values
		continues bool
	}{
		{"a stranger", "", nil, false},
		{"a trusted proxy", "127.0.0.0/8", nil, true},
		{"a stranger where all are trusted", "", policy.Values{"opentelemetry-trust-incoming-span": "true"}, true},
		{"a trusted proxy where nobody is trusted", "127.0.0.0/8", policy.Values{"opentelemetry-trust-incoming-span": "false"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, to := traced(t)
			if c.proxies != "" {
				o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(c.proxies))
			}
			r := newRig(t, o)
			r.govern(c.values, pod)
			fetch(t, r.client, "GET", "http://a.test/", "Traceparent", strangersParent, "Tracestate", "a=1").Body.Close()
			spans := to.Await(t, 3)
			server := named(spans, "GET /")[0]
			told := seen.Load().(string)
			if continues := strings.HasPrefix(told, "00-"+strangersTrace); continues != c.continues || strings.HasSuffix(told, "|a=1") != c.continues {
				t.Errorf("the Pod got %q", told)
			}
			if (hex.EncodeToString(server.GetParentSpanId()) == strangersSpan) != c.continues || (server.GetTraceState() == "a=1") != c.continues {
				t.Errorf("%v", server)
			}
		})
	}
}

// Each try has a span, and each Pod the one of its own as its parent.
func TestTracesOfRetries(t *testing.T) {
	var seen parentSeen
	pod := backend(t, func(_ http.ResponseWriter, q *http.Request) { seen.note(q) })
	o, to := traced(t)
	o.Upstream = upstream.Options{MaxFails: -1}
	r := newRig(t, o)
	r.publish("a.test", []router.Address{
		{AddrPort: netip.MustParseAddrPort(closedPort(t)), UID: "1", Pod: "gone-1", Ready: true, Serving: true},
		{AddrPort: netip.MustParseAddrPort(pod), UID: "2", Pod: "here-2", Ready: true, Serving: true},
	})
	for range 20 {
		before := len(to.Spans())
		if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
		spans := to.Await(t, before+3)[before:]
		tries := named(spans, "GET")
		if len(tries) < 2 {
			continue // the first try went to the Pod that is there
		}
		first, last := collector.Attributes(tries[0].GetAttributes()), collector.Attributes(tries[1].GetAttributes())
		if first["podlane.pod"] != "gone-1" || first["podlane.reason"] != "connect-failed" || last["podlane.pod"] != "here-2" || last["http.request.resend_count"] != int64(1) {
			t.Errorf("%v, then %v", first, last)
		}
		if got := seen.Load(); got != parentOf(tries[1])+"|" {
			t.Errorf("the Pod got %q, want that of %v", got, tries[1])
		}
		return
	}
	t.Error("no request was tried twice")
}

// A WebSocket has a span, which ends with it and tells what was asked although the request's bytes are gone by then.
func TestTraceOfTunnel(t *testing.T) {
	var seen parentSeen
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		seen.note(q)
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
		_, _ = io.CopyN(c, br, 4096) // the client ends it
	})
	o, to := traced(t)
	r := newRig(t, o)
	r.govern(nil, pod)
	c := dialKeeper(t, r.addr)
	fmt.Fprint(c, "GET /chat?secret=sesame HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUser-Agent: ws/1\r\nCookie: sid=sesame\r\n\r\n")
	if res, err := http.ReadResponse(c.in, nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	fmt.Fprint(c, strings.Repeat("z", 4096))
	if n, err := io.CopyN(io.Discard, c.in, 4096); err != nil {
		t.Fatalf("%d bytes came back: %v", n, err)
	}
	if n := len(to.Spans()); n != 0 {
		t.Errorf("%d spans of a tunnel that is open", n)
	}
	c.Close()
	spans := to.Await(t, 3)
	server, tries := named(spans, "GET /"), named(spans, "GET")
	if len(server) != 1 || len(tries) != 1 || seen.Load() != parentOf(tries[0])+"|" {
		t.Fatalf("%v, and the Pod got %v", spans, seen.Load())
	}
	a := collector.Attributes(server[0].GetAttributes())
	if a["url.path"] != "/chat" || a["server.address"] != "a.test" || a["user_agent.original"] != "ws/1" || a["http.response.status_code"] != int64(101) ||
		a["http.response.body.size"] != int64(4096) {
		t.Errorf("%v", a)
	}
}

// A call of gRPC is traced like any request.
func TestTraceOfGRPC(t *testing.T) {
	var seen parentSeen
	pod := startPod(t, router.PodH2C, func(w http.ResponseWriter, q *http.Request) {
		seen.note(q)
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 0})
		w.Header().Set("Grpc-Status", "0")
	}, nil)
	o, to := traced(t)
	r := newRig(t, o)
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, podAddr(pod))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DialContext: r.client.Transport.(*http.Transport).DialContext}
	defer transport.CloseIdleConnections()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a.test/pkg.Service/Method", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/grpc")
	q.Header.Set("TE", "trailers")
	res, err := transport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%v %v", res.Header, res.Trailer)
	}
	tries := named(to.Await(t, 3), "POST")
	if len(tries) != 1 || seen.Load() != parentOf(tries[0])+"|" {
		t.Errorf("%v, and the Pod got %v", tries, seen.Load())
	}
	if a := collector.Attributes(tries[0].GetAttributes()); a["network.protocol.version"] != "2" {
		t.Errorf("%v", a)
	}
}

// Where a route is not traced its Pods get what the client sent, and there are no spans; a route may be traced although others are not; and what no
// route gets is traced where everything is.
func TestWhatIsTraced(t *testing.T) {
	var seen parentSeen
	pod := backend(t, func(_ http.ResponseWriter, q *http.Request) { seen.note(q) })
	ask := func(r *rig, host string) {
		fetch(t, r.client, "GET", "http://"+host+"/", "Traceparent", strangersParent, "Tracestate", "a=1").Body.Close()
	}
	t.Run("off by annotation", func(t *testing.T) {
		o, to := traced(t)
		r := newRig(t, o)
		r.govern(policy.Values{"enable-opentelemetry": "false"}, pod)
		ask(r, "a.test")
		if got := seen.Load(); got != strangersParent+"|a=1" {
			t.Errorf("the Pod got %q", got)
		}
		ask(r, "nobody.test")
		spans := to.Await(t, 2)
		if len(spans) != 2 || len(named(spans, "GET")) != 1 {
			t.Errorf("%v", spans)
		}
		if a := collector.Attributes(named(spans, "GET")[0].GetAttributes()); a["podlane.reason"] != "no-route" || a["http.response.status_code"] != int64(404) {
			t.Errorf("%v", a)
		}
	})
	t.Run("on by annotation", func(t *testing.T) {
		o, to := traced(t)
		o.Tracing.Everything = false
		r := newRig(t, o)
		r.govern(nil, pod)
		ask(r, "a.test")
		ask(r, "nobody.test")
		if got := seen.Load(); got != strangersParent+"|a=1" {
			t.Errorf("the Pod got %q", got)
		}
		r.govern(policy.Values{"enable-opentelemetry": "true", "opentelemetry-operation-name": "$request_method of $ingress_name"}, pod)
		ask(r, "a.test")
		if spans := to.Await(t, 3); len(spans) != 3 || len(named(spans, "GET of ing")) != 1 {
			t.Errorf("%v", spans)
		}
	})
}

// What is refused before a route is looked for is traced where everything is, as what it was answered; nothing that it says of a trace is believed.
func TestTraceOfWhatIsRefused(t *testing.T) {
	say := func(r *rig, request string) {
		t.Helper()
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := io.WriteString(nc, request); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(nc); err != nil || !strings.Contains(string(answer), "HTTP/1.1 400 ") {
			t.Fatalf("%q: %q, %v", request, answer, err)
		}
	}
	o, to := traced(t)
	r := newRig(t, o)
	r.govern(nil, "127.0.0.1:1")
	for n, request := range []string{
		"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\nTraceparent: " + strangersParent + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
		"nonsense\r\n\r\n",
	} {
		say(r, request)
		spans := to.Await(t, n+1)[n:]
		s := spans[0]
		a := collector.Attributes(s.GetAttributes())
		if len(spans) != 1 || a["http.response.status_code"] != int64(400) || a["podlane.reason"] != "bad-request" {
			t.Errorf("%q: %v", request, spans)
		}
		if len(s.GetParentSpanId()) > 0 || hex.EncodeToString(s.GetTraceId()) == strangersTrace ||
			s.GetStartTimeUnixNano() == 0 || s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano() {
			t.Errorf("%q: %v", request, s)
		}
	}
	// Where a route alone is, it is not: of what follows one request, there is nothing.
	pod := backend(t, func(http.ResponseWriter, *http.Request) {})
	o, to = traced(t)
	o.Tracing.Everything = false
	r = newRig(t, o)
	r.govern(policy.Values{"enable-opentelemetry": "true"}, pod)
	say(r, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\nnonsense\r\n\r\n")
	fetch(t, r.client, "GET", "http://a.test/").Body.Close()
	if spans := to.Await(t, 6); len(spans) != 6 {
		t.Errorf("%v", spans)
	}
}

// The question to an authentication service has a span, and the service is told of the request's.
func TestTraceOfExternalAuth(t *testing.T) {
	var asked parentSeen
	service := backend(t, func(_ http.ResponseWriter, q *http.Request) { asked.note(q) })
	pod := backend(t, func(http.ResponseWriter, *http.Request) {})
	o, to := traced(t)
	o.Policies, o.Upstream = []filters.Policy{filters.ExternalAuth()}, asksLoopback().Upstream
	r := newRig(t, o)
	r.routeWith(pod, policy.Values{"auth-url": "http://" + service + "/"}, filters.ExternalAuth())
	fetch(t, r.client, "GET", "http://a.test/").Body.Close()
	spans := to.Await(t, 4)
	auth, server := named(spans, "auth"), named(spans, "GET /")
	if len(auth) != 1 || len(server) != 1 || string(auth[0].GetParentSpanId()) != string(server[0].GetSpanId()) {
		t.Fatalf("%v", spans)
	}
	if got := asked.Load(); got != parentOf(server[0])+"|" {
		t.Errorf("the service got %q", got)
	}
}

// Without a collector every request is answered, and what is lost is counted.
func TestCollectorAwayHarmsNobody(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	endpoint, err := tracing.ParseEndpoint("grpc://" + closedPort(t))
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, proxy.Options{Tracing: tracing.Options{
		Settings: tracing.Settings{Endpoint: endpoint, QueueSpans: 30, BatchSpans: 10, Delay: time.Millisecond}, Everything: true,
	}})
	r.route("a.test", pod)
	for range 200 {
		if res, body := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 || body != "ok" {
			t.Fatal(res.Status, body)
		}
	}
	waitFor(t, "spans to be counted", func() bool { return r.engine.TraceCounts().Dropped >= 600-60 })
	if n := r.engine.TraceCounts(); n.Sent != 0 {
		t.Errorf("%+v", n)
	}
}

func TestTracedRequestAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop objects at random")
	}
	endpoint, err := tracing.ParseEndpoint("http://" + closedPort(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, sampler := range map[string]tracing.Sampler{"recorded": {}, "not recorded": {Rule: tracing.Never}} {
		t.Run(name, func(t *testing.T) {
			request := plainRig(t, proxy.Options{Tracing: tracing.Options{
				Settings: tracing.Settings{Endpoint: endpoint, QueueSpans: 60, Delay: time.Hour, Sampler: sampler}, Everything: true,
			}})
			for range 100 {
				request()
			}
			if n := testing.AllocsPerRun(2000, request); n > 0 {
				t.Errorf("%.2f allocations per request, want 0", n)
			}
		})
	}
}

// A line of the access log tells the trace's ID, so that one leads to the other.
func TestLogTellsTheTrace(t *testing.T) {
	o, to := traced(t)
	pod := backend(t, func(http.ResponseWriter, *http.Request) {})
	lines := jsonLines(t, o, func(r *rig) {
		r.govern(nil, pod)
		fetch(t, r.client, "GET", "http://a.test/").Body.Close()
	})
	if want := hex.EncodeToString(to.Await(t, 3)[0].GetTraceId()); len(lines) != 1 || lines[0]["trace_id"] != want {
		t.Errorf("%v, want the trace %s", lines, want)
	}
}
