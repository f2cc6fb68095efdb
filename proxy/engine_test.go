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
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
)

// rig is an engine with listeners on loopback and a table that the test sets.
type rig struct {
	t      testing.TB
	engine *proxy.Engine
	addr   string
	client *http.Client
}

func newRig(t testing.TB, o proxy.Options) *rig {
	t.Helper()
	return newRigBehind(t, o, 0)
}

// newRigBehind is newRig where clients use another port than the one that is listened on.
func newRigBehind(t testing.TB, o proxy.Options, port uint16) *rig {
	t.Helper()
	e := proxy.New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(&proxy.Listener{Listener: l, Port: port}) }()
	r := &rig{t: t, engine: e, addr: l.Addr().String()}
	r.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.addr)
		},
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return r
}

// route makes host reach the given addresses, whatever the path.
func (r *rig) route(host string, addrs ...string) {
	r.t.Helper()
	var as []router.Address
	for i, a := range addrs {
		as = append(as, router.Address{AddrPort: netip.MustParseAddrPort(a), UID: "u" + strconv.Itoa(i), Ready: true, Serving: true})
	}
	r.publish(host, as)
}

// routeUID is route for one Pod with a given UID.
func (r *rig) routeUID(host, uid, addr string) {
	r.t.Helper()
	r.publish(host, []router.Address{{AddrPort: netip.MustParseAddrPort(addr), UID: uid, Ready: true, Serving: true}})
}

func (r *rig) publish(host string, as []router.Address) {
	sp := router.ServicePort{Namespace: "default", Name: "svc-" + strings.ReplaceAll(host, ".", "-")}
	t := router.NewTable([]*router.Route{{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: host, Path: "/"},
		Backends: []router.Backend{{Service: sp, Weight: 1}},
	}}, nil)
	r.engine.Prepare(t)
	r.engine.SetAddresses(sp.Service(), map[string][]router.Address{"": as})
	r.engine.Publish(t)
}

func backend(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func (r *rig) do(method, url string, body io.Reader) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: read body: %v", method, url, err)
	}
	return res, string(b)
}

func TestGetReachesThePod(t *testing.T) {
	var seen http.Header
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		seen = q.Header.Clone()
		seen.Set("Host", q.Host)
		fmt.Fprintf(w, "hello %s", q.RequestURI)
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", pod)
	for i := range 3 {
		res, body := r.do("GET", "http://a.test/x/y?z=1", nil)
		if res.StatusCode != 200 || body != "hello /x/y?z=1" {
			t.Fatalf("request %d: %d %q", i, res.StatusCode, body)
		}
	}
	for name, want := range map[string]string{
		"Host": "a.test", "X-Real-Ip": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "a.test",
		"X-Forwarded-Proto": "http", "X-Forwarded-Port": strings.Split(r.addr, ":")[1],
	} {
		if seen.Get(name) != want {
			t.Errorf("%s = %q, want %q", name, seen.Get(name), want)
		}
	}
	if len(seen.Get("X-Request-Id")) != 32 {
		t.Errorf("X-Request-ID = %q", seen.Get("X-Request-Id"))
	}
}

// A Service maps 80 to the port that the container listens on: Pods hear of the one that the client used.
func TestPublicPort(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.Header.Get("X-Forwarded-Port")) })
	r := newRigBehind(t, proxy.Options{}, 80)
	r.route("a.test", pod)
	if _, body := r.do("GET", "http://a.test/", nil); body != "80" {
		t.Errorf("X-Forwarded-Port = %q, want 80", body)
	}
}

func TestStatusContract(t *testing.T) {
	r := newRig(t, proxy.Options{})
	r.route("a.test")
	if res, _ := r.do("GET", "http://b.test/", nil); res.StatusCode != 404 {
		t.Errorf("unknown host: %d, want 404", res.StatusCode)
	}
	if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 503 {
		t.Errorf("no endpoint: %d, want 503", res.StatusCode)
	}
	r.route("a.test", closedPort(t))
	if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 502 {
		t.Errorf("refused: %d, want 502", res.StatusCode)
	}
}

func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestRefusedEndpointIsPassedOver(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.Copy(w, q.Body) })
	r := newRig(t, proxy.Options{})
	r.route("a.test", closedPort(t), pod)
	for i := range 20 {
		if res, body := r.do("POST", "http://a.test/", strings.NewReader("x")); res.StatusCode != 200 || body != "x" {
			t.Fatalf("request %d: %d %q", i, res.StatusCode, body)
		}
	}
}

func TestBodiesOfAnySize(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Query().Get("cl") != "" {
			w.Header().Set("Content-Length", strconv.FormatInt(q.ContentLength, 10))
		}
		b, err := io.ReadAll(q.Body)
		if err != nil {
			t.Errorf("pod: %v", err)
		}
		_, _ = w.Write(b)
	})
	r := newRig(t, proxy.Options{MaxBody: -1})
	r.route("a.test", pod)
	rnd := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 100, 4 << 10, 15 << 10, 16 << 10, 17 << 10, 64 << 10, 1<<20 + 3, 5 << 20} {
		data := make([]byte, size)
		_, _ = rnd.Read(data)
		for _, chunked := range []bool{false, true} {
			var body io.Reader = bytes.NewReader(data)
			if chunked {
				body = io.MultiReader(body)
			}
			res, got := r.do("POST", "http://a.test/?cl=", body)
			if res.StatusCode != 200 || sha256.Sum256([]byte(got)) != sha256.Sum256(data) {
				t.Errorf("size %d chunked %v: status %d, %d bytes back", size, chunked, res.StatusCode, len(got))
			}
		}
	}
}

func TestBodyLimit(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.Copy(io.Discard, q.Body) })
	r := newRig(t, proxy.Options{MaxBody: 1000})
	r.route("a.test", pod)
	for _, chunked := range []bool{false, true} {
		var body io.Reader = strings.NewReader(strings.Repeat("x", 100_000))
		if chunked {
			body = io.MultiReader(body)
		}
		if res, _ := r.do("POST", "http://a.test/", body); res.StatusCode != 413 {
			t.Errorf("chunked %v: %d, want 413", chunked, res.StatusCode)
		}
	}
}

func TestUpgrade(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			t.Errorf("pod: %v", err)
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, br)
	}()
	r := newRig(t, proxy.Options{})
	r.route("a.test", l.Addr().String())
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "echo" {
		t.Fatalf("%v %v", res, err)
	}
	fmt.Fprint(c, " and late")
	got := make([]byte, len("early and late"))
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "early and late" {
		t.Fatalf("%q %v", got, err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
		t.Fatalf("%q %v", rest, err)
	}
}

func TestPublishWhileRequestsRun(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, "ok") })
	r := newRig(t, proxy.Options{})
	r.route("a.test", pod)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if res, body := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 || body != "ok" {
					t.Errorf("%d %q", res.StatusCode, body)
					return
				}
			}
		})
	}
	for range 200 {
		r.route("a.test", pod)
	}
	close(stop)
	wg.Wait()
}

// fakePod accepts connections and hands each to serve, with its number.
func fakePod(t testing.TB, serve func(n int, c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// answerAll answers every request on c with text.
func answerAll(c net.Conn, br *bufio.Reader, text string) {
	for {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, q.Body)
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text); err != nil {
			return
		}
	}
}

func TestStalePooledConnectionIsReplaced(t *testing.T) {
	// Each connection answers one request and then closes when the next one comes, which is the race that the liveness
	// check cannot see.
	var posts sync.Map
	pod := fakePod(t, func(n int, c net.Conn, br *bufio.Reader) {
		for i := range 2 {
			q, err := http.ReadRequest(br)
			if err != nil || i == 1 {
				return
			}
			body, _ := io.ReadAll(q.Body)
			if len(body) > 0 {
				if _, twice := posts.LoadOrStore(string(body), true); twice {
					t.Errorf("body %q came twice", body)
				}
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	r := newRig(t, proxy.Options{Upstream: upstream.Options{RetriesPerSecond: 10_000}})
	r.route("a.test", pod)
	for i := range 10 {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			if res, body := r.do(method, "http://a.test/", nil); res.StatusCode != 200 || body != "ok" {
				t.Fatalf("%s %d: %d %q", method, i, res.StatusCode, body)
			}
		}
		// The Pod has read the POST before it closed, and may have acted on it: it must not be repeated.
		if res, _ := r.do("POST", "http://a.test/", strings.NewReader("n"+strconv.Itoa(i))); res.StatusCode != 502 && res.StatusCode != 200 {
			t.Fatalf("POST %d: %d", i, res.StatusCode)
		}
	}
}

func TestHeaderTimeoutIsNotRetried(t *testing.T) {
	var mu sync.Mutex
	requests := 0
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			mu.Lock()
			requests++
			mu.Unlock()
			_, _ = br.ReadByte()
		}
	})
	r := newRig(t, proxy.Options{Timeouts: proxy.Timeouts{UpstreamHeader: 150 * time.Millisecond}})
	r.route("a.test", pod)
	if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 504 {
		t.Errorf("%d, want 504", res.StatusCode)
	}
	mu.Lock()
	defer mu.Unlock()
	if requests != 1 {
		t.Errorf("the Pod saw %d requests, want 1", requests)
	}
}

func TestTruncatedAnswerIsVisible(t *testing.T) {
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
	} {
		t.Run(name, func(t *testing.T) {
			pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err == nil {
					fmt.Fprint(c, answer)
				}
			})
			r := newRig(t, proxy.Options{})
			r.route("a.test", pod)
			for _, version := range []string{"1.1", "1.0"} {
				c, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(c, "GET / HTTP/%s\r\nHost: a.test\r\n\r\n", version)
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err == nil && res.StatusCode == 200 {
					_, err = io.ReadAll(res.Body)
				} else if err == nil && res.StatusCode == 502 {
					err = io.ErrUnexpectedEOF
				}
				if err == nil {
					t.Errorf("HTTP/%s: the client took a truncated answer for a whole one", version)
				}
				c.Close()
			}
		})
	}
}

func TestClientThatGoesAwayFreesThePod(t *testing.T) {
	ended := make(chan struct{}, 1)
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = br.ReadByte() // until the proxy closes
			ended <- struct{}{}
		}
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", pod)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	time.Sleep(20 * time.Millisecond)
	c.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the Pod's connection stayed open after its client was gone")
	}
}

func TestEarlyAnswerToAnUpload(t *testing.T) {
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		// The head is read, the body is not.
		for {
			line, err := br.ReadString('\n')
			if err != nil || line == "\r\n" {
				break
			}
		}
		fmt.Fprint(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		_, _ = io.Copy(io.Discard, br)
	})
	r := newRig(t, proxy.Options{MaxBody: -1})
	r.route("a.test", pod)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1073741824\r\n\r\n")
	go func() {
		chunk := make([]byte, 64<<10)
		for range 1 << 14 {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if res.StatusCode != 403 || string(body) != "no" || err != nil || !res.Close {
		t.Errorf("%d %q close=%v %v", res.StatusCode, body, res.Close, err)
	}
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	release := make(chan struct{})
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		<-release
		fmt.Fprint(w, "done")
	})
	r := newRig(t, proxy.Options{})
	r.route("a.test", pod)
	result := make(chan string, 1)
	go func() {
		res, err := r.client.Get("http://a.test/")
		if err != nil {
			result <- err.Error()
			return
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		result <- fmt.Sprint(res.StatusCode, " ", string(b), " ", res.Close)
	}()
	for r.engine.Requests() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.engine.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if got := <-result; got != "200 done true" {
		t.Errorf("got %q", got)
	}
}
