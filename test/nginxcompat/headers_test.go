package nginxcompat

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/router/policy"
)

// TestHeaderNames compares which fields of requests reach the Pod.
func TestHeaderNames(t *testing.T) {
	for _, s := range []setup{
		{values: policy.Values{"enable-underscores-in-headers": "false"}},
		{values: policy.Values{"enable-underscores-in-headers": "true"}, server: "underscores_in_headers on;"},
		{values: policy.Values{"ignore-invalid-headers": "false"}, server: "ignore_invalid_headers off;"},
	} {
		t.Run(fmt.Sprint(s.values), func(t *testing.T) {
			p := newPair(t, s)
			for _, line := range []string{"X-A: 1", "X_A: 1", "_: 1", "X-A_b: 1", "__x__: 1", "1: 1", "-: 1"} {
				request := get("/", line, "X-End: 2")
				theirs := replyOf(t, ask(t, "unix", p.nginx, request), nil)
				nginx := fieldsToPod(p.pod.take(t))
				ours := replyOf(t, ask(t, "tcp", p.podlane, request), nil)
				if podlane := fieldsToPod(p.pod.take(t)); theirs.line != ours.line || nginx != podlane {
					t.Errorf("%q: through nginx %s, %s; through Podlane %s, %s", line, theirs.line, nginx, ours.line, podlane)
				}
			}
		})
	}
}

// fieldsToPod are the fields that a Pod got, without those that the proxy sets.
func fieldsToPod(q *http.Request) string {
	if q == nil {
		return "nothing"
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(q.Header)) {
		if !strings.HasPrefix(name, "X-Forwarded-") && name != "X-Real-Ip" && name != "X-Request-Id" && name != "X-Scheme" && name != "Connection" {
			lines = append(lines, fmt.Sprintf("%s: %q", name, q.Header[name]))
		}
	}
	return strings.Join(lines, ", ")
}

// TestHiddenHeaders compares which fields of Pods reach the client.
func TestHiddenHeaders(t *testing.T) {
	p := newPair(t, setup{
		values:   policy.Values{"hide-headers": "X-Powered-By, x-secret, Set-Cookie"},
		location: "proxy_hide_header X-Powered-By; proxy_hide_header x-secret; proxy_hide_header Set-Cookie;",
		pod:      "X-Powered-By: pods\r\nX-SECRET: 1\r\nX-Secret: 2\r\nX-Secrets: 3\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nETag: \"x\"\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\nhello",
	})
	p.same(t, get("/"))
	p.same(t, message("HEAD", "/"))
}

// TestKeepAliveRequests compares after how many requests a connection ends.
func TestKeepAliveRequests(t *testing.T) {
	p := newPair(t, setup{values: policy.Values{"keep-alive-requests": "3"}, server: "keepalive_requests 3;", pod: "Content-Length: 5\r\n\r\nhello"})
	theirs, ours := answersUntilClosed(t, "unix", p.nginx), answersUntilClosed(t, "tcp", p.podlane)
	if theirs != ours || theirs != "1, 2, closed" {
		t.Errorf("nginx: %s; Podlane: %s", theirs, ours)
	}
}

// answersUntilClosed sends requests over one connection until an answer says that it ends.
func answersUntilClosed(t *testing.T, network, addr string) string {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(c)
	var answers []string
	for n := range 10 {
		if _, err := io.WriteString(c, get("/")); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.Close {
			return strings.Join(append(answers, "closed"), ", ")
		}
		answers = append(answers, fmt.Sprint(n+1))
	}
	return strings.Join(answers, ", ")
}

// TestHSTS compares to which answers the field comes: what ingress-nginx's Lua does is a field of every answer over HTTPS, in the place of the Pod's.
func TestHSTS(t *testing.T) {
	for _, row := range []struct {
		values policy.Values
		want   string
	}{
		{policy.Values{"hsts": "true"}, "max-age=31536000; includeSubDomains"},
		{policy.Values{"hsts": "true", "hsts-max-age": "60", "hsts-include-subdomains": "false"}, "max-age=60"},
		{policy.Values{"hsts": "true", "hsts-max-age": "0", "hsts-preload": "true"}, "max-age=0; includeSubDomains; preload"},
		{policy.Values{"hsts": "false"}, ""},
	} {
		hide := "proxy_hide_header Strict-Transport-Security;"
		if row.want == "" {
			hide = ""
		}
		for _, status := range []string{"200 OK", "302 Found", "404 Not Found", "500 Oops", "503 Away"} {
			p := newPair(t, setup{
				values: row.values, behind: true, status: status, pod: "Content-Type: text/plain\r\nStrict-Transport-Security: max-age=1\r\n\r\nhello",
				http:     "map $http_x_forwarded_proto $hsts { default ''; https '" + row.want + "'; }",
				location: hide + " add_header Strict-Transport-Security $hsts always;",
			})
			r := p.same(t, get("/", "X-Forwarded-Proto: https"))
			if want := "Strict-Transport-Security: " + cmp.Or(row.want, "max-age=1"); !slices.Contains(r.fields, want) {
				t.Errorf("%v: %s", row.values, r)
			}
			p.same(t, message("HEAD", "/", "X-Forwarded-Proto: https"))
		}
	}
}

// TestServerHeader compares whose word the field Server is. Where it is the proxy's own, each says its name.
func TestServerHeader(t *testing.T) {
	for _, s := range []setup{
		{values: policy.Values{"allow-backend-server-header": "true"}, location: "proxy_pass_header Server;"},
		{values: policy.Values{"allow-backend-server-header": "false"}},
	} {
		s.pod = "Server: pods/1.0\r\nContent-Type: text/plain\r\n\r\nhello"
		p := newPair(t, s)
		for _, method := range []string{"GET", "HEAD"} {
			theirs, ours := ask(t, "unix", p.nginx, message(method, "/")), ask(t, "tcp", p.podlane, message(method, "/"))
			theirs.Body.Close()
			ours.Body.Close()
			const pods = "pods/1.0"
			if a, b := theirs.Header.Get("Server"), ours.Header.Get("Server"); (a == pods) != (b == pods) || (a == "") != (b == "") {
				t.Errorf("%v %s: nginx says %q, Podlane %q", s.values, method, a, b)
			}
		}
	}
}
