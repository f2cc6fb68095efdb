package filters_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/subrequest"
	"podlane.dev/podlane/router/policy"
)

// waiter is an exchange.Waiter that writes down for how long somebody wanted to wait.
type waiter struct {
	ctx   context.Context //nolint:containedctx // of the test
	waits []time.Duration
}

func (w *waiter) Wait(limit time.Duration, f func(ctx context.Context)) {
	w.waits = append(w.waits, limit)
	f(w.ctx)
}

// authChain compiles the family for a service that h is.
func authChain(t testing.TB, values policy.Values, h http.HandlerFunc) *filters.Chain {
	t.Helper()
	s := httptest.NewServer(h)
	c := subrequest.New(t.Context(), subrequest.Options{})
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	values["auth-url"] = s.URL + "/"
	policies := []filters.Policy{filters.NoAuthLocations(), filters.ExternalAuth()}
	return filters.Compile(policies, route(t, "/", values, policies...), &filters.Runtime{Subrequests: c})
}

func TestExternalAuthWaitsForFiveSeconds(t *testing.T) {
	c := authChain(t, policy.Values{}, func(http.ResponseWriter, *http.Request) {})
	w := &waiter{ctx: t.Context()}
	x := request("a.example", "/")
	x.Waiter = w
	if c.FilterRequest(x) != exchange.Continue || len(w.waits) != 1 || w.waits[0] != 5*time.Second {
		t.Errorf("waits %v", w.waits)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	x = request("a.example", "/")
	x.Waiter = &waiter{ctx: ended}
	if c.FilterRequest(x) != exchange.Answered || x.Response.Status != 500 {
		t.Errorf("a wait that has ended: %d", x.Response.Status)
	}
}

// A request whose answer is kept costs no allocation and no question.
func TestExternalAuthFromTheCacheAllocatesNothing(t *testing.T) {
	var asked atomic.Int32
	c := authChain(t, policy.Values{"auth-cache-key": "$host$request_uri", "auth-response-headers": "X-User"}, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("X-User", "alice")
	})
	x := request("a.example", "/")
	x.Waiter = &waiter{ctx: t.Context()}
	x.Timing.Start = time.Now()
	pass := func() {
		x.Grant = nil
		if c.FilterRequest(x) != exchange.Continue {
			t.Fatal("refused")
		}
	}
	pass()
	fields := x.Request.Fields.Len()
	allocations := testing.AllocsPerRun(50, func() {
		pass()
	})
	if asked.Load() != 1 || allocations > 1 { // the fields of this Exchange grow
		t.Errorf("%d questions, %v allocations", asked.Load(), allocations)
	}
	if user, _ := x.Request.Fields.Lookup("X-User"); string(user) != "alice" || fields < 1 {
		t.Errorf("X-User is %q", user)
	}
}

// The URL of a question is bounded, whatever the client sends.
func TestExternalAuthBoundsTheURL(t *testing.T) {
	var asked atomic.Int32
	values := policy.Values{}
	c := authChain(t, values, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	values["auth-url"] += strings.Repeat("?$request_uri", 10)
	policies := []filters.Policy{filters.ExternalAuth()}
	c = filters.Compile(policies, route(t, "/", values, policies...), c.Runtime)
	x := request("a.example", "/"+strings.Repeat("a", 4000))
	x.Waiter = &waiter{ctx: t.Context()}
	if c.FilterRequest(x) != exchange.Answered || x.Response.Status != 500 || asked.Load() != 0 {
		t.Errorf("status %d, %d questions", x.Response.Status, asked.Load())
	}
}

// What the text of a Table says of a service tells services apart, and shows no secret.
func TestExternalAuthText(t *testing.T) {
	family := filters.ExternalAuth()
	parse := func(values policy.Values) string {
		v, err := family.ParseValues(values, source{"X-Secret": values["secret"]})
		if err != nil {
			t.Fatal(err)
		}
		return policy.Value{Family: "external-auth", Parsed: v}.String()
	}
	base := policy.Values{"auth-url": "http://a/", "auth-proxy-set-headers": "c", "secret": "hunter2"}
	text := parse(base)
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "X-Secret") {
		t.Errorf("the text is %q", text)
	}
	for key, value := range map[string]string{
		"auth-url": "http://b/", "auth-method": "GET", "auth-signin": "https://a/", "auth-response-headers": "X-User", "auth-request-redirect": "/", "auth-cache-key": "$host",
		"auth-always-set-cookie": "true", "secret": "hunter3",
	} {
		other := maps.Clone(base)
		if other[key] = value; parse(other) == text {
			t.Errorf("%s makes no difference to the text", key)
		}
	}
}

// source is a policy.Source with one ConfigMap.
type source map[string]string

func (source) Secret(string) (map[string][]byte, error)      { return nil, nil }
func (s source) ConfigMap(string) (map[string]string, error) { return s, nil }
func (source) Compat() bool                                  { return false }

func FuzzExternalAuth(f *testing.F) {
	for _, s := range []string{"http://a/", "https://$host/x?rd=$escaped_request_uri", "/start", "$scheme://$http_host/a", "200 5m", "a,b", "$"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		family := filters.ExternalAuth()
		for _, values := range []policy.Values{{"auth-url": a, "auth-signin": b}, {"auth-cache-duration": a}, {"auth-response-headers": a, "auth-signin-redirect-param": b}, {"global-auth-url": a, "global-auth-cache-key": b}} {
			v, err := family.ParseValues(values, nil)
			if err == nil && (policy.Value{Family: "f", Parsed: v}).String() == "" {
				t.Errorf("%v has no text", values)
			}
		}
	})
}
