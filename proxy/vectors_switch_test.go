package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/http1"
)

const upgradeHead = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

// knownSwitches are the cases below that fail today, with the reason.
var knownSwitches = map[string]string{}

// report fails the test for err, or skips it where name is known to fail.
func report(t *testing.T, name string, err error) {
	t.Helper()
	switch reason := knownSwitches[name]; {
	case reason != "" && err == nil:
		t.Errorf("%s does not fail any more (%s): take it off the list", name, reason)
	case reason != "":
		t.Skipf("known: %s: %v", reason, err)
	case err != nil:
		t.Errorf("%s: %v", name, err)
	}
}

// TestUpgradeAnswers: a tunnel begins with a 101 that echoes the token, and with nothing else. After any attempt neither connection is
// used again (SECURITY A11).
func TestUpgradeAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		raw    string
		status int
		body   string
	}{
		"refused":       {okHead + "Content-Length: 2\r\n\r\nno", 200, "no"},
		"200 as switch": {okHead + "Connection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 0\r\n\r\n", 200, ""},
		"other token":   {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", 502, ""},
		"longer token":  {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: echo2\r\n\r\n", 502, ""},
		"no token":      {"HTTP/1.1 101 x\r\n\r\n", 502, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &record{}
			pod := r.pod(t, "a", func(pc net.Conn, q got) bool {
				if _, target := words(q.line); target != "/up" {
					return plainAnswer(pc, q)
				}
				_, err := io.WriteString(pc, c.raw)
				return err == nil
			})
			b := newBench(t, proxy.Options{}, r, place{"a", "/", pod})
			conn := b.dial()
			defer b.hangUp(conn)
			// What stands behind the attempt is for the other protocol: it must not be read as a request.
			b.send(conn, []string{upgradeHead + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"})
			br := bufio.NewReader(conn)
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != c.status || c.status == 200 && string(body) != c.body {
				t.Fatalf("%d %q, %v", res.StatusCode, body, err)
			}
			after := b.ended(br, res)
			requests, _, problems := b.take()
			if len(problems) > 0 || len(requests) != 1 || requests[0].line != "GET /up HTTP/1.1" {
				after = errors.Join(after, fmt.Errorf("the Pod got %v, %v", requests, problems))
			}
			after = errors.Join(after, b.clean(1))
			if connections(b.record) != 2 {
				after = errors.Join(after, fmt.Errorf("%d connections to the Pod, want 2", connections(b.record)))
			}
			report(t, name, after)
		})
	}
}

// ended reports whether nothing comes behind an answer that says so.
func (b *bench) ended(br *bufio.Reader, res *http.Response) error {
	if !res.Close {
		return fmt.Errorf("the answer %d does not say Connection: close", res.StatusCode)
	}
	if rest, err := io.ReadAll(br); len(rest) > 0 {
		return fmt.Errorf("%q behind the answer, %w", rest, err)
	}
	return nil
}

// TestTunnelHoldsBack: what a client sends behind an upgrade attempt reaches the Pod only after its 101, and then all of it, in both
// directions, with the ends of both sides.
func TestTunnelHoldsBack(t *testing.T) {
	r := &record{}
	attempted, switched := make(chan struct{}), make(chan struct{})
	l := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		cc := counted{c, r}
		head, _, err := readStrictly(bufio.NewReaderSize(cc, 1))
		if err != nil {
			t.Errorf("pod: %v", err)
			return
		}
		r.mu.Lock()
		r.requests = append(r.requests, head)
		r.mu.Unlock()
		close(attempted)
		<-switched
		_, _ = io.WriteString(c, "HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: ECHO\r\n\r\nhello ")
		_, _ = io.Copy(c, c)
	})
	b := newBench(t, proxy.Options{}, r, place{"a", "/", l})
	c := b.dial()
	defer b.hangUp(c)
	early := strings.Repeat("early", 100)
	b.send(c, []string{upgradeHead + early})
	<-attempted
	b.drained(c.LocalAddr().String())
	requests, bytes, _ := b.take()
	if size := len(strings.Join(requests[0].fields, "\r\n")) + len(requests[0].line) + len("\r\n\r\n\r\n"); bytes > size+4<<10 || len(requests) != 1 {
		t.Errorf("%d bytes before the 101, the head has %d", bytes, size)
	}
	if has := strings.Join(requests[0].fields, "|"); !strings.Contains(has, "Connection: Upgrade|Upgrade: echo") {
		t.Errorf("the Pod got %s", has)
	}
	close(switched)
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || !strings.EqualFold(res.Header.Get("Upgrade"), "echo") || !strings.EqualFold(res.Header.Get("Connection"), "upgrade") {
		t.Fatalf("%v, %v", res, err)
	}
	b.send(c, []string{" late"})
	want := "hello " + early + " late"
	text := make([]byte, len(want))
	if _, err := io.ReadFull(br, text); err != nil || string(text) != want {
		t.Fatalf("%q, %v", text, err)
	}
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
		t.Errorf("%q behind the end, %v", rest, err)
	}
}

// expecting is a request whose body waits for 100 Continue.
const expecting = "POST /e HTTP/1.1\r\nHost: §\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"

// TestExpect: the proxy itself says 100, after routing, and the Pod sees nothing of the expectation (SECURITY A8).
func TestExpect(t *testing.T) {
	r := &record{}
	pod := r.pod(t, "a", nil)
	b := newBench(t, proxy.Options{}, r, place{"a", "/", pod})
	c := b.dial()
	defer b.hangUp(c)
	br := bufio.NewReader(c)
	for i := range 2 { // twice on one connection
		b.send(c, []string{strings.ReplaceAll(expecting, "§", "a")})
		line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
		if _, err := io.ReadFull(br, line); err != nil || string(line) != "HTTP/1.1 100 Continue\r\n\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		b.send(c, []string{"he", "llo"})
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != ownAnswer("a", "/e") || res.Close {
			t.Fatalf("%d %q, %v", res.StatusCode, body, err)
		}
		requests, _, problems := b.take()
		if len(requests) != 1 || len(problems) > 0 || requests[0].body != "hello" || strings.Contains(fmt.Sprint(requests[0].fields), "Expect") {
			t.Fatalf("%d: the Pod got %v, %v", i, requests, problems)
		}
	}
	// A client that does not wait needs no 100: its answer is the only one.
	b.send(c, []string{strings.ReplaceAll(expecting, "§", "a") + "hello"})
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v, %v", res, err)
	}
}

// TestExpectIsNotEncouraged: a request that is answered without its body gets no 100, and the connection ends (SECURITY A7).
func TestExpectIsNotEncouraged(t *testing.T) {
	r := &record{}
	pod := r.pod(t, "a", nil)
	b := newBench(t, proxy.Options{MaxBody: 4}, r, place{"a", "/", pod})
	for host, status := range map[string]int{"nobody": 404, "a": 413} {
		c := b.dial()
		b.send(c, []string{strings.ReplaceAll(expecting, "§", host)})
		br := bufio.NewReader(c)
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != status {
			t.Fatalf("%v, %v; want %d", res, err, status)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Error(err)
		}
		// A body that is sent all the same is discarded, not read as a request.
		b.send(c, []string{"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"})
		if err := b.ended(br, res); err != nil {
			t.Error(err)
		}
		b.hangUp(c)
	}
	if requests, extra, _ := b.take(); len(requests) > 0 || extra > 0 {
		t.Errorf("the Pod got %v and %d bytes", requests, extra)
	}
}

// TestBodyLimits: 413 for a body that is, or becomes, too large. No Pod sees a whole request, and the client gets its answer although it
// goes on sending.
func TestBodyLimits(t *testing.T) {
	const limit = 100_000
	for name, c := range map[string]struct {
		framing string
		body    string
		status  int
	}{
		"length":            {fmt.Sprintf("Content-Length: %d", limit+1), strings.Repeat("x", limit+1), 413},
		"length, just so":   {fmt.Sprintf("Content-Length: %d", limit), strings.Repeat("x", limit), 200},
		"chunks":            {"Transfer-Encoding: chunked", strings.Repeat("3e8\r\n"+strings.Repeat("x", 1000)+"\r\n", 101) + "0\r\n\r\n", 413},
		"chunks, just so":   {"Transfer-Encoding: chunked", strings.Repeat("3e8\r\n"+strings.Repeat("x", 1000)+"\r\n", 100) + "0\r\n\r\n", 200},
		"one chunk, no end": {"Transfer-Encoding: chunked", "ffffffff\r\n" + strings.Repeat("x", 2*limit), 413},
	} {
		t.Run(name, func(t *testing.T) {
			r := &record{}
			pod := r.pod(t, "a", nil)
			b := newBench(t, proxy.Options{MaxBody: limit}, r, place{"a", "/", pod})
			conn := b.dial()
			defer b.hangUp(conn)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				b.send(conn, []string{"POST /p HTTP/1.1\r\nHost: a\r\n" + c.framing + "\r\n\r\n" + c.body})
			}()
			br := bufio.NewReader(conn)
			res, err := http.ReadResponse(br, nil)
			if err != nil || res.StatusCode != c.status {
				t.Fatalf("%v, %v; want %d", res, err, c.status)
			}
			if _, err := io.ReadAll(res.Body); err != nil {
				t.Error(err)
			}
			<-sent
			requests, _, problems := b.take()
			if whole := c.status == 200; len(problems) > 0 || whole != (len(requests) == 1) {
				t.Errorf("the Pod got %d whole requests, %v", len(requests), problems)
			}
			if c.status == 413 {
				if err := b.ended(br, res); err != nil {
					t.Error(err)
				}
			}
			b.mayAbort = c.status == 413
			if err := b.clean(1); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEarlyAnswers: a Pod that answers before it has the whole body is heard at once; then neither connection is used again, and what the
// client goes on sending is not read as requests (SECURITY A7).
func TestEarlyAnswers(t *testing.T) {
	for name, framing := range map[string]string{"length": "Content-Length: 1000000", "chunks": "Transfer-Encoding: chunked"} {
		t.Run(name, func(t *testing.T) {
			r := &record{}
			first := make(chan struct{}, 2)
			l := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
				q, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				text := ownAnswer("a", q.RequestURI)
				if q.RequestURI == "/early" {
					text = "early"
					first <- struct{}{}
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
				_, _ = io.Copy(io.Discard, br)
			})
			b := newBench(t, proxy.Options{}, r, place{"a", "/", l})
			c := b.dial()
			defer b.hangUp(c)
			b.send(c, []string{"POST /early HTTP/1.1\r\nHost: a\r\n" + framing + "\r\n\r\n"})
			<-first
			br := bufio.NewReader(c)
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); string(body) != "early" || err != nil {
				t.Fatalf("%q, %v", body, err)
			}
			b.send(c, []string{"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"})
			if err := b.ended(br, res); err != nil {
				t.Error(err)
			}
		})
	}
}

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
	b := newBench(t, o, r, place{"a", "/", l})
	c := b.dial()
	defer b.hangUp(c)
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
	report(t, "underscores", func() error {
		if len(left) > 0 {
			return fmt.Errorf("the Pod got %q", left)
		}
		return nil
	}())
	if len(seen["X_other"]) != 1 {
		t.Errorf("X_Other is not kept: %v", seen)
	}
}

// TestOneAtATime: a pipelined request does not reach a Pod before the answer to the one in front of it is complete.
func TestOneAtATime(t *testing.T) {
	r := &record{}
	release, arrived := make(chan struct{}), make(chan string, 3)
	pod := r.pod(t, "a", func(c net.Conn, q got) bool {
		_, target := words(q.line)
		arrived <- target
		if target == "/1" {
			<-release
		}
		return plainAnswer(c, q)
	})
	b := newBench(t, proxy.Options{}, r, place{"a", "/", pod})
	c := b.dial()
	defer b.hangUp(c)
	b.send(c, []string{"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"})
	if first := <-arrived; first != "/1" {
		t.Fatalf("%s came first", first)
	}
	select {
	case early := <-arrived:
		t.Errorf("%s came before the answer to /1", early)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	br := bufio.NewReader(c)
	for _, target := range []string{"/1", "/2", "/3"} {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != ownAnswer("a", target) || err != nil {
			t.Fatalf("%q, %v", body, err)
		}
	}
}
