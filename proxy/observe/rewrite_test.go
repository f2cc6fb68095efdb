package observe

import (
	"encoding/json"
	"strings"
	"testing"
)

// The line has what was decided, quoted; a Location loses user information, and its query where the operator wants that.
func TestRewriteLine(t *testing.T) {
	r := &Rewrite{Path: []byte("/a\"\x1b"), Forward: []byte("/b"), Vhost: []byte("in.example"), Location: []byte("https://u:p@b.example/x?secret")}
	const want = `{"time":"2026-03-04T04:06:07.008009Z","event":"rewrite","method":"GET","host":"www.example.com","path":"/a\"\u001b","generation":42,` +
		`"namespace":"shop","ingress":"web","rule_host":"*.example.com","route":"/a","path_type":"Prefix","rewritten":"/b","upstream_host":"in.example",` +
		`"redirect":"https://b.example/x","status":200,"reason":"no-endpoint","canary":true,"canary_by":"weight","service":"cart","port":"http",` +
		`"request_id":"c0ffee"}` + "\n"
	c := encoder{dropQuery: true}
	if got := string(c.appendRewrite(nil, fullEntry(), r)); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(want), &fields); err != nil {
		t.Fatal(err)
	}
	c.dropQuery = false
	if got := string(c.appendRewrite(nil, fullEntry(), r)); !strings.Contains(got, `"redirect":"https://b.example/x?secret"`) {
		t.Errorf("got %s", got)
	}
	e := fullEntry()
	buffer := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buffer = c.appendRewrite(buffer[:0], e, r) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
