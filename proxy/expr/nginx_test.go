package expr_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/router"
)

// compared are variables whose values both sides have for the same request. nginx writes them into a log, in the format given by escape.
const compared = `$request|$request_method|$request_uri|$uri|$document_uri|$args|$query_string|$is_args|$arg_a|$arg_b|$host|$http_host|` +
	`$http_user_agent|$http_x_trace_id|$http_cookie|$cookie_a|$cookie_sid|$scheme|$https|$http2|$server_protocol|$server_name|$content_type|` +
	`$content_length|$request_length|$remote_addr|$remote_user|$ssl_protocol|$status|` +
	`$ssl_cipher|$ssl_session_reused|$ssl_early_data|$connection_requests|$request_completion|$proxy_protocol_port|$upstream_cache_status|$hostname|${http_x_none}.`

// requests are heads as a client sends them; Host is added. There is no repeated field but Cookie: nginx joins them since 1.23, as ingress-nginx's
// does, and Debian's is older.
var requests = [][]string{
	{"GET / HTTP/1.1"},
	{"GET /a%20b//c/./d/../e?a=1&B=%20z&b=2 HTTP/1.1", "User-Agent: \"quoted\\\" \xc3\xa9\x80", "X-Trace-Id: one"},
	{"GET /a%2Fb/%2F%2e%2E%2fc%0A%0d%7f%25%22%5c?A&a&a=&a=2 HTTP/1.1", "Cookie: a=1; Sid=s3; sid=no", "Cookie: late=2"},
	{"GET /x%3Fy%23z? HTTP/1.1", "Cookie: ba=0; a = x y ; a=1"},
	{"GET /%C3%A9/+%2B~?&&b==&a=b=c HTTP/1.0", "Cookie: b, a=1; ;sid"},
	{"HEAD /h?? HTTP/1.1", "Cookie: =; a=", "Authorization: Basic YWxpY2U6czNjcmV0OnJlc3Q="},
	{"GET /a/b/.. HTTP/1.1", "Authorization: Basic YWxpY2U=", "Cookie: aa=1;A=\"2\""},
	{"GET /a/. HTTP/1.1", "Authorization: Basic YWxpY2U6eA*="},
	{"GET /a/b%2F.. HTTP/1.1", "Authorization: basic   OnNlY3JldA=="},
	{"POST /post?a=%61 HTTP/1.1", "Content-Type: text/plain;a=\"b\"", "Content-Length: 0", "Authorization: Basic YTpiOmM6ZA"},
	{"GET /tab?a=1;b=2 HTTP/1.1", "User-Agent: a\tb", "Authorization: Bearer YTpi"},
}

// TestLikeNginx compares every variable that both have, and every way to escape, with what nginx writes for the same bytes.
func TestLikeNginx(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("there is no nginx here")
	}
	dir := t.TempDir()
	address := startNginx(t, binary, dir)
	ways := map[string]expr.Escape{"default": expr.EscapeLog, "json": expr.EscapeJSON, "none": expr.EscapeNone}
	format, err := expr.Parse(compared)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]byte{}
	for _, head := range requests {
		send(t, address, head)
		x := received(t, head)
		for way, how := range ways {
			lines[way] = append(format.AppendEscaped(lines[way], x, how), '\n')
		}
	}
	for way, want := range lines {
		name := filepath.Join(dir, way+".log")
		got := logged(t, name, len(want))
		if bytes.Equal(got, want) {
			continue
		}
		theirs, ours := strings.Split(string(got), "|"), strings.Split(string(want), "|")
		for i := range min(len(theirs), len(ours)) {
			if theirs[i] != ours[i] {
				per := strings.Count(compared, "|")
				t.Errorf("escape=%s, request %d, %s: nginx %q, ours %q", way, i/per, strings.Split(compared, "|")[i%per], theirs[i], ours[i])
			}
		}
		if len(theirs) != len(ours) {
			t.Errorf("escape=%s: nginx\n%q\nours\n%q", way, got, want)
		}
	}
}

// startNginx starts an nginx that logs compared in all three ways, and returns its address.
func startNginx(t *testing.T, binary, dir string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	configuration := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 64; }
http {
	log_format default '%[2]s'; log_format json escape=json '%[2]s'; log_format none escape=none '%[2]s';
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server {
		listen %[3]s; server_name web.example;
		access_log %[1]s/default.log default; access_log %[1]s/json.log json; access_log %[1]s/none.log none;
		location / { return 204; }
	}
}
`, dir, compared, address)
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-c", name, "-p", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 500 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("nginx does not listen: %s", stderr.String())
	return ""
}

// send sends a request and reads the answer to its end.
func send(t *testing.T, address string, head []string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	lines := append([]string{head[0], "Host: Web.Example:8080", "Connection: close"}, head[1:]...)
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(answer, " 204 ") {
		t.Fatalf("%q: nginx says %q, %v", head[0], answer, err)
	}
	_, _ = io.Copy(io.Discard, c)
}

// received is the Exchange of the same request.
func received(t *testing.T, head []string) *exchange.Exchange {
	t.Helper()
	words := strings.Split(head[0], " ")
	x := exchange.New()
	q := &x.Request
	q.Method, q.Target, q.Version = []byte(words[0]), []byte(words[1]), exchange.HTTP11
	if words[2] == "HTTP/1.0" {
		q.Version = exchange.HTTP10
	}
	for _, f := range append([]string{"Host: Web.Example:8080"}, head[1:]...) {
		field, value, _ := strings.Cut(f, ": ")
		q.Fields.AddString(field, value)
	}
	if reject := x.Validate(); reject != nil {
		t.Fatalf("%q: %v", head[0], reject)
	}
	q.Fields.AddString("Connection", "close") // it has ended at this hop, but it was sent
	x.Client.Addr = netip.MustParseAddr("127.0.0.1")
	x.Route = &router.Route{ID: router.RouteID{Host: "web.example"}}
	x.Response.Status = 204
	x.Client.Requests = 1
	x.Timing.End = time.Now()
	return x
}

// logged waits until a log has as many bytes, and returns it.
func logged(t *testing.T, name string, size int) []byte {
	t.Helper()
	var content []byte
	for range 500 {
		content, _ = os.ReadFile(name)
		if len(content) >= size && bytes.Count(content, []byte{'\n'}) >= len(requests) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return content
}
