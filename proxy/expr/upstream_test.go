package expr_test

import (
	"net/netip"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
)

const everyTry = "$upstream_addr|$upstream_status|$upstream_response_time|$upstream_header_time|$upstream_connect_time|$upstream_response_length"

// Of several tries a line tells each, as nginx does.
func TestTries(t *testing.T) {
	x := answered(t)
	first, second := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("[2001:db8::1]:80")
	x.Upstream.Legs = []exchange.Leg{
		{Addr: first, Why: exchange.ConnectTimeout, Whole: 5 * time.Second},
		{Addr: first, Why: exchange.UpstreamReset, Reused: true, Whole: 2 * time.Millisecond},
		{Addr: second, Why: exchange.UpstreamStatus, Status: 503, Connect: time.Millisecond, FirstByte: 7 * time.Millisecond, Whole: 8 * time.Millisecond},
		{Addr: second, Status: 200, Connect: 3 * time.Millisecond, FirstByte: 40 * time.Millisecond, Whole: 1250 * time.Millisecond},
	}
	const want = "10.0.0.1:80, 10.0.0.1:80, [2001:db8::1]:80, [2001:db8::1]:80|504, 502, 503, 200|5.000, 0.002, 0.008, 1.250|-, -, 0.007, 0.040|" +
		"-, 0.000, 0.001, 0.003|0, 0, 0, 1000"
	e := parse(t, everyTry)
	if got := string(e.AppendEscaped(nil, x, expr.EscapeLog)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	dst := make([]byte, 0, 1<<10)
	if n := testing.AllocsPerRun(100, func() { dst = e.AppendEscaped(dst[:0], x, expr.EscapeLog) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A try that the client ended has no status, and where the proxy answered no byte came from a Pod.
func TestTryWithoutAnswer(t *testing.T) {
	x := answered(t)
	x.Response.Local = true
	x.Upstream.Legs = []exchange.Leg{{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Why: exchange.ClientGone, Connect: time.Millisecond, Whole: time.Second}}
	const want = "10.0.0.1:80|-|1.000|-|0.001|0"
	if got := string(parse(t, everyTry).AppendEscaped(nil, x, expr.EscapeLog)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
