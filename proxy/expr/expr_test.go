package expr_test

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/router"
)

// get is an Exchange of a request as the engine has it when filters run: the head was read and judged.
func get(t testing.TB, target string, fields ...string) *exchange.Exchange {
	t.Helper()
	x := exchange.New()
	q := &x.Request
	q.Method, q.Target, q.Version = []byte("GET"), []byte(target), exchange.HTTP11
	for _, f := range append([]string{"Host: Web.Example:8080"}, fields...) {
		field, value, _ := strings.Cut(f, ": ")
		q.Fields.AddString(field, value)
	}
	if reject := x.Validate(); reject != nil {
		t.Fatalf("%s: %v", target, reject)
	}
	return x
}

// answered is an Exchange of which everything is known, as at the time of its line in the log.
func answered(t testing.TB) *exchange.Exchange {
	t.Helper()
	x := get(t, "/a%20b//c?x=1&Y=%20z&y=2", "User-Agent: curl/8 \"x\"", "X-Trace-Id: one", "x_trace-id: two", "Cookie: a=1; Sid=s3; sid=no",
		"Cookie: late=2", "Authorization: Basic YWxpY2U6czNjcmV0OnJlc3Q=", "Content-Type: text/plain", "Content-Length: 5",
		"X-Forwarded-For: 203.0.113.9, 10.0.0.2", "X-Forwarded-Host: front.example")
	x.Client = exchange.Client{
		Peer: netip.MustParseAddrPort("10.0.0.2:41234"), Addr: netip.MustParseAddr("203.0.113.9"), Local: netip.MustParseAddrPort("10.0.0.1:8443"),
		TLS: true, ServerName: "web.example", TLSVersion: tls.VersionTLS13, Proto: "https", Port: 443,
		CipherSuite: tls.TLS_AES_128_GCM_SHA256, Resumed: true, Connection: 7, Requests: 3,
		Credentials: &shown{x509.Certificate{Raw: []byte("abc"), SerialNumber: big.NewInt(0x1ab01)}},
	}
	main := router.ServicePort{Namespace: "shop", Name: "web", Port: "http"}
	x.Route = &router.Route{
		ID:       router.RouteID{Namespace: "shop", Ingress: "front", Host: "web.example", Path: "/a"},
		Backends: []router.Backend{{Service: main}, {Service: router.ServicePort{Namespace: "shop", Name: "web-next"}}},
		TLS:      &router.TLSPolicy{},
	}
	x.Response.Status, x.Response.Reason = 200, []byte("OK")
	x.Response.Fields.AddString("Content-Type", "text/html")
	x.Response.Fields.AddString("X-Cache", "HIT")
	x.Response.Fields.AddString("X-Cache", "local")
	x.Upstream = exchange.Upstream{Service: router.ServicePort{Namespace: "shop", Name: "web-next"}, Addr: netip.MustParseAddrPort("10.2.3.4:8080"), Tries: 1}
	start := time.Date(2026, 11, 22, 13, 45, 10, 987_654_321, time.FixedZone("", 3600))
	x.Timing = exchange.Timing{Start: start, FirstByte: start.Add(7 * time.Millisecond), End: start.Add(1234567 * time.Microsecond)}
	x.BytesIn, x.BytesOut = 5, 1000
	x.RequestID = []byte("0123456789abcdef0123456789abcdef")
	x.Trace = exchange.TraceContext{
		TraceID: [16]byte{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36},
		SpanID:  [8]byte{0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7}, Sampled: true,
	}
	return x
}

// shown is a client's certificate.
type shown struct{ certificate x509.Certificate }

func (*shown) Policy() *router.TLSPolicy { return new(router.TLSPolicy) }
func (*shown) Judge(*router.TLSPolicy, time.Time) router.Verdict {
	return router.Verdict{Outcome: router.Failed, Reason: "certificate has expired"}
}
func (s *shown) Certificate() *x509.Certificate { return &s.certificate }
func (*shown) Names() (subject, issuer string)  { return "CN=alice,O=Shop", "CN=ca" }

// values are what each variable gives for answered, and for a request of which nothing is known: "-" is a missing value.
var values = map[string][2]string{
	"request":                           {"GET /a%20b//c?x=1&Y=%20z&y=2 HTTP/1.1", "-"},
	"request_method":                    {"GET", "-"},
	"request_uri":                       {"/a%20b//c?x=1&Y=%20z&y=2", "-"},
	"escaped_request_uri":               {"%2Fa%2520b%2F%2Fc%3Fx%3D1%26Y%3D%2520z%26y%3D2", "-"},
	"uri":                               {"/a b/c", "-"},
	"document_uri":                      {"/a b/c", "-"},
	"args":                              {"x=1&Y=%20z&y=2", "-"},
	"query_string":                      {"x=1&Y=%20z&y=2", "-"},
	"is_args":                           {"?", ""},
	"arg_y":                             {"%20z", "-"},
	"host":                              {"web.example", "_"},
	"http_host":                         {"Web.Example:8080", "-"},
	"best_http_host":                    {"front.example", "-"},
	"http_x_trace_id":                   {"one, two", "-"},
	"http_cookie":                       {"a=1; Sid=s3; sid=no; late=2", "-"},
	"http_user_agent":                   {`curl/8 "x"`, "-"},
	"cookie_sid":                        {"s3", "-"},
	"cookie_late":                       {"2", "-"},
	"scheme":                            {"https", "http"},
	"pass_access_scheme":                {"https", "http"},
	"https":                             {"on", ""},
	"http2":                             {"", ""},
	"server_protocol":                   {"HTTP/1.1", "HTTP/1.1"},
	"server_name":                       {"web.example", "_"},
	"server_addr":                       {"10.0.0.1", "-"},
	"server_port":                       {"8443", "-"},
	"pass_server_port":                  {"443", "-"},
	"pass_port":                         {"443", "-"},
	"content_type":                      {"text/plain", "-"},
	"content_length":                    {"5", "-"},
	"request_id":                        {"0123456789abcdef0123456789abcdef", "-"},
	"opentelemetry_trace_id":            {"4bf92f3577b34da6a3ce929d0e0e4736", "-"},
	"opentelemetry_span_id":             {"00f067aa0ba902b7", "-"},
	"opentelemetry_context_traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "-"},
	"req_id":                            {"0123456789abcdef0123456789abcdef", "-"},
	"remote_addr":                       {"203.0.113.9", "-"},
	"the_real_ip":                       {"203.0.113.9", "-"},
	"binary_remote_addr":                {"\xcb\x00\x71\x09", "-"},
	"remote_port":                       {"41234", "-"},
	"remote_user":                       {"alice", "-"},
	"realip_remote_addr":                {"10.0.0.2", "-"},
	"realip_remote_port":                {"41234", "-"},
	"proxy_protocol_port":               {"41234", "-"},
	"connection":                        {"7", "-"},
	"connection_requests":               {"3", "-"},
	"proxy_protocol_addr":               {"10.0.0.2", "-"},
	"proxy_add_x_forwarded_for":         {"203.0.113.9, 10.0.0.2", "-"},
	"ssl_protocol":                      {"TLSv1.3", "-"},
	"ssl_cipher":                        {"TLS_AES_128_GCM_SHA256", "-"},
	"ssl_session_reused":                {"r", "-"},
	"ssl_early_data":                    {"", "-"},
	"ssl_server_name":                   {"web.example", "-"},
	"ssl_client_verify":                 {"FAILED:certificate has expired", "-"},
	"ssl_client_s_dn":                   {"CN=alice,O=Shop", "-"},
	"ssl_client_i_dn":                   {"CN=ca", "-"},
	"ssl_client_serial":                 {"01AB01", "-"},
	"ssl_client_fingerprint":            {"a9993e364706816aba3e25717850c26c9cd0d89d", "-"}, // of "abc", FIPS 180
	"namespace":                         {"shop", "-"},
	"ingress_name":                      {"front", "-"},
	"service_name":                      {"web", "-"},
	"service_port":                      {"http", "-"},
	"location_path":                     {"/a", "-"},
	"proxy_upstream_name":               {"shop-web-http", "-"},
	"proxy_alternative_upstream_name":   {"shop-web-next", ""},
	"status":                            {"200", "-"},
	"body_bytes_sent":                   {"1000", "0"},
	"bytes_sent":                        {"1074", "0"},
	"sent_http_x_cache":                 {"HIT, local", "-"},
	"upstream_addr":                     {"10.2.3.4:8080", "-"},
	"upstream_status":                   {"200", "-"},
	"upstream_response_time":            {"1.234", "-"},
	"upstream_header_time":              {"0.007", "-"},
	"upstream_connect_time":             {"", "-"}, // TestTries
	"upstream_response_length":          {"1000", "-"},
	"upstream_cache_status":             {"", "-"},
	"upstream_http_content_type":        {"text/html", "-"},
	"request_completion":                {"OK", ""},
	"request_time":                      {"1.234", "-"},
	"time_iso8601":                      {"2026-11-22T13:45:12+01:00", ""},
	"time_local":                        {"22/Nov/2026:13:45:12 +0100", ""},
	"hostname":                          {host(), host()},
	"pid":                               {strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getpid())},
	"msec":                              {"1795351512.222", ""},
	"request_length":                    {"", ""}, // TestRequestLength
}

func host() string {
	name, _ := os.Hostname()
	return name
}

// Suites have the names that OpenSSL gives them.
func TestCipherNames(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("there is no openssl here")
	}
	out, err := exec.CommandContext(t.Context(), binary, "ciphers", "-stdname", "ALL:@SECLEVEL=0").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{} // by IANA's
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) > 2 {
			names[words[0]] = words[2]
		}
	}
	e, compared := parse(t, "$ssl_cipher"), 0
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		want, known := names[s.Name]
		if !known {
			continue
		}
		compared++
		if got := string(e.Append(nil, &exchange.Exchange{Client: exchange.Client{CipherSuite: s.ID}})); got != want {
			t.Errorf("%s = %q, want %q", s.Name, got, want)
		}
	}
	if compared < 10 {
		t.Errorf("OpenSSL knows %d of Go's suites:\n%s", compared, out)
	}
}

// What was cut was not completed.
func TestRequestCompletion(t *testing.T) {
	t.Parallel()
	e := parse(t, "$request_completion")
	for _, why := range []exchange.Why{exchange.ClientGone, exchange.ClientTimeout, exchange.UpstreamTruncated} {
		x := answered(t)
		if x.Response.Why = why; len(e.Append(nil, x)) != 0 {
			t.Errorf("%s: completed", why)
		}
	}
}

func parse(t testing.TB, text string) *expr.Expr {
	t.Helper()
	e, err := expr.Parse(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return e
}

func TestValues(t *testing.T) {
	t.Parallel()
	full, empty := answered(t), exchange.New()
	for variable, want := range values {
		if variable == "request_length" {
			continue
		}
		e := parse(t, "$"+variable)
		if got := string(e.AppendEscaped([]byte("<"), full, expr.EscapeNone)); got != "<"+want[0] {
			t.Errorf("$%s = %q, want %q", variable, got[1:], want[0])
		}
		if strings.HasPrefix(variable, "time_") || variable == "msec" {
			continue // the time is never missing
		}
		wantText := strings.TrimSuffix(want[1], "-")
		if got := string(e.Append([]byte("<"), empty)); got != "<"+wantText {
			t.Errorf("$%s of an empty request = %q, want %q", variable, got[1:], wantText)
		}
		if got := string(e.AppendEscaped(nil, empty, expr.EscapeLog)); got != want[1] {
			t.Errorf("$%s of an empty request in a log = %q, want %q", variable, got, want[1])
		}
	}
}

// TestEveryVariableIsTested: a variable without a value above is one that nobody has looked at.
func TestEveryVariableIsTested(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, v := range expr.Variables() {
		if seen[v.Name] {
			t.Errorf("$%s is there twice", v.Name)
		}
		seen[v.Name] = true
		if !strings.HasSuffix(v.Doc, ".") || strings.ContainsAny(v.Doc, "|\n") {
			t.Errorf("$%s: %q is no line of a table", v.Name, v.Doc)
		}
		family, isFamily := strings.CutSuffix(v.Name, "NAME")
		tested := false
		for name := range values {
			tested = tested || name == v.Name || isFamily && strings.HasPrefix(name, family)
		}
		if !tested {
			t.Errorf("$%s has no value in this test", v.Name)
		}
	}
	for name := range values {
		if _, err := expr.Parse("$" + name); err != nil {
			t.Error(err)
		}
	}
}

// TestEdges are requests in which a variable is not what it usually is.
func TestEdges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text, target string
		fields       []string
		want         string
	}{
		{"$uri", "/a%2Fb", nil, "/a/b"},
		{"$uri", "/a/%2F/b", nil, "/a/b"},
		{"$uri", "/a%2F..%2Fb", nil, "/b"},
		{"$uri", "/a/b%2F..", nil, "/a/"},
		{"$uri", "/a/b%2F.", nil, "/a/b/"},
		{"$uri", "/%2F..%2F..%2Fa", nil, "/a"},
		{"$uri", "/a/../b/./c", nil, "/b/c"},
		{"$uri", "/100%25", nil, "/100%"},
		{"$uri", "/%252F", nil, "/%2F"},
		{"$uri", "/a%3Fb?c", nil, "/a?b"},
		{"$uri", "/%C3%A9", nil, "/é"},
		{"$uri$is_args$args", "/a?", nil, "/a"},
		{"$uri$is_args$args", "/a?b?c", nil, "/a?b?c"},
		{"$arg_a", "/?ba=0&a&a=1&a=2", nil, "1"},
		{"[$arg_a]", "/?a=", nil, "[]"},
		{"[$arg_a]", "/?a", nil, "[]"},
		{"$arg_a", "/?b&A=%0a", nil, "%0a"},
		{"[$cookie_a]", "/", []string{"Cookie: ba=0; a = x y ; a=1"}, "[x y ]"},
		{"[$cookie_a]", "/", []string{"Cookie: a"}, "[]"},
		{"[$cookie_a]", "/", []string{"Cookie: b, a=1"}, "[1]"},
		{"[$cookie_a]", "/", []string{"Cookie: aa=1; A=2"}, "[2]"},
		{"[$remote_user]", "/", []string{"Authorization: Basic YWxpY2U="}, "[]"},     // no colon
		{"[$remote_user]", "/", []string{"Authorization: Basic YWxp*2U6eA=="}, "[]"}, // no base64
		{"[$remote_user]", "/", []string{"Authorization: Basic YWxpY2U6eA*="}, "[]"}, // none in the password
		{"[$remote_user]", "/", []string{"Authorization: Basic OnNlY3JldA=="}, "[]"}, // no user
		{"[$remote_user]", "/", []string{"Authorization: bAsIc   YTpiOmM6ZA"}, "[a]"},
		{"[$remote_user]", "/", []string{"Authorization: Digest username=\"x\""}, "[]"},
		{"[$remote_user]", "/", []string{"Authorization: Bearer YTpi"}, "[]"},
		{"[$http_x_real_ip]", "/", []string{"X_Real_IP: 6.6.6.6"}, "[]"}, // only the engine says that
		{"[$http_x_real_ip]", "/", []string{"X-Real-IP: 1.2.3.4"}, "[1.2.3.4]"},
		{"$HOST ${Request_Method}x$uri.", "/y", nil, "web.example GETx/y."},
		{"$request_length", "/", nil, "42"}, // GET / HTTP/1.1, Host: Web.Example:8080, and an empty line
		{"$request_length", "/", []string{"X-Real-IP: 1.2.3.4", "A: b"}, "48"},
	}
	for _, tt := range tests {
		if got := string(parse(t, tt.text).Append(nil, get(t, tt.target, tt.fields...))); got != tt.want {
			t.Errorf("%s of %s %q = %q, want %q", tt.text, tt.target, tt.fields, got, tt.want)
		}
	}
}

// TestRewritten: once a filter has chosen another path, $uri is that, and $request_uri what the client sent.
func TestRewritten(t *testing.T) {
	t.Parallel()
	x := get(t, "/old/x?q")
	e := parse(t, "$uri $request_uri")
	for forward, want := range map[string]string{
		"/new%20path": "/new path /old/x?q", "/%zz%2": "/%zz%2 /old/x?q", "a%2F..%2Fb": "a/../b /old/x?q",
	} {
		x.Request.Forward = []byte(forward)
		if got := string(e.Append(nil, x)); got != want {
			t.Errorf("%s: %q, want %q", forward, got, want)
		}
	}
}

func TestAnswersOfTheProxy(t *testing.T) {
	t.Parallel()
	x := answered(t)
	x.Answer(502, exchange.ConnectFailed, "no\n")
	e := parse(t, "$status $upstream_status $upstream_response_length [$upstream_http_content_type] $sent_http_content_type")
	if got, want := string(e.Append(nil, x)), "502 502 0 [] text/plain; charset=utf-8"; got != want {
		t.Errorf("after a failed try: %q, want %q", got, want)
	}
	x.Upstream = exchange.Upstream{}
	if got, want := string(e.AppendEscaped(nil, x, expr.EscapeLog)), "502 - - [-] text/plain; charset=utf-8"; got != want {
		t.Errorf("without a try: %q, want %q", got, want)
	}
}

// TestDefaultLogFormat is ingress-nginx's log-format-upstream.
func TestDefaultLogFormat(t *testing.T) {
	t.Parallel()
	e, err := expr.ParseLog(`$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" ` +
		`$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length ` +
		`$upstream_response_time $upstream_status $req_id`)
	if err != nil {
		t.Fatal(err)
	}
	x := answered(t)
	x.Upstream.Service = x.Route.Backends[0].Service
	want := `203.0.113.9 - alice [22/Nov/2026:13:45:12 +0100] "GET /a%20b//c?x=1&Y=%20z&y=2 HTTP/1.1" 200 1000 "-" "curl/8 \x22x\x22" ` +
		`265 1.234 [shop-web-http] [] 10.2.3.4:8080 1000 1.234 200 0123456789abcdef0123456789abcdef`
	if got := string(e.AppendEscaped(nil, x, expr.EscapeLog)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
