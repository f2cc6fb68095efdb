package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/http1"
)

// fieldsOfPod returns the fields with which one GET arrives.
func fieldsOfPod(t *testing.T, o proxy.Options, fields string) map[string][]string {
	t.Helper()
	r := &record{}
	var seen http.Header
	l := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		seen = q.Header
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	b := newBench(t, o, r, place{host: "a", path: "/", pod: l})
	c := b.dial()
	defer c.Close()
	b.send(c, []string{"GET / HTTP/1.1\r\nHost: a:81\r\nConnection: close\r\n" + fields + "\r\n"})
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v, %v", res, err)
	}
	return seen
}

// TestTrustedPeers: what a trusted proxy says is believed; the client is the right-most address that is not a trusted proxy.
func TestTrustedPeers(t *testing.T) {
	trust := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	for name, c := range map[string]struct{ fields, ip, chain, proto, port, host string }{
		"nothing":         {"", "127.0.0.1", "127.0.0.1", "http", "", "a:81"},
		"one":             {"X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1", "192.0.2.1, 127.0.0.1", "http", "", "a:81"},
		"a chain":         {"X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.1.1.1\r\n", "192.0.2.1", "6.6.6.6, 192.0.2.1, 10.1.1.1, 127.0.0.1", "http", "", "a:81"},
		"several fields":  {"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1", "6.6.6.6, 192.0.2.1, 127.0.0.1", "http", "", "a:81"},
		"all trusted":     {"X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "10.0.0.1", "10.0.0.1, 10.0.0.2, 127.0.0.1", "http", "", "a:81"},
		"garbage":         {"X-Forwarded-For: 192.0.2.1, what\r\n", "127.0.0.1", "192.0.2.1, what, 127.0.0.1", "http", "", "a:81"},
		"with a port":     {"X-Forwarded-For: 192.0.2.1:99\r\n", "192.0.2.1", "192.0.2.1:99, 127.0.0.1", "http", "", "a:81"},
		"ipv6":            {"X-Forwarded-For: [2001:db8::1]:99\r\n", "2001:db8::1", "[2001:db8::1]:99, 127.0.0.1", "http", "", "a:81"},
		"https":           {"X-Forwarded-Proto: HTTPS\r\n", "127.0.0.1", "127.0.0.1", "https", "443", "a:81"},
		"no scheme":       {"X-Forwarded-Proto: javascript\r\n", "127.0.0.1", "127.0.0.1", "http", "", "a:81"},
		"port and host":   {"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Host: www\r\n", "127.0.0.1", "127.0.0.1", "https", "8443", "www"},
		"real ip":         {"X-Real-IP: 192.0.2.9\r\n", "192.0.2.9", "192.0.2.9", "http", "", "a:81"},
		"real ip loses":   {"X-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1", "192.0.2.1, 127.0.0.1", "http", "", "a:81"},
		"port is garbage": {"X-Forwarded-Port: 99999\r\n", "127.0.0.1", "127.0.0.1", "http", "", "a:81"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := fieldsOfPod(t, proxy.Options{TrustedProxies: trust}, c.fields)
			for field, want := range map[string]string{
				"X-Real-Ip": c.ip, "X-Forwarded-For": c.chain, "X-Forwarded-Proto": c.proto, "X-Forwarded-Scheme": c.proto, "X-Scheme": c.proto,
				"X-Forwarded-Port": c.port, "X-Forwarded-Host": c.host,
			} {
				if got := seen[field]; len(got) != 1 || want != "" && got[0] != want {
					t.Errorf("%s is %q, want %q", field, got, want)
				}
			}
		})
	}
}

// TestUnderscoreSpoof: where the operator keeps fields with underscores, those that spell a forwarded field are still not the client's to
// set (SECURITY B1).
func TestUnderscoreSpoof(t *testing.T) {
	seen := fieldsOfPod(t, proxy.Options{Limits: http1.Limits{Underscores: http1.KeepUnderscores}},
		"X_Forwarded_For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nx_forwarded_Proto: https\r\nX_Original_URL: /x\r\nX-Forwarded_Host: x\r\nX_Other: 1\r\n")
	var left []string
	for name, values := range seen {
		if strings.Contains(fmt.Sprint(values), "6.6.6.6") || strings.Contains(name, "_") && !strings.EqualFold(name, "X_Other") {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		t.Errorf("the Pod got %q", left)
	}
	if len(seen["X_other"]) != 1 {
		t.Errorf("X_Other is not kept: %v", seen)
	}
}
