package policies_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
)

// explain explains a request before it is sent: what is sent afterwards gets the answer that the file says, so nothing was counted or used up. It
// returns nil for what is no request of HTTP/1.1.
func (r *rig) explain(t *testing.T, request []byte) *proxy.Explanation {
	t.Helper()
	_, wire := onWire(request)
	head, _, _ := strings.Cut(string(wire), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	method, rest, _ := strings.Cut(lines[0], " ")
	target, version, _ := strings.Cut(rest, " ")
	if version != "HTTP/1.1" || !strings.HasPrefix(target, "/") {
		return nil
	}
	_, port, _ := strings.Cut(r.addr, ":")
	q := proxy.Question{URL: "http://any:" + port + target, Method: method, Client: netip.MustParseAddr("127.0.0.1")}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		q.Fields = append(q.Fields, exchange.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	said, err := r.engine.Explain(q)
	if err != nil {
		t.Fatalf("%s: %v", lines[0], err)
	}
	return &said
}

// compareExplained compares an answer of the proxy's own with what was said of it. Where something was assumed, nothing can be said.
func compareExplained(t *testing.T, name string, said *proxy.Explanation, answer string) {
	t.Helper()
	if said == nil || len(said.Conditions) > 0 || len(said.Outcomes) != 1 || said.Outcomes[0].Answer == nil {
		return
	}
	a := said.Outcomes[0].Answer
	status, fields, _ := strings.Cut(answer, "\n")
	if status != strconv.Itoa(a.Status) {
		t.Errorf("%s: explained as %d by %q, it is %s", name, a.Status, a.By, status)
	}
	if a.Location != "" && !strings.Contains(fields, "Location: "+a.Location+"\n") {
		t.Errorf("%s: explained as a redirect to %s, it is\n%s", name, a.Location, fields)
	}
}
