package explain_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/ingress"
)

var (
	requests = flag.Int("requests", 1000, "number of requests that are explained and sent")
	seed     = flag.Uint64("seed", 1, "of the worlds and requests")
)

// perWorld is how many requests there are for each table.
const perWorld = 50

// request is one that is explained and sent.
type request struct {
	id             string
	scheme         string
	serverName     string
	method, target string
	host           string
	fields         []exchange.Field
	body           string
	version        exchange.Version
	grpc           bool
	hello          hello
	// auth is what the authentication service answers, 0 for 200.
	auth int
}

// newRequest returns a request at random.
func newRequest(d dice, id string) *request {
	names := []string{"a.example.com", "b.example.com", "www.a.example.com", "x.example.com", "c.test", "d.c.test", "e.d.c.test", "r7.test", "alias.test", "nobody.test"}
	q := &request{
		id: id, scheme: "http", version: pick(d, []exchange.Version{exchange.HTTP11, exchange.HTTP11, exchange.HTTP11, exchange.HTTP2, exchange.HTTP10}),
		method: pick(d, []string{"GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE"}), host: pick(d, names),
	}
	if d.one(3) {
		q.scheme, q.serverName, q.hello = "https", q.host, newHello(d)
		if d.one(5) {
			q.serverName = pick(d, names)
		}
	}
	switch d.IntN(12) {
	case 0:
		q.host = strings.ToUpper(q.host)
	case 1:
		q.host += ":8443"
	case 2:
		q.host += "."
	case 3:
		if d.one(4) {
			q.host = "two words"
		}
	}
	q.target = pick(d, append([]string{"/a/./b", "/a/../api/v1", "//a", "/a%2Fb", "/%61", "/api/v1/x", "/re/42", "/re/x", "/x/y/", "/a/b/..%2f", "/%zz", "/.well-known/acme-challenge/t"}, paths...))
	if d.one(3) {
		q.target += pick(d, []string{"?", "?q=1", "?q=/../", "?a=<b>"})
	}
	add := func(n int, name string, values ...string) {
		if d.one(n) {
			q.fields = append(q.fields, exchange.Field{Name: name, Value: pick(d, values)})
		}
	}
	add(4, "Origin", "https://o.example", "https://p.example")
	add(3, "X-Canary", "always", "never", "beta", "other")
	add(4, "Cookie", "canary=always", "canary=never", "x=y; canary=always")
	add(4, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("alice:secret")), "Basic "+base64.StdEncoding.EncodeToString([]byte("alice:wrong")), "Bearer x")
	add(12, "User-Agent", "EvilBot", "curl/8")
	add(6, "X-Forwarded-For", "203.0.113.7", "10.0.0.1, 203.0.113.7")
	add(6, "X-Forwarded-Proto", "https", "http")
	add(8, "X-Original-URL", "/admin")
	add(8, "X-Drop", "1")
	add(15, "Connection", "close", "keep-alive, X-Drop")
	add(30, "Host_Header", "x")
	add(40, "Content-Type", "text/plain")
	if d.one(4) {
		q.auth = pick(d, []int{200, 204, 302, 401, 401, 403, 500})
		q.fields = append(q.fields, exchange.Field{Name: authField, Value: strconv.Itoa(q.auth)})
	}
	if d.one(6) {
		q.grpc, q.method = true, "POST"
		q.fields = append(q.fields, exchange.Field{Name: "Content-Type", Value: pick(d, []string{"application/grpc", "Application/gRPC+proto", "application/grpc; x=y"})})
		if q.version == exchange.HTTP2 {
			q.fields = append(q.fields, exchange.Field{Name: "X-Request-ID", Value: id})
			return q // the end of the body is that of the stream
		}
	}
	if q.method == "POST" || q.method == "PUT" {
		q.body = strings.Repeat("b", d.IntN(20))
		q.fields = append(q.fields, exchange.Field{Name: "Content-Length", Value: strconv.Itoa(len(q.body))})
	}
	q.fields = append(q.fields, exchange.Field{Name: "X-Request-ID", Value: id})
	return q
}

// wire is the request as it is sent.
func (q *request) wire() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\n", q.method, q.target, q.version, q.host)
	for _, f := range q.fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	b.WriteString("\r\n" + q.body)
	return b.Bytes()
}

// question is the request as it is explained.
func (q *request) question(r *rig) proxy.Question {
	port := r.plain
	if q.scheme == "https" {
		port = r.secure
	}
	return proxy.Question{
		URL: q.scheme + "://any:" + port + q.target, Method: q.method, Fields: append([]exchange.Field{{Name: "Host", Value: q.host}}, q.fields...),
		Client: netip.MustParseAddr("127.0.0.1"), ServerName: q.serverName, Version: q.version, Shake: r.shake(q), AuthStatus: q.auth,
	}
}

// TestExplanationsAreTrue explains requests at random over tables at random, sends them, and compares: the status, where a redirect leads, the fields of
// an answer of the proxy's own, the Service, and method, path, Host and fields that its Pod gets.
func TestExplanationsAreTrue(t *testing.T) {
	m := newMaterial(t)
	r := newRig(t, m)
	routes := map[string]string{} // by request ID
	tally := map[string]int{}
	families := filters.Families(config.Policies())
	wires := &lines{rig: r, conns: map[string]*line{}}
	for n := 0; n < *requests; {
		d := newDice(*seed, uint64(n))
		world := newWorld(d, m)
		table, _ := ingress.Build(world, families)
		wires.close()
		r.publish(table, world)
		for i := 0; i < perWorld && n < *requests; i++ {
			q := newRequest(d, fmt.Sprintf("r-%d", n))
			n++
			said, err := r.engine.Explain(q.question(r))
			if err != nil {
				t.Fatalf("%s: %v", q.wire(), err)
			}
			if said.Route != nil {
				routes[q.id] = said.Route.Namespace + "/" + said.Route.Ingress + " " + said.Route.Path
			} else {
				routes[q.id] = "/ "
			}
			kind, wrong := compare(&said, wires.send(t, q))
			tally[kind]++
			if wrong != "" {
				text, _ := json.MarshalIndent(said, "", " ")
				t.Fatalf("seed %d, request %d: %s\n%s\n%s\n%s\n%s", *seed, n-1, wrong, q.wire(), text, worldText(world), table)
			}
		}
	}
	for kind, n := range tally {
		t.Logf("%6d %s", n, kind)
	}
	if tally["proxied"] < *requests/20 || len(tally) < 8 {
		t.Errorf("the worlds are too small: %v", tally)
	}
	for _, kind := range []string{"0", "gRPC 14", "401", "403", "500", "handshake refused", "421"} {
		if tally[kind] == 0 && *requests >= 1000 {
			t.Errorf("nothing came to %s: %v", kind, tally)
		}
	}
	r.compareRoutes(t, routes)
}

// compare returns what kind of answer it was, and what the explanation said wrongly of it.
func compare(said *proxy.Explanation, res *http.Response) (kind, wrong string) {
	var pod got
	if text := res.Header.Get(podField); text != "" {
		if err := json.Unmarshal([]byte(text), &pod); err != nil {
			return "", err.Error()
		}
	}
	kind = strconv.Itoa(res.StatusCode)
	if status := res.Header.Get("Grpc-Status"); status != "" {
		kind = "gRPC " + status
	} else if res.Header.Get(refusedField) != "" {
		kind = "handshake refused"
	}
	if pod.Service != "" {
		kind = "proxied"
	}
	all := 0
	for i := range said.Outcomes {
		all += said.Outcomes[i].Weight
	}
	for i := range said.Outcomes {
		o := &said.Outcomes[i]
		if o.Weight <= 0 || o.Total < o.Weight || o.Total != all {
			return kind, fmt.Sprintf("odds of %d in %d", o.Weight, o.Total)
		}
		if o.Answer != nil {
			differs := compareAnswer(o.Answer, res)
			if pod.Service == "" && differs == "" {
				return kind, ""
			}
			wrong += differs + "\n"
			continue
		}
		if pod.Service != "" && o.Forward.Service == "default/"+pod.Service {
			return kind, compareSent(&o.Forward.Sent, &pod)
		}
		wrong += fmt.Sprintf("explained as proxied to %s, which answers %d from %q\n", o.Forward.Service, res.StatusCode, pod.Service)
	}
	if len(said.Outcomes) == 0 {
		return kind, "there is no outcome"
	}
	return kind, wrong
}

// compareAnswer says in what an answer of the proxy's own differs from what was said.
func compareAnswer(a *proxy.Answer, res *http.Response) string {
	if refused := res.Header.Get(refusedField); (refused != "") != (a.Reason == proxy.HandshakeRefused) {
		return fmt.Sprintf("explained as %s %q, the handshake: %q", a.Reason, a.Detail, refused)
	} else if refused != "" {
		return ""
	}
	if a.Status != res.StatusCode || a.Location != res.Header.Get("Location") {
		return fmt.Sprintf("explained as %d to %q, it is %d to %q", a.Status, a.Location, res.StatusCode, res.Header.Get("Location"))
	}
	said := http.Header{}
	for _, f := range a.Fields {
		said.Add(f.Name, f.Value)
	}
	for _, hop := range []string{"Date", "Server", "Connection", "Content-Length", "Content-Type"} {
		said.Del(hop)
		res.Header.Del(hop)
	}
	if fmt.Sprint(said) != fmt.Sprint(res.Header) {
		return fmt.Sprintf("fields %v, said %v", res.Header, said)
	}
	return ""
}

// compareSent says in what a Pod's request differs from what was said.
func compareSent(s *proxy.Sent, pod *got) string {
	if s.Method != pod.Method || s.Target != pod.Target || s.Host != pod.Host {
		return fmt.Sprintf("the Pod got %s %s for %s, said %s %s for %s", pod.Method, pod.Target, pod.Host, s.Method, s.Target, s.Host)
	}
	for _, f := range s.Set {
		if f.Name == "Host" || f.Name == "Connection" || strings.HasPrefix(f.Value, "(") {
			continue
		}
		found := false
		for _, value := range pod.Header.Values(f.Name) {
			found = found || value == f.Value
		}
		if !found {
			return fmt.Sprintf("the Pod got %q for %s, said %q", pod.Header.Values(f.Name), f.Name, f.Value)
		}
	}
	for _, name := range s.Removed {
		if values := pod.Header.Values(name); len(values) > 0 {
			return fmt.Sprintf("the Pod got %q for %s, which was to be removed", values, name)
		}
	}
	return ""
}

// compareRoutes looks into the access log for the Ingress and the path of each request.
func (r *rig) compareRoutes(t *testing.T, said map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.log.Close(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.logFile)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var line struct {
			ID string `json:"request_id"`
			// The names are those of the log.
			Namespace, Ingress, Route string
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", s.Bytes(), err)
		}
		want, known := said[line.ID]
		if !known {
			continue // refused before it had an ID
		}
		compared++
		if got := line.Namespace + "/" + line.Ingress + " " + line.Route; got != want {
			t.Errorf("%s went to %q, said %q", line.ID, got, want)
		}
	}
	t.Logf("%d routes of %d are in the log", compared, len(said))
	if compared < len(said)/2 {
		t.Errorf("only %d of %d requests are in the log", compared, len(said))
	}
}
