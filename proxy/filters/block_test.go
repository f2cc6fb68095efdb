package filters_test

import (
	"net/netip"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/policy"
)

// blocking returns what an operator's settings answer; nil for nothing.
func blocking(t *testing.T, v policy.Values) exchange.RequestFilter {
	t.Helper()
	parsed, err := filters.Block().ParseValues(v, nil)
	if err != nil {
		t.Fatal(err)
	}
	return filters.Govern([]filters.Policy{filters.Block()}, []policy.Value{{Family: "block", Parsed: parsed}}).Block
}

func TestBlock(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("Long", 200)
	f := blocking(t, policy.Values{"block-cidrs": "192.0.2.0/24", "block-user-agents": "Bot/1.0, ~^$, ~*evil, " + long, "block-referers": "http://spam.example"})
	for _, c := range []struct {
		address string
		fields  []string
		blocked bool
	}{
		{"203.0.113.1", []string{"User-Agent", "curl"}, false},
		{"192.0.2.255", []string{"User-Agent", "curl"}, true},
		{"::ffff:192.0.2.1", []string{"User-Agent", "curl"}, true},
		{"203.0.113.1", nil, true}, // no user agent is the empty text, as in nginx
		{"203.0.113.1", []string{"User-Agent", ""}, true},
		{"203.0.113.1", []string{"User-Agent", "bOT/1.0"}, true},
		{"203.0.113.1", []string{"User-Agent", "Bot/1.0 "}, false},
		{"203.0.113.1", []string{"User-Agent", strings.ToUpper(long)}, true},
		{"203.0.113.1", []string{"User-Agent", long + "x"}, false},
		{"203.0.113.1", []string{"User-Agent", long + " EVIL"}, true},
		{"203.0.113.1", []string{"User-Agent", "curl", "User-Agent", "evil"}, true},
		{"203.0.113.1", []string{"User-Agent", "curl", "Referer", "HTTP://spam.example"}, true},
		{"203.0.113.1", []string{"User-Agent", "curl", "Referer", "http://spam.example/"}, false},
		{"203.0.113.1", []string{"User-Agent", "curl", "Referer", "evil"}, false},
	} {
		x := request("a.example", "/")
		x.Client.Addr = netip.MustParseAddr(c.address)
		for i := 0; i < len(c.fields); i += 2 {
			x.Request.Fields.AddString(c.fields[i], c.fields[i+1])
		}
		if got := f.FilterRequest(x) == exchange.Answered; got != c.blocked || got && x.Response.Status != 403 {
			t.Errorf("%s %.60q: %v with status %d, want %v", c.address, c.fields, got, x.Response.Status, c.blocked)
		}
		x.Release()
	}
	if blocking(t, policy.Values{}) != nil {
		t.Error("nothing blocks something")
	}
}

func TestBlockAllocatesNothing(t *testing.T) {
	f := blocking(t, policy.Values{"block-cidrs": "192.0.2.0/24", "block-user-agents": "Bot/1.0, ~*evil", "block-referers": "http://spam.example"})
	x := request("a.example", "/")
	x.Client.Addr = netip.MustParseAddr("203.0.113.1")
	x.Request.Fields.AddString("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")
	x.Request.Fields.AddString("Referer", "https://a.example/")
	if n := testing.AllocsPerRun(100, func() {
		if f.FilterRequest(x) != exchange.Continue {
			t.Fatal("blocked")
		}
	}); n != 0 && !raceEnabled { // package regexp keeps its machines in a sync.Pool
		t.Errorf("%v allocations", n)
	}
}
