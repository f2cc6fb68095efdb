package nginxcompat

import (
	"fmt"
	"strings"
	"testing"

	"podlane.dev/podlane/router/policy"
)

// Bodies are refused by their size alike, to the byte, with their length said or in chunks; and what reaches the Pod has its length.
func TestBodySize(t *testing.T) {
	for _, row := range []struct {
		limit  string
		size   int
		status string
	}{
		{"10", 0, "200"}, {"10", 10, "200"}, {"10", 11, "413"}, {"1k", 1024, "200"}, {"1k", 1025, "413"}, {"20k", 20480, "200"}, {"20k", 20481, "413"}, {"0", 50_000, "200"},
	} {
		p := newPair(t, setup{
			values:   policy.Values{"proxy-body-size": row.limit, "proxy-request-buffering": "on"},
			location: "client_max_body_size " + row.limit + "; proxy_request_buffering on;",
		})
		body := strings.Repeat("x", row.size)
		except := []string{}
		if row.status == "413" {
			except = append(except, "body")
		}
		for _, request := range []string{
			message("POST", "/", fmt.Sprintf("Content-Length: %d", row.size)) + body,
			message("POST", "/", "Transfer-Encoding: chunked") + chunks(body),
		} {
			if r := p.same(t, request, except...); r.line != row.status {
				t.Errorf("limit %s, %d bytes: %s, want %s", row.limit, row.size, r.line, row.status)
			}
		}
	}
}

// chunks returns a body in chunks.
func chunks(body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(len(body), 700)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// The head of an answer may be as long as the buffer, to the byte.
func TestHeadOfAnswer(t *testing.T) {
	const start = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
	for size, status := range map[int]string{4095: "200", 4096: "200", 4097: "502", 9000: "502"} {
		pad := size - len(start) - len("X-Long: \r\n\r\n")
		p := newPair(t, setup{
			values:   policy.Values{"proxy-buffer-size": "4k", "proxy-next-upstream": "error timeout"},
			location: "proxy_buffer_size 4k; proxy_buffers 4 4k; proxy_busy_buffers_size 8k; proxy_buffering off;",
			pod:      "X-Long: " + strings.Repeat("x", pad) + "\r\n\r\nhello",
		})
		except := []string{}
		if status == "502" {
			except = append(except, "body")
		}
		if r := p.same(t, get("/"), except...); r.line != status {
			t.Errorf("a head of %d bytes: %s, want %s", size, r.line, status)
		}
	}
}
