package filters_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/subrequest"
	"podlane.dev/podlane/router/policy"
)

// rehearsed returns a request that nobody sent.
func rehearsed() *exchange.Exchange {
	x := request("a.example", "/")
	x.Client.Addr, x.Timing.Start = netip.MustParseAddr("192.0.2.1"), time.Now()
	x.Rehearsal = new(exchange.Rehearsal)
	return x
}

// TestRehearsalsTakeNoLimits: however often a request is rehearsed, the one that is sent finds all of its limits, and what is used of them is told.
func TestRehearsalsTakeNoLimits(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"limit-rps", "limit-rpm", "limit-connections"} {
		rt := filters.NewRuntime(0)
		v := policy.Values{key: "1", "limit-burst-multiplier": "1"}
		c := filters.Compile([]filters.Policy{filters.Limit()}, route(t, "/", v, filters.Limit()), &rt)
		at := time.Now()
		send := func(dry bool) *exchange.Exchange {
			x := rehearsed()
			if x.Timing.Start = at; !dry {
				x.Rehearsal = nil
			}
			c.FilterRequest(x)
			return x
		}
		for range 100 {
			if x := send(true); x.Response.Status != 0 {
				t.Fatalf("%s: a rehearsal is refused: %d", key, x.Response.Status)
			}
		}
		passed := 0
		for send(false).Response.Status == 0 {
			passed++
		}
		if passed == 0 || passed > 2 {
			t.Errorf("%s: %d requests pass after 100 rehearsals", key, passed)
		}
		if x := send(true); x.Response.Status != 503 || !x.Rehearsal.Steps[0].Answered || x.Rehearsal.Steps[0].Family != "limit" {
			t.Errorf("%s: a rehearsal beyond the limit: %d, %+v", key, x.Response.Status, x.Rehearsal.Steps)
		} else if said := strings.Join(x.Rehearsal.Steps[0].Did, "; "); (key == "limit-connections") != strings.Contains(said, "1 of at most 1 requests of this client are under way") {
			t.Errorf("%s: %s", key, said)
		}
	}
}

// TestRehearsalsAskNobody: neither an authentication service nor a mirror hears of a rehearsal.
func TestRehearsalsAskNobody(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	c := authChain(t, policy.Values{"auth-response-headers": "X-User"}, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	x := rehearsed()
	x.Request.Fields.AddString("X-User", "mallory")
	if c.FilterRequest(x) != exchange.Continue || asked.Load() != 0 {
		t.Fatalf("status %d, asked %d times", x.Response.Status, asked.Load())
	}
	said := x.Rehearsal.Steps
	if len(said) != 2 || !strings.HasPrefix(said[0].Did[0], "would ask GET http://127.0.0.1") || said[0].Did[1] != "the Pod gets X-User as its answer has them" ||
		said[0].Did[2] != "lets the request in" {
		t.Errorf("steps %+v", said)
	}
	if len(x.Rehearsal.Conditions) != 1 || !strings.HasSuffix(x.Rehearsal.Conditions[0], "answers 2xx: it was not asked") {
		t.Errorf("conditions %q", x.Rehearsal.Conditions)
	}
	for said, want := range map[int]int{401: 401, 403: 403, 302: 500, 503: 500, 204: 0} {
		x := rehearsed()
		x.Rehearsal.AuthStatus = said
		if c.FilterRequest(x); x.Response.Status != want || asked.Load() != 0 || !strings.HasSuffix(x.Rehearsal.Conditions[0], fmt.Sprintf("answers %d: it was not asked", said)) {
			t.Errorf("where the service answers %d: %d, want %d, if %q", said, x.Response.Status, want, x.Rehearsal.Conditions)
		}
	}

	family := filters.Mirrors()
	rt := filters.NewRuntime(0)
	rt.Subrequests = subrequest.New(t.Context(), subrequest.Options{})
	defer rt.Subrequests.Close()
	m := filters.Compile([]filters.Policy{family}, route(t, "/", policy.Values{"mirror-target": "http://127.0.0.1:1/$http_host"}, family), &rt)
	x = rehearsed()
	if copied := m.Forwarding.Mirror.Copy(x); copied != nil {
		t.Error("a rehearsal is copied")
	}
	want := []exchange.Step{{Family: "mirror", Did: []string{"a copy would go to http://127.0.0.1:1/a.example"}}}
	if !reflect.DeepEqual(x.Rehearsal.Steps, want) {
		t.Errorf("steps %+v", x.Rehearsal.Steps)
	}
}

// TestRehearsalsNameTheCheck: of checks that are one filter each is told, under its own family.
func TestRehearsalsNameTheCheck(t *testing.T) {
	t.Parallel()
	r := withUsers(t, "alice:{PLAIN}secret", nil)
	ranges := route(t, "/", policy.Values{"allowlist-source-range": "192.0.2.0/24"}, filters.SourceRange())
	r.Policies = append(r.Policies, ranges.Policies...)
	rt := filters.NewRuntime(0)
	c := filters.Compile([]filters.Policy{filters.SourceRange(), filters.Auth()}, r, &rt)
	x := rehearsed()
	if c.FilterRequest(x) != exchange.Answered || x.Response.Status != 401 {
		t.Fatalf("status %d", x.Response.Status)
	}
	want := []exchange.Step{
		{Family: "source-range", Did: []string{"lets the request in"}}, {Family: "auth", Did: []string{"wants to know who the client is"}},
		{Family: "auth", Did: []string{"answers 401"}, Answered: true},
	}
	if !reflect.DeepEqual(x.Rehearsal.Steps, want) {
		t.Errorf("steps %+v", x.Rehearsal.Steps)
	}
}

func TestRehearsalsNameTheBlock(t *testing.T) {
	t.Parallel()
	f := blocking(t, policy.Values{"block-cidrs": "192.0.2.0/24"})
	x := rehearsed()
	if f.FilterRequest(x) != exchange.Answered {
		t.Fatal("it passes")
	}
	want := []exchange.Step{{Family: "block", Did: []string{"answers 403"}, Answered: true}}
	if !reflect.DeepEqual(x.Rehearsal.Steps, want) {
		t.Errorf("steps %+v", x.Rehearsal.Steps)
	}
}
