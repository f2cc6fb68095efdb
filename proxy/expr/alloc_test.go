package expr_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/expr"
)

// TestNoAllocation: an expression with every variable costs no allocation where there is room for its value, however it is escaped.
func TestNoAllocation(t *testing.T) {
	x := answered(t)
	var all strings.Builder
	for name := range values {
		all.WriteString(" [$" + name + "]")
	}
	all.WriteString("$http_not_there$arg_z$cookie_z")
	e := parse(t, all.String())
	dst := make([]byte, 0, 16<<10)
	for how := expr.EscapeText; how <= expr.EscapeNone; how++ {
		if n := testing.AllocsPerRun(100, func() { dst = e.AppendEscaped(dst[:0], x, how) }); n != 0 {
			t.Errorf("escape %d: %v allocations", how, n)
		}
	}
	if len(dst) < 800 {
		t.Errorf("only %d bytes came out", len(dst))
	}
}

func BenchmarkAppend(b *testing.B) {
	x := answered(b)
	for name, text := range map[string]string{
		"uri": "$request_uri", "signin": "https://a.example/start?rd=$pass_access_scheme://$http_host$escaped_request_uri",
		"log": `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" ` +
			`$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length ` +
			`$upstream_response_time $upstream_status $req_id`,
	} {
		b.Run(name, func(b *testing.B) {
			e := parse(b, text)
			dst := make([]byte, 0, 4<<10)
			b.ReportAllocs()
			for b.Loop() {
				dst = e.AppendEscaped(dst[:0], x, expr.EscapeLog)
			}
		})
	}
}
