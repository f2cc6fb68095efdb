package resources_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// faulty is a policy with a mistake: it panics where the path of a request says.
func faulty() filters.Policy {
	return &filters.Of[string]{
		Of:       policy.Of[string]{Name: "faulty"},
		Default:  func(*router.Route) (string, bool) { return "", true },
		Request:  func(*router.Route, string) exchange.RequestFilter { return faultyFilter{} },
		Response: func(*router.Route, string) exchange.ResponseFilter { return faultyFilter{} },
	}
}

type faultyFilter struct{}

func (faultyFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	switch string(x.Request.Path) {
	case "/request":
		panic("a mistake in a request filter")
	case "/upload":
		x.Request.Body = faultyBody{x.Request.Body}
	}
	return exchange.Continue
}

func (faultyFilter) FilterResponse(x *exchange.Exchange) {
	switch string(x.Request.Path) {
	case "/response":
		panic("a mistake in a response filter")
	case "/download":
		x.Response.Body = faultyBody{x.Response.Body}
	}
}

// faultyBody is a body whose wrapper has the mistake.
type faultyBody struct{ exchange.Body }

func (faultyBody) Next() ([]byte, error) { panic("a mistake in a body") }

// panics remembers what the engine told of.
type panics struct {
	mu    sync.Mutex
	seen  []string
	stack string
}

func (p *panics) note(value any, stack []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.stack = append(p.seen, fmt.Sprint(value)), string(stack)
}

// F23: a filter that panics ends its own connection, after an answer where none has begun; it is counted and told with its stack.
// The listener, the table, other connections and the books of the Pod go on as if nothing had happened.
func TestF23PanickingFilter(t *testing.T) {
	noLeaks(t)
	const size = 400_000
	pod := newPod(t, func(c *podConn) {
		for q := c.request(); q != nil; q = c.request() {
			if _, err := io.Copy(io.Discard, q.Body); err != nil {
				return
			}
			body := "ok"
			if q.URL.Path == "/download" {
				body = strings.Repeat("x", size)
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
	var told panics
	r := newRig(t, proxy.Options{Policies: []filters.Policy{faulty()}, Panicked: told.note})
	r.route("a.test", pod.addr)
	bystander := dial(t, r.addr)
	bystander.ask(t, "a.test", "ok")

	const rounds = 20
	kinds := []struct{ name, request string }{
		{"request filter", "GET /request HTTP/1.1\r\nHost: a.test\r\n\r\n"},
		{"response filter", "GET /response HTTP/1.1\r\nHost: a.test\r\n\r\n"},
		{"response body", "GET /download HTTP/1.1\r\nHost: a.test\r\n\r\n"},
		{"request body", "POST /upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"},
	}
	for _, kind := range kinds {
		var o outcome
		for range rounds {
			c := dial(t, r.addr)
			c.send("%s", kind.request)
			status, body, err := c.answer()
			switch {
			case err != nil:
				o.note("the connection was cut")
			case status != http.StatusInternalServerError || strings.Contains(body, "mistake"):
				t.Errorf("%s: %d %q", kind.name, status, body)
			default:
				o.note("500")
			}
			c.Close()
		}
		t.Logf("F23: panic in a %s: %s", kind.name, &o)
		bystander.ask(t, "a.test", "ok")
		dial(t, r.addr).ask(t, "a.test", "ok")
	}
	want := rounds * len(kinds)
	await(t, "every panic to be counted", func() bool { return r.metric("podlane_panics_total", "connection") == float64(want) })
	told.mu.Lock()
	defer told.mu.Unlock()
	if len(told.seen) != want || !strings.Contains(told.stack, "faulty") {
		t.Errorf("told of %d panics, want %d; the last with the stack\n%s", len(told.seen), want, told.stack)
	}
	await(t, "the connections to end", func() bool { return r.engine.Requests() == 0 })
	if n := r.metric("podlane_requests_in_flight"); n != 0 {
		t.Errorf("%v requests are in flight by the metric", n)
	}
	for _, p := range r.engine.Endpoints() {
		for _, e := range p.Endpoints {
			if e.InFlight != 0 {
				t.Errorf("endpoint %s has %d requests in flight by its own count", e.AddrPort, e.InFlight)
			}
		}
	}
}
