package proxy_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
)

// counting is a rig that counts.
type counting struct {
	*rig
	t       *testing.T
	metrics *observe.Metrics
}

func newCounting(t *testing.T, o observe.MetricsOptions) *counting {
	t.Helper()
	m, err := observe.NewMetrics(o)
	if err != nil {
		t.Fatal(err)
	}
	return &counting{newRig(t, proxy.Options{Metrics: m}), t, m}
}

// awaitSeries waits until /metrics has a line. Requests are counted after their answers have left.
func (c *counting) awaitSeries(line string) {
	c.t.Helper()
	waitFor(c.t, line, func() bool {
		text, err := c.metrics.AppendText(nil)
		return err == nil && strings.Contains(string(text), "\n"+line+"\n")
	})
}

// split routes a.test to two Backends, the second of which is that of a canary where there is one.
func (c *counting) split(alternative *router.Alternative, weights ...int) {
	c.t.Helper()
	r := &router.Route{ID: router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"}, Alternative: alternative}
	addresses := map[router.Service][]router.Address{}
	for i, weight := range weights {
		pod := backend(c.t, func(w http.ResponseWriter, _ *http.Request) { time.Sleep(2 * time.Millisecond); fmt.Fprint(w, "hello") })
		sp := router.ServicePort{Namespace: "default", Name: fmt.Sprintf("svc-%d", i), Port: "80"}
		r.Backends = append(r.Backends, router.Backend{Service: sp, Weight: weight})
		addresses[sp.Service()] = []router.Address{{AddrPort: netip.MustParseAddrPort(pod), UID: fmt.Sprint(i), Ready: true, Serving: true}}
	}
	t := router.NewTable([]*router.Route{r}, nil)
	c.engine.Prepare(t)
	for s, as := range addresses {
		c.engine.SetAddresses(s, map[string][]router.Address{"80": as})
	}
	c.engine.Publish(t)
}

// TestRequestsAreCountedByTheBackendThatGotThem: with all of the weight on the second, its Service is the label, and the times are there.
func TestRequestsAreCountedByTheBackendThatGotThem(t *testing.T) {
	c := newCounting(t, observe.MetricsOptions{})
	c.split(nil, 0, 1)
	for range 3 {
		c.do("GET", "http://a.test/", nil)
	}
	const labels = `ingress="ing",namespace="default",service="svc-1"`
	for _, line := range []string{
		`podlane_requests_total{class="2xx",` + labels + `} 3`,
		`podlane_request_duration_seconds_bucket{` + labels + `,le="0.001"} 0`, // Pods take two milliseconds
		`podlane_request_first_byte_seconds_bucket{` + labels + `,le="0.001"} 0`,
		`podlane_upstream_first_byte_seconds_bucket{` + labels + `,le="0.001"} 0`,
		`podlane_upstream_first_byte_seconds_count{` + labels + `} 3`,
		`podlane_upstream_connect_duration_seconds_count{` + labels + `} 1`, // the other two went over the same connection
		`podlane_response_body_bytes_total{` + labels + `} 15`,
	} {
		c.awaitSeries(line)
	}
	c.engine.Publish(router.NewTable(nil, nil))
	text, err := c.metrics.AppendText(nil)
	if err != nil || strings.Contains(string(text), `ingress="ing"`) {
		t.Errorf("series of a route that is gone: %v\n%s", err, text)
	}
}

func TestCanaryIsCountedAsIngressNginxDoes(t *testing.T) {
	c := newCounting(t, observe.MetricsOptions{Nginx: observe.NginxOptions{On: true, Class: "k8s.io/x", Namespace: "ns", Pod: "p"}})
	c.split(&router.Alternative{Canary: router.Canary{Weight: 100, Total: 100}, Namespace: "default", Ingress: "canary"}, 1, 0)
	c.do("GET", "http://a.test/", nil)
	c.awaitSeries(`podlane_requests_total{class="2xx",ingress="ing",namespace="default",service="svc-1"} 1`)
	c.awaitSeries(`nginx_ingress_controller_requests{status="2xx",canary="default-svc-1-80",controller_class="k8s.io/x",controller_namespace="ns",` +
		`controller_pod="p",host="",ingress="ing",namespace="default",path="/",service="svc-1"} 1`)
}

// TestAnswersOfTheProxysOwnHaveNoPodTimes: where no Pod answered there is nothing to say about Pods.
func TestAnswersOfTheProxysOwnHaveNoPodTimes(t *testing.T) {
	c := newCounting(t, observe.MetricsOptions{})
	c.route("a.test")
	if res, _ := c.do("GET", "http://a.test/", nil); res.StatusCode != 503 {
		t.Fatal(res.Status)
	}
	c.awaitSeries(`podlane_requests_total{class="5xx",ingress="ing",namespace="default",service="svc-a-test"} 1`)
	text, err := c.metrics.AppendText(nil)
	if err != nil || strings.Contains(string(text), "podlane_request_first_byte_seconds") || strings.Contains(string(text), "podlane_upstream_first_byte_seconds") {
		t.Errorf("times of Pods: %v\n%s", err, text)
	}
}

// TestEveryReasonIsCounted: a reason that tally does not know is not counted, in silence.
func TestEveryReasonIsCounted(t *testing.T) {
	source, err := os.ReadFile("exchange/exchange.go")
	if err != nil {
		t.Fatal(err)
	}
	c := newCounting(t, observe.MetricsOptions{})
	text, err := c.metrics.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`(?m)^\t(\w+) +Why = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	for _, r := range reasons {
		// This one says why a request was tried again, and is never that of an answer.
		if want := r[1] != "UpstreamStatus"; strings.Contains(string(text), "\npodlane_requests_rejected_total{reason=\""+r[2]+"\"} 0\n") != want {
			t.Errorf("%s is counted: %t, want %t", r[1], !want, want)
		}
	}
	if len(reasons) < 20 {
		t.Errorf("only %d reasons were found", len(reasons))
	}
}

// TestEndpointsTellHowLongAnswersTake: those that answered, and no others.
func TestEndpointsTellHowLongAnswersTake(t *testing.T) {
	c := newCounting(t, observe.MetricsOptions{})
	c.split(nil, 0, 1)
	for range 3 {
		c.do("GET", "http://a.test/", nil)
	}
	for _, pool := range c.engine.Endpoints() {
		took := pool.Endpoints[0].FirstByte
		if asked := pool.ServicePort.Name == "svc-1"; asked != (took >= 2*time.Millisecond) || !asked && took != 0 {
			t.Errorf("%s: %v on average; its Pod takes two milliseconds", pool.ServicePort.Name, took)
		}
	}
	if n := len(c.engine.Endpoints()); n != 2 {
		t.Errorf("%d pools, want 2", n)
	}
}
