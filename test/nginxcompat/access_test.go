package nginxcompat

import (
	"bufio"
	"encoding/base64"
	"io"
	"maps"
	"net"
	"net/http"
	"testing"
	"time"

	"podlane.dev/podlane/router/policy"
)

// client are addresses in, at the edges of, and beside the ranges of these tests.
var clients = []string{
	"10.0.0.0", "10.1.2.3", "10.255.255.255", "9.255.255.255", "11.0.0.0", "10.6.6.5", "10.6.6.6", "10.6.6.7", "192.0.2.7", "203.0.113.1",
	"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2001:db7:ffff::", "2001:db8::66", "::1", "::ffff:10.1.2.3", "::ffff:10.6.6.6", "::ffff:192.0.2.8",
}

// from is what a trusted proxy says of its client.
func from(address string) string { return "X-Real-IP: " + address }

func TestSourceRanges(t *testing.T) {
	for name, s := range map[string]setup{
		"allow": {
			values:   policy.Values{"allowlist-source-range": "10.0.0.0/8, 2001:db8::/32, 192.0.2.7"},
			location: "allow 10.0.0.0/8; allow 2001:db8::/32; allow 192.0.2.7; deny all;",
		},
		"deny": {
			values:   policy.Values{"denylist-source-range": "10.6.6.6, 2001:db8::66/127"},
			location: "deny 10.6.6.6; deny 2001:db8::66/127;",
		},
		"both": {
			values:   policy.Values{"allowlist-source-range": "10.0.0.1/8, ::/0", "denylist-source-range": "10.6.6.6/31, 2001:db8::66"},
			location: "deny 10.6.6.6/31; deny 2001:db8::66; allow 10.0.0.1/8; allow ::/0; deny all;",
		},
		"everyone of IPv4": {
			values:   policy.Values{"allowlist-source-range": "0.0.0.0/0"},
			location: "allow 0.0.0.0/0; deny all;",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.behind = true
			p := newPair(t, s)
			answers := map[string]int{}
			for _, client := range clients {
				answers[p.same(t, get("/", from(client)), "body").line]++
			}
			if answers["200"] == 0 || answers["403"] == 0 {
				t.Errorf("answers %v", answers)
			}
		})
	}
}

// passwordFile has users of all kinds that both sides read by themselves, without the C library: nginx on this machine asks libxcrypt, which reads all.
const passwordFile = `# users
alice:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/
bob:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a:with a comment
carol:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=
dave:$6$rounds=2000$abc$mnYT50Lp6gNkWZnon5fyczjTbICwe5fNDo5ZHZuQU7ry0kTJLx6vNZ9VASp5yU7w3VT4aR4og23CDUUvjI5CE.
erin:$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1
frank:{PLAIN}secret
carol:{PLAIN}other
grace:$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.
`

func basic(credentials string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

func TestBasicAuth(t *testing.T) {
	p := newPair(t, setup{
		values:   policy.Values{"auth-type": "basic", "auth-secret": "users", "auth-realm": "Staff only: all"},
		users:    passwordFile,
		location: `auth_basic "Staff only: all"; auth_basic_user_file DIR/users; proxy_set_header Authorization "";`,
	})
	for _, user := range []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace"} {
		if r := p.same(t, get("/", basic(user+":secret")), "body"); r.line != "200" {
			t.Errorf("%s: %s", user, r.line)
		}
		for _, wrong := range []string{user + ":Secret", user + ":", user, user + ":secret:", user + ":other", user + ":secret ", " " + user + ":secret"} {
			if r := p.same(t, get("/", basic(wrong)), "body"); r.line != "401" {
				t.Errorf("%q: %s", wrong, r.line)
			}
		}
	}
	for _, field := range []string{
		"X-A: none", basic("mallory:secret"), basic(":secret"), basic(":"), basic(""), "Authorization:", "Authorization: Basic", "Authorization: Basic ", "Authorization: Bearer YWxpY2U6c2VjcmV0",
		"Authorization: bAsIC   YWxpY2U6c2VjcmV0", "Authorization: Basic YWxpY2U6c2VjcmV0==", "Authorization: Basic *", "Authorization: Basic YWxpY2U6c2VjcmV0*", "Authorization: YWxpY2U6c2VjcmV0",
		basic("# users:secret"), basic("#:secret"),
	} {
		p.same(t, get("/", field), "body")
	}
	p.same(t, message("HEAD", "/", basic("alice:guess")), "body")
	p.same(t, message("POST", "/", basic("alice:secret"), "Content-Length: 0"), "body")
}

func TestSatisfy(t *testing.T) {
	const ranges, passwords = "deny 10.6.6.6; allow 10.0.0.0/8; deny all;", `auth_basic "r"; auth_basic_user_file DIR/users; proxy_set_header Authorization "";`
	both := policy.Values{"allowlist-source-range": "10.0.0.0/8", "denylist-source-range": "10.6.6.6", "auth-type": "basic", "auth-secret": "users", "auth-realm": "r"}
	with := func(satisfy string) policy.Values {
		v := policy.Values{"satisfy": satisfy}
		maps.Copy(v, both)
		return v
	}
	denyOnly := with("any")
	delete(denyOnly, "allowlist-source-range")
	for name, s := range map[string]setup{
		"default":       {values: both, location: ranges + passwords},
		"all":           {values: with("all"), location: "satisfy all;" + ranges + passwords},
		"any":           {values: with("any"), location: "satisfy any;" + ranges + passwords},
		"any, deny":     {values: denyOnly, location: "satisfy any; deny 10.6.6.6;" + passwords},
		"any, ranges":   {values: policy.Values{"satisfy": "any", "allowlist-source-range": "10.0.0.0/8"}, location: "satisfy any; allow 10.0.0.0/8; deny all;"},
		"any, password": {values: policy.Values{"satisfy": "any", "auth-type": "basic", "auth-secret": "users", "auth-realm": "r"}, location: "satisfy any;" + passwords},
	} {
		t.Run(name, func(t *testing.T) {
			s.behind, s.users = true, passwordFile
			p := newPair(t, s)
			for _, client := range []string{"10.1.2.3", "10.6.6.6", "192.0.2.1", "2001:db8::1"} {
				for _, field := range []string{"X-A: none", basic("carol:secret"), basic("carol:guess"), "Authorization: Bearer x"} {
					p.same(t, get("/", from(client), field), "body")
				}
			}
		})
	}
}

// TestLimits has rates so slow that the time of the test makes no difference: nginx's least is a request in a minute.
func TestLimits(t *testing.T) {
	start := time.Now()
	for name, s := range map[string]setup{
		"a rate": {
			values:   policy.Values{"limit-rpm": "1"},
			http:     "limit_req_zone $binary_remote_addr zone=m:1m rate=1r/m; limit_req_status 503;",
			location: "limit_req zone=m burst=5 nodelay;",
		},
		"two rates, another status": {
			values:   policy.Values{"limit-rpm": "2", "limit-rps": "1000", "limit-burst-multiplier": "2", "limit-req-status-code": "429"},
			http:     "limit_req_zone $binary_remote_addr zone=s:1m rate=1000r/s; limit_req_zone $binary_remote_addr zone=m:1m rate=2r/m; limit_req_status 429;",
			location: "limit_req zone=s burst=2000 nodelay; limit_req zone=m burst=4 nodelay;",
		},
		"some are exempt, no burst": {
			values:   policy.Values{"limit-rpm": "1", "limit-burst-multiplier": "0", "limit-whitelist": "10.0.0.0/8, 2001:db8::/32"},
			http:     `geo $exempt { default 0; 10.0.0.0/8 1; 2001:db8::/32 1; } map $exempt $key { 0 $binary_remote_addr; 1 ""; } limit_req_zone $key zone=m:1m rate=1r/m; limit_req_status 503;`,
			location: "limit_req zone=m nodelay;",
		},
		"another key": {
			values:   policy.Values{"limit-rpm": "1", "limit-burst-multiplier": "1", "limit-conn-zone-variable": "$http_x_key"},
			http:     "limit_req_zone $http_x_key zone=m:1m rate=1r/m; limit_req_status 503;",
			location: "limit_req zone=m burst=1 nodelay;",
		},
		"behind a deny list": {
			values:   policy.Values{"limit-rpm": "1", "limit-burst-multiplier": "1", "denylist-source-range": "10.0.0.0/8"},
			http:     "limit_req_zone $binary_remote_addr zone=m:1m rate=1r/m; limit_req_status 503;",
			location: "limit_req zone=m burst=1 nodelay; deny 10.0.0.0/8;",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.behind = true
			p := newPair(t, s)
			refused := 0
			for i := range 40 {
				client, key := []string{"192.0.2.1", "10.1.2.3", "2001:db8::1", "192.0.2.2"}[i%4], []string{"X-Key: a", "X-Key: b", "X-A: none"}[i%3]
				if r := p.same(t, get("/", from(client), key), "body"); r.line != "200" {
					refused++
				}
				if time.Since(start) > 25*time.Second {
					t.Skip("the machine is too busy: a request has leaked")
				}
			}
			if refused == 0 || refused == 40 {
				t.Errorf("%d of 40 are refused", refused)
			}
		})
	}
}

// TestLimitOfRequestsAtOnce has two requests under way, whose bodies do not come, and asks for a third.
func TestLimitOfRequestsAtOnce(t *testing.T) {
	p := newPair(t, setup{
		behind:   true,
		values:   policy.Values{"limit-connections": "2", "limit-conn-status-code": "429"},
		http:     "limit_conn_zone $binary_remote_addr zone=c:1m; limit_conn_status 429;",
		location: "limit_conn c 2;",
	})
	const client = "192.0.2.1"
	for _, side := range []struct{ network, addr string }{{"unix", p.nginx}, {"tcp", p.podlane}} {
		status := func(client string) int {
			res := ask(t, side.network, side.addr, get("/", from(client)))
			defer res.Body.Close()
			return res.StatusCode
		}
		await := func(want int) {
			t.Helper()
			got := 0
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				if got = status(client); got == want {
					return
				}
			}
			t.Fatalf("%s: %d, want %d", side.network, got, want)
		}
		hold := func() net.Conn {
			c, err := net.Dial(side.network, side.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if _, err := io.WriteString(c, message("POST", "/", from(client), "Content-Length: 5")+"hel"); err != nil {
				t.Fatal(err)
			}
			return c
		}
		open := []net.Conn{hold(), hold()}
		for deadline := time.Now().Add(20 * time.Second); status(client) != 429; {
			if time.Now().After(deadline) {
				t.Fatalf("%s: two requests under way, and a third is let in", side.network)
			}
			// A question that came between the two has had the place of the second, which was refused then.
			for i, c := range open {
				_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
				if n, _ := c.Read(make([]byte, 1)); n > 0 {
					c.Close()
					open[i] = hold()
				}
			}
		}
		for _, c := range open {
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		}
		if got := status("192.0.2.2"); got != 200 {
			t.Errorf("%s: another client: %d", side.network, got)
		}
		if _, err := io.WriteString(open[0], "lo"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(open[0]), nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %v %v", side.network, res, err)
		}
		res.Body.Close()
		await(200)
		open[1].Close()
		for range 3 {
			await(200)
		}
	}
}
