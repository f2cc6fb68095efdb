package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// says returns the policy values of a Route with these annotations.
func says(t testing.TB, annotations map[string]string) []policy.Value {
	t.Helper()
	var values []policy.Value
	left := len(annotations)
	for _, p := range config.Policies() {
		v := policy.Values{}
		for _, k := range p.FamilyKeys() {
			if text, ok := annotations[k.Name]; ok {
				v[k.Name] = text
			}
		}
		if len(v) == 0 {
			continue
		}
		left -= len(v)
		parsed, err := p.ParseValues(v, nil)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, policy.Value{Family: p.FamilyName(), Parsed: parsed})
	}
	if left != 0 {
		t.Fatalf("%d of these annotations are unknown: %v", left, annotations)
	}
	return values
}

// routeSaying makes a.test reach Pods at addrs, with the annotations.
func (r *rig) routeSaying(annotations map[string]string, addrs ...string) {
	r.t.Helper()
	sp := router.ServicePort{Namespace: "default", Name: "svc"}
	t := router.NewTable([]*router.Route{{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
		Backends: []router.Backend{{Service: sp, Weight: 1}}, Policies: says(r.t, annotations),
	}}, nil)
	r.engine.Prepare(t)
	var as []router.Address
	for _, a := range addrs {
		as = append(as, router.Address{AddrPort: netip.MustParseAddrPort(a), UID: a, Ready: true, Serving: true})
	}
	r.engine.SetAddresses(sp.Service(), map[string][]router.Address{"": as})
	r.engine.Publish(t)
}

// policyRig is newRig with all families.
func policyRig(t testing.TB, o proxy.Options) *rig {
	t.Helper()
	o.Policies = config.Policies()
	return newRig(t, o)
}

// post sends a body to a.test, with its length or in chunks.
func (r *rig) post(method string, body []byte, chunked bool) (*http.Response, string) { //nolint:revive // both are what a test is about
	r.t.Helper()
	var b io.Reader = bytes.NewReader(body)
	if chunked {
		b = io.MultiReader(b)
	}
	return r.do(method, "http://a.test/", b)
}

// A route's own size goes before the engine's, for bodies whose length is said and for those that grow; 0 is no limit; 413 keeps a body of the
// exact size out of it.
func TestBodySizeOfRoute(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		n, _ := io.Copy(io.Discard, q.Body)
		fmt.Fprint(w, n)
	})
	for _, buffering := range []string{"on", "off"} {
		r := policyRig(t, proxy.Options{MaxBody: 1000})
		for _, row := range []struct {
			limit string
			size  int
			want  int
		}{
			{"", 1000, 200}, {"", 1001, 413},
			{"10k", 10 << 10, 200}, {"10k", 10<<10 + 1, 413}, {"100k", 100 << 10, 200}, {"100k", 100<<10 + 1, 413},
			{"0", 300_000, 200}, {"10", 11, 413}, {"10", 0, 200},
		} {
			annotations := map[string]string{"proxy-request-buffering": buffering}
			if row.limit != "" {
				annotations["proxy-body-size"] = row.limit
			}
			r.routeSaying(annotations, pod)
			for _, chunked := range []bool{false, true} {
				res, body := r.post(http.MethodPut, make([]byte, row.size), chunked)
				if res.StatusCode != row.want || row.want == 200 && body != strconv.Itoa(row.size) {
					t.Errorf("buffering %s, limit %q, %d bytes, chunked %v: %d %q, want %d", buffering, row.limit, row.size, chunked, res.StatusCode, body, row.want)
				}
			}
		}
	}
}

// With request buffering a Pod is not asked before the body is whole, however it comes and however long it is, and gets it with its length.
func TestBodyIsReadFirst(t *testing.T) {
	var asked atomic.Int32
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		asked.Add(1)
		b, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%d %x", q.ContentLength, sha256.Sum256(b))
	})
	dir := t.TempDir()
	r := policyRig(t, proxy.Options{MaxBody: -1, Spool: bodies.SpoolerOptions{Dir: dir}})
	r.routeSaying(map[string]string{"proxy-request-buffering": "on", "client-body-buffer-size": "16k"}, pod)
	rnd := rand.NewChaCha8([32]byte{7})
	for _, size := range []int{1, 5_000, 16 << 10, 17 << 10, 100 << 10, 3 << 20} {
		data := make([]byte, size)
		_, _ = rnd.Read(data)
		for _, chunked := range []bool{false, true} {
			before := asked.Load()
			in, out := io.Pipe()
			req, err := http.NewRequest(http.MethodPost, "http://a.test/", in)
			if err != nil {
				t.Fatal(err)
			}
			if !chunked {
				req.ContentLength = int64(size)
			}
			done := make(chan error, 1)
			go func() {
				_, err := out.Write(data[:size-1])
				if n := asked.Load(); n != before {
					err = fmt.Errorf("the Pod was asked before the body was whole")
				}
				_, err2 := out.Write(data[size-1:])
				_ = out.CloseWithError(err)
				if err == nil {
					err = err2
				}
				done <- err
			}()
			res, err := r.client.Do(req)
			if err != nil {
				t.Fatalf("%d bytes, chunked %v: %v, %v", size, chunked, err, <-done)
			}
			got, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if want := fmt.Sprintf("%d %x", size, sha256.Sum256(data)); string(got) != want {
				t.Errorf("%d bytes, chunked %v: %s, want %s", size, chunked, got, want)
			}
			if err := <-done; err != nil {
				t.Errorf("%d bytes, chunked %v: %v", size, chunked, err)
			}
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d files are left: %v", len(left), err)
	}
}

// Without a place for it a body that is to be read first gets 503, and the connection ends.
func TestNoRoomToReadFirst(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.Copy(io.Discard, q.Body) })
	for name, o := range map[string]bodies.SpoolerOptions{"no folder": {Dir: "/nowhere/at/all"}, "full": {MaxBytes: 1}} {
		r := policyRig(t, proxy.Options{Spool: o})
		r.routeSaying(map[string]string{"proxy-request-buffering": "on"}, pod)
		res, _ := r.post(http.MethodPut, make([]byte, 200<<10), false)
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d, want 503", name, res.StatusCode)
		}
		if res, _ := r.post(http.MethodPut, make([]byte, 2<<10), false); res.StatusCode != http.StatusOK {
			t.Errorf("%s: a short body gets %d", name, res.StatusCode)
		}
	}
}

// A Pod that answers early and reads no more is heard although the body was read first, and the client keeps its connection.
func TestEarlyAnswerToSpooledBody(t *testing.T) {
	release := make(chan struct{})
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		<-release
	})
	defer close(release)
	r := policyRig(t, proxy.Options{MaxBody: -1})
	r.routeSaying(map[string]string{"proxy-request-buffering": "on"}, pod)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // the limit of a Pod that takes nothing is longer
	br := bufio.NewReader(c)
	for i := range 2 {
		const size = 32 << 20
		fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", size)
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		body, err := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusForbidden || string(body) != "no" || err != nil || res.Close {
			t.Errorf("request %d: %d %q %v, close %v", i, res.StatusCode, body, err, res.Close)
		}
	}
}

// scripted is a Pod that does what a test says, and counts the requests that it gets.
type scripted struct {
	addr  string
	calls atomic.Int32
}

func script(t testing.TB, f func(call int, c net.Conn, q *http.Request) (again bool)) *scripted { //nolint:thelper // it is a Pod
	s := new(scripted)
	s.addr = fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		for {
			q, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, q.Body); err != nil {
				return
			}
			if !f(int(s.calls.Add(1)), c, q) {
				return
			}
		}
	})
	return s
}

func status(code int) func(int, net.Conn, *http.Request) bool {
	return func(_ int, c net.Conn, _ *http.Request) bool {
		_, err := fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Length: 3\r\n\r\n%d", code, code)
		return err == nil
	}
}

// What is tried again elsewhere, and what is not: by cause, method, number of tries, and whether the body can be sent again.
func TestNextUpstream(t *testing.T) {
	hang := func(int, net.Conn, *http.Request) bool { return false }
	garbage := func(_ int, c net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(c, "SMTP ready\r\n\r\n")
		return false
	}
	silent := func(_ int, c net.Conn, _ *http.Request) bool {
		_, _ = io.Copy(io.Discard, c)
		return false
	}
	large := bytes.Repeat([]byte("0123456789"), 20_000)
	for _, row := range []struct {
		name   string
		bad    func(int, net.Conn, *http.Request) bool
		pods   int // bad ones beside the good one
		method string
		body   []byte
		say    map[string]string
		want   int
		tries  int
	}{
		{"nothing said, reset", hang, 1, "GET", nil, nil, 200, 2},
		{"nothing said, two bad", hang, 2, "GET", nil, nil, 502, 2},
		{"nothing said, a PUT with its body, reset", hang, 1, "PUT", []byte("short"), nil, 200, 2},
		{"nothing said, a POST, reset", hang, 1, "POST", []byte("short"), nil, 502, 1},
		{"nothing said, 503", status(503), 1, "GET", nil, nil, 503, 1},
		{"error", hang, 1, "GET", nil, map[string]string{"proxy-next-upstream": "error"}, 200, 2},
		{"error, two bad", hang, 2, "GET", nil, map[string]string{"proxy-next-upstream": "error"}, 200, 3},
		{"error, three bad", hang, 3, "GET", nil, map[string]string{"proxy-next-upstream": "error"}, 502, 3},
		{"error, three bad, no limit", hang, 3, "GET", nil, map[string]string{"proxy-next-upstream": "error", "proxy-next-upstream-tries": "0"}, 200, 4},
		{"error, one try", hang, 1, "GET", nil, map[string]string{"proxy-next-upstream": "error", "proxy-next-upstream-tries": "1"}, 502, 1},
		{"the other keys mean error and timeout", hang, 1, "GET", nil, map[string]string{"proxy-next-upstream-tries": "2"}, 200, 2},
		{"error is not invalid_header", garbage, 1, "GET", nil, map[string]string{"proxy-next-upstream": "error timeout"}, 502, 1},
		{"invalid_header", garbage, 1, "GET", nil, map[string]string{"proxy-next-upstream": "invalid_header"}, 200, 2},
		{"timeout", silent, 1, "GET", nil, map[string]string{"proxy-next-upstream": "timeout", "proxy-read-timeout": "200ms"}, 200, 2},
		{"error is not timeout", silent, 1, "GET", nil, map[string]string{"proxy-next-upstream": "error", "proxy-read-timeout": "200ms"}, 504, 1},
		{"timeout, too late", silent, 1, "GET", nil, map[string]string{"proxy-next-upstream": "timeout", "proxy-read-timeout": "200ms", "proxy-next-upstream-timeout": "100ms"}, 504, 1},
		{"http_503", status(503), 1, "GET", nil, map[string]string{"proxy-next-upstream": "http_503"}, 200, 2},
		{"http_503, all tries", status(503), 3, "GET", nil, map[string]string{"proxy-next-upstream": "http_503", "proxy-next-upstream-tries": "2"}, 503, 2},
		{"http_503 is not http_502", status(502), 1, "GET", nil, map[string]string{"proxy-next-upstream": "http_503"}, 502, 1},
		{"http_404", status(404), 1, "HEAD", nil, map[string]string{"proxy-next-upstream": "http_403 http_404 http_429"}, 200, 2},
		{"a PUT with its body", status(500), 1, "PUT", []byte("short"), map[string]string{"proxy-next-upstream": "http_500"}, 200, 2},
		{"a POST", status(500), 1, "POST", []byte("short"), map[string]string{"proxy-next-upstream": "http_500"}, 500, 1},
		{"a PATCH, reset", hang, 1, "PATCH", []byte("short"), map[string]string{"proxy-next-upstream": "error"}, 502, 1},
		{"a POST, non_idempotent", status(500), 1, "POST", []byte("short"), map[string]string{"proxy-next-upstream": "http_500 non_idempotent"}, 200, 2},
		{"a POST, by the ConfigMap", hang, 1, "POST", []byte("short"), map[string]string{"retry-non-idempotent": "true"}, 200, 2},
		{"a long body that streams", status(500), 1, "PUT", large, map[string]string{"proxy-next-upstream": "http_500"}, 500, 1},
		{"a long body that was read first", status(500), 1, "PUT", large, map[string]string{"proxy-next-upstream": "http_500", "proxy-request-buffering": "on"}, 200, 2},
		{"off", hang, 1, "GET", nil, map[string]string{"proxy-next-upstream": "off"}, 502, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := policyRig(t, proxy.Options{})
			var good atomic.Int32
			var addrs []string
			var bad []*scripted
			for range row.pods {
				p := script(t, row.bad)
				bad = append(bad, p)
				addrs = append(addrs, p.addr)
			}
			addrs = append(addrs, backend(t, func(w http.ResponseWriter, q *http.Request) {
				if b, _ := io.ReadAll(q.Body); !bytes.Equal(b, row.body) {
					t.Errorf("the good Pod got %d bytes of %d", len(b), len(row.body))
				}
				good.Add(1)
				_, _ = io.WriteString(w, "200")
			}))
			calls := func() (n int) {
				for _, p := range bad {
					n += int(p.calls.Load())
				}
				return n + int(good.Load())
			}
			// The turn decides who is first: ask until it was a bad one, and judge that request.
			for range 50 {
				badBefore, before := calls()-int(good.Load()), calls()
				res, body := r.doTo(row.method, row.body, row.say, addrs)
				if calls()-int(good.Load()) == badBefore {
					continue // the good one was first
				}
				if row.want != 200 && row.tries > 1 && res.StatusCode == 200 {
					continue // the good one came in time
				}
				if tries := calls() - before; row.want != 200 && res.StatusCode == 200 || res.StatusCode != row.want && tries == row.tries || tries > row.tries {
					t.Errorf("%d %q after %d tries, want %d after %d", res.StatusCode, body, tries, row.want, row.tries)
				} else if tries == row.tries {
					return
				}
			}
			t.Error("no request took the way that was to be seen")
		})
	}
}

// doTo publishes the route anew, so that no Pod is out for what it did before, and sends a request.
func (r *rig) doTo(method string, body []byte, annotations map[string]string, addrs []string) (*http.Response, string) {
	r.t.Helper()
	r.routeSaying(annotations)
	r.routeSaying(annotations, addrs...)
	var b io.Reader
	if body != nil {
		b = bytes.NewReader(body)
	}
	return r.do(method, "http://a.test/", b)
}

// Endpoints that refuse are passed over for any method, as long as tries and words allow.
func TestNextUpstreamConnect(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	for _, row := range []struct {
		say  map[string]string
		want map[int]bool
	}{
		{map[string]string{"proxy-next-upstream": "error"}, map[int]bool{200: true}},
		{map[string]string{"proxy-next-upstream": "timeout http_503"}, map[int]bool{200: true, 502: true}},
		{map[string]string{"proxy-next-upstream": "off"}, map[int]bool{200: true, 502: true}},
	} {
		r := policyRig(t, proxy.Options{})
		closed, got := closedPort(t), map[int]bool{}
		for range 30 {
			res, _ := r.doTo(http.MethodPost, []byte("x"), row.say, []string{closed, pod})
			got[res.StatusCode] = true
		}
		if fmt.Sprint(got) != fmt.Sprint(row.want) {
			t.Errorf("%v: statuses %v, want %v", row.say, got, row.want)
		}
	}
}

// Each wait of a route is bounded by its own key, and what is said about reading bounds tunnels and event streams.
func TestTimeoutsOfRoute(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		switch q.URL.Path {
		case "/head":
		case "/events":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
		case "/body":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		case "/tunnel":
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		}
		<-release
	})
	r := policyRig(t, proxy.Options{})
	r.routeSaying(map[string]string{"proxy-read-timeout": "200ms"}, pod)
	for path, want := range map[string]string{
		"/head": "HTTP/1.1 504 ", "/events": "HTTP/1.1 200 ", "/body": "HTTP/1.1 200 ", "/tunnel": "HTTP/1.1 101 ",
	} {
		t.Run(path[1:], func(t *testing.T) {
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // the usual limits are longer
			upgrade := "Connection: close\r\n"
			if path == "/tunnel" {
				upgrade = "Connection: Upgrade\r\nUpgrade: x\r\n"
			}
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a.test\r\n%s\r\n", path, upgrade)
			got, err := io.ReadAll(c)
			if nerr, ok := err.(net.Error); ok && nerr.Timeout() { //nolint:errorlint // as net has it
				t.Fatalf("nothing ended the wait; got %q", got)
			}
			if !strings.HasPrefix(string(got), want) {
				t.Errorf("got %q, want %q…", got, want)
			}
		})
	}
}

// The time is that between bytes: an answer, and a tunnel, may take longer than that altogether.
func TestReadTimeoutIsNotOfTheWhole(t *testing.T) {
	const limit, pieces, pace = 2 * time.Second, 30, 100 * time.Millisecond
	var longest atomic.Int64 // between two bytes of the Pod: a machine that stops for long says nothing of the proxy
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", pieces)
		if q.Header.Get("Upgrade") != "" {
			head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
		}
		_, _ = io.WriteString(c, head)
		for range pieces {
			last := time.Now()
			time.Sleep(pace) // what is slow is the Pod
			_, _ = io.WriteString(c, "x")
			longest.Store(max(longest.Load(), int64(time.Since(last))))
		}
	})
	r := policyRig(t, proxy.Options{})
	r.routeSaying(map[string]string{"proxy-read-timeout": limit.String()}, pod)
	for _, upgrade := range []string{"Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: x\r\n"} {
		t.Run(strings.Fields(upgrade)[1], func(t *testing.T) {
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n"+upgrade+"\r\n")
			raw, _ := io.ReadAll(c)
			if _, body, _ := strings.Cut(string(raw), "\r\n\r\n"); body != strings.Repeat("x", pieces) {
				if gap := time.Duration(longest.Load()); gap > limit/2 {
					t.Skipf("the machine is too busy: the Pod was silent for %v", gap)
				}
				t.Errorf("got %q", raw)
			}
		})
	}
}

// A Pod that takes nothing of the request is given up after proxy-send-timeout.
func TestSendTimeoutOfRoute(t *testing.T) {
	release := make(chan struct{})
	pod := fakePod(t, func(_ int, c net.Conn, _ *bufio.Reader) {
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		<-release
	})
	defer close(release)
	for _, buffering := range []string{"on", "off"} {
		r := policyRig(t, proxy.Options{MaxBody: -1})
		r.routeSaying(map[string]string{"proxy-send-timeout": "200ms", "proxy-request-buffering": buffering}, pod)
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		const size = 64 << 20
		var sending sync.WaitGroup
		sending.Go(func() {
			fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", size)
			for piece, n := make([]byte, 1<<20), 0; n < size; n += len(piece) {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		})
		line, err := bufio.NewReader(c).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 504 ") {
			t.Errorf("buffering %s: %q %v, want 504", buffering, line, err)
		}
		_ = c.Close()
		sending.Wait()
	}
}

// A long upload is not a wait for the answer: that begins when the Pod has the whole request.
func TestLongUploadIsNoWait(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		n, err := io.Copy(io.Discard, q.Body)
		fmt.Fprint(w, n, err)
	})
	r := policyRig(t, proxy.Options{MaxBody: -1})
	r.routeSaying(map[string]string{"proxy-read-timeout": "300ms"}, pod)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	const pieces, size = 40, 10_000
	fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", pieces*size)
	for range pieces {
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Millisecond) // the upload's own pace: it takes longer than the wait that is allowed
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != fmt.Sprint(pieces*size, nil) || err != nil {
		t.Errorf("%d %q %v", res.StatusCode, body, err)
	}
}

// A Pod that has the whole of a request that streamed and does not answer is given up as any other.
func TestNoAnswerToUpload(t *testing.T) {
	release := make(chan struct{})
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err == nil {
			_, _ = io.Copy(io.Discard, q.Body)
		}
		<-release
	})
	defer close(release)
	r := policyRig(t, proxy.Options{MaxBody: -1})
	r.routeSaying(map[string]string{"proxy-read-timeout": "200ms"}, pod)
	for _, chunked := range []bool{false, true} {
		for _, size := range []int{1, 300_000} {
			if res, body := r.post(http.MethodPut, make([]byte, size), chunked); res.StatusCode != http.StatusGatewayTimeout {
				t.Errorf("%d bytes, chunked %v: %d %q", size, chunked, res.StatusCode, body)
			}
		}
	}
}

// proxy-connect-timeout bounds the connect to an address that does not answer, for requests that share connections too.
func TestConnectTimeoutOfRoute(t *testing.T) {
	hole := func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, scheme := range []router.PodScheme{router.PodPlain, router.PodH2C} {
		r := policyRig(t, proxy.Options{Upstream: upstream.Options{ConnectTimeout: time.Hour, Dial: hole}})
		sp := router.ServicePort{Namespace: "default", Name: "svc"}
		table := router.NewTable([]*router.Route{{
			ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"},
			Backends: []router.Backend{{Service: sp, Weight: 1, Scheme: scheme}}, Policies: says(t, map[string]string{"proxy-connect-timeout": "200ms"}),
		}}, nil)
		r.engine.Prepare(table)
		r.addresses("192.0.2.1:80")
		r.engine.Publish(table)
		res, body := r.do(http.MethodGet, "http://a.test/", nil)
		if res.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("%v: %d %q, want 504", scheme, res.StatusCode, body)
		}
	}
}

// The size of a head is kept to the byte, and another route over the same connections has its own.
func TestHeadOfAnswerIsBounded(t *testing.T) {
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		for {
			q, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			size, _ := strconv.Atoi(q.URL.RawQuery)
			head := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Pad: "
			head += strings.Repeat("x", size-len(head)-4) + "\r\n\r\n"
			if _, err := io.WriteString(c, head); err != nil {
				return
			}
		}
	})
	r := policyRig(t, proxy.Options{})
	for _, row := range []struct {
		limit string
		size  int
		want  int
	}{{"", 60_000, 200}, {"4k", 4096, 200}, {"4k", 4097, 502}, {"4k", 20_000, 502}, {"1m", 60_000, 200}, {"1m", 70_000, 502}} {
		annotations := map[string]string{}
		if row.limit != "" {
			annotations["proxy-buffer-size"] = row.limit
		}
		r.routeSaying(annotations, pod)
		if res, _ := r.do(http.MethodGet, fmt.Sprintf("http://a.test/?%d", row.size), nil); res.StatusCode != row.want {
			t.Errorf("limit %q, a head of %d bytes: %d, want %d", row.limit, row.size, res.StatusCode, row.want)
		}
	}
}

// What goes wrong with a body that is read first is told before any Pod was asked.
func TestBodyThatIsNotReadFirst(t *testing.T) {
	var asked atomic.Int32
	pod := backend(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	r := policyRig(t, proxy.Options{Timeouts: proxy.Timeouts{Body: 150 * time.Millisecond, LingerSilence: 150 * time.Millisecond}})
	r.routeSaying(map[string]string{"proxy-request-buffering": "on"}, pod)
	const post = "POST / HTTP/1.1\r\nHost: a.test\r\n"
	for name, row := range map[string]struct{ text, want string }{
		"half a long body":    {post + "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 50_000), "HTTP/1.1 408 "},
		"half a chunked body": {post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 408 "},
		"a malformed chunk":   {post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno\r\n", "HTTP/1.1 400 "},
	} {
		t.Run(name, func(t *testing.T) {
			if got := exchangeRaw(t, r.addr, row.text); !strings.HasPrefix(got, row.want) {
				t.Errorf("got %q, want %q…", got, row.want)
			}
		})
	}
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, post+"Content-Length: 100000\r\n\r\nhalf")
	_ = c.Close()
	if n := asked.Load(); n != 0 {
		t.Errorf("the Pod was asked %d times", n)
	}
}
