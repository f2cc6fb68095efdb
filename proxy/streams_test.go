package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// listenTLS makes r serve HTTPS too, with HTTP/2, and returns the address.
func listenTLS(t testing.TB, r *rig) string {
	t.Helper()
	store, err := certs.NewStore(certs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.NewConfig(store, server.Options{Protocols: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	h := server.NewHandshaker(server.HandshakerOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	go func() {
		_ = r.engine.Serve(&proxy.Listener{Listener: l, Handshake: func(c net.Conn) (*tls.Conn, error) {
			tc := h.Server(c, config)
			return tc, h.Handshake(ctx, tc)
		}})
	}()
	return l.Addr().String()
}

// overHTTP2 runs f with a client of each kind of HTTP/2 connection.
func overHTTP2(t *testing.T, o proxy.Options, f func(t *testing.T, r *rig, c *http.Client, base string)) {
	t.Helper()
	for _, name := range []string{"tls", "h2c"} {
		t.Run(name, func(t *testing.T) {
			o.H2C = true
			r := newRig(t, o)
			base, addr := "http://a.test", r.addr
			tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			if name == "tls" {
				base, addr = "https://a.test", listenTLS(t, r)
				tr.Protocols.SetHTTP2(true)
			} else {
				tr.Protocols.SetUnencryptedHTTP2(true)
			}
			tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			defer tr.CloseIdleConnections()
			f(t, r, &http.Client{Timeout: 20 * time.Second, Transport: tr}, base)
		})
	}
}

// Requests and answers of all sizes pass whole, many at a time, each to its own.
func TestHTTP2Exchanges(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		w.Header().Set("X-Id", q.Header.Get("X-Id"))
		w.Header().Set("X-Seen", fmt.Sprint(q.Proto, " ", q.Host, " ", q.Header.Get("X-Forwarded-Proto"), " ", q.Header.Get("Connection")))
		_, _ = w.Write(b)
	})
	overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				body := bytes.Repeat([]byte{byte(i)}, []int{0, 1, 100, 5_000, 20_000, 70_000, 400_000}[i%7])
				req, err := http.NewRequest(http.MethodPost, base+"/x?y", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 1 {
					req.ContentLength = -1
				}
				req.Header.Set("X-Id", fmt.Sprint(i))
				res, err := c.Do(req)
				if err != nil {
					t.Errorf("%d: %v", i, err)
					return
				}
				defer res.Body.Close()
				got, err := io.ReadAll(res.Body)
				if err != nil || res.ProtoMajor != 2 || res.Header.Get("X-Id") != fmt.Sprint(i) || sha256.Sum256(got) != sha256.Sum256(body) {
					t.Errorf("%d: %v %s id %s, %d bytes of %d", i, err, res.Proto, res.Header.Get("X-Id"), len(got), len(body))
				}
				scheme, _, _ := strings.Cut(base, ":")
				if seen := res.Header.Get("X-Seen"); seen != "HTTP/1.1 a.test "+scheme {
					t.Errorf("the Pod saw %q", seen)
				}
			})
		}
		all.Wait()
	})
}

// The proxy's own answers, refusals and methods without a body.
func TestHTTP2Answers(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		fmt.Fprint(w, "hello")
	})
	overHTTP2(t, proxy.Options{MaxBody: 1000}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		for _, row := range []struct {
			method, path, host string
			body               int
			status             int
			want               string
		}{
			{"GET", "/", "", 0, 200, "hello"},
			{"HEAD", "/", "", 0, 200, ""},
			{"GET", "/", "other.test", 0, 404, "no route"},
			{"GET", "/%zz", "", 0, 400, ""},
			{"TRACE", "/", "", 0, 405, ""},
			{"POST", "/", "", 2000, 413, "too large"},
			{"GET", "/", "", 0, 200, "hello"},
		} {
			req, err := http.NewRequest(row.method, base+"/", io.LimitReader(zeros{}, int64(row.body)))
			if err != nil {
				t.Fatal(err)
			}
			req.URL.Opaque = row.path
			req.ContentLength = int64(row.body)
			if row.body == 0 {
				req.Body = nil
			}
			if row.host != "" {
				req.Host = row.host
			}
			res, err := c.Do(req)
			if err != nil {
				t.Errorf("%s %s: %v", row.method, row.path, err)
				continue
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != row.status || !strings.Contains(string(b), row.want) {
				t.Errorf("%s %s %s: %d %q %v, want %d %q", row.method, row.host, row.path, res.StatusCode, b, err, row.status, row.want)
			}
		}
	})
}

// A client that resets its stream cancels the request to the Pod at once; other streams of the connection go on.
func TestHTTP2ResetCancelsThePod(t *testing.T) {
	begun, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/hang" {
			fmt.Fprint(w, "ok")
			return
		}
		begun <- struct{}{}
		<-q.Context().Done()
		ended <- struct{}{}
	})
	overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/hang", nil)
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		go func() {
			_, err := c.Do(req)
			failed <- err
		}()
		<-begun
		cancel()
		if err := <-failed; err == nil {
			t.Error("no error for the client that cancelled")
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("the Pod's request goes on")
		}
		if res, err := c.Get(base + "/"); err != nil || res.StatusCode != 200 {
			t.Errorf("the next stream: %v %v", res, err)
		} else {
			res.Body.Close()
		}
		waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
	})
}

// A Pod that cuts its answer short: the client sees that it is not whole.
func TestHTTP2TruncatedAnswer(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 50_000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		res, err := c.Get(base + "/")
		if err != nil {
			return // cut before the head was read: seen, too
		}
		defer res.Body.Close()
		if n, err := io.Copy(io.Discard, res.Body); err == nil {
			t.Errorf("a clean end after %d bytes", n)
		}
	})
}

// A shutdown loses no request of clients that reconnect when they are told to go away.
func TestHTTP2ShutdownFailsNoRequest(t *testing.T) {
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(2 * time.Millisecond)
		fmt.Fprint(w, "ok")
	})
	overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		var served, lost atomic.Int64
		var clients sync.WaitGroup
		for range 16 {
			clients.Go(func() {
				for {
					res, err := c.Get(base + "/")
					if err != nil {
						// A connection that is made in the very moment of closing is the kernel's: see lostAtClose.
						if !refused(err) && lost.Add(1) > lostAtClose*16 {
							t.Errorf("after %d requests: %v", served.Load(), err)
						}
						return
					}
					b, err := io.ReadAll(res.Body)
					res.Body.Close()
					if err != nil || string(b) != "ok" {
						t.Errorf("%q %v", b, err)
						return
					}
					served.Add(1)
				}
			})
		}
		waitFor(t, "500 requests", func() bool { return served.Load() > 500 })
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.engine.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		clients.Wait()
	})
}

func refused(err error) bool { return strings.Contains(err.Error(), "refused") }

// bomb is a request filter that panics on one path.
type bomb struct{}

func (bomb) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if string(x.Request.Path) == "/panic" {
		panic("a bug")
	}
	return exchange.Continue
}

// A panic costs its own stream an answer of 500, and nobody else anything.
func TestHTTP2Panic(t *testing.T) {
	pod := okPod(t)
	var panics atomic.Int64
	o := proxy.Options{
		Panicked: func(any, []byte) { panics.Add(1) },
		Policies: []filters.Policy{&filters.Of[int]{
			Of:      policy.Of[int]{Name: "bomb", IfInvalid: policy.Ignore},
			Default: func(*router.Route) (int, bool) { return 0, true },
			Request: func(*router.Route, int) exchange.RequestFilter { return bomb{} },
		}},
	}
	overHTTP2(t, o, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test", pod)
		panics.Store(0)
		for i, want := range []int{200, 500, 200, 500, 200} {
			path := "/"
			if want == 500 {
				path = "/panic"
			}
			res, err := c.Get(base + path)
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != want || err != nil {
				t.Errorf("%d: %d %v, want %d", i, res.StatusCode, err, want)
			}
		}
		if panics.Load() != 2 {
			t.Errorf("%d panics were told of", panics.Load())
		}
		waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
	})
}

// gRPC clients get the proxy's own failures as a gRPC status; others do not.
func TestGRPCStatusOfOwnAnswers(t *testing.T) {
	overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test")
		for _, row := range []struct {
			host, kind, timeout, grpc string
			status                    int
		}{
			{"a.test", "application/grpc", "", "14", 200},
			{"a.test", "application/grpc+proto", "1H", "14", 200},
			{"a.test", "application/grpc", "99999999H", "14", 200},
			{"a.test", "application/grpc", "1n", "4", 200}, // over before anybody could be asked
			{"a.test", "application/grpc", "1u1", "14", 200},
			{"other.test", "application/grpc;x=y", "", "12", 200},
			{"a.test", "application/grpc-web", "1n", "", 503},
			{"other.test", "text/plain", "", "", 404},
		} {
			req, err := http.NewRequest(http.MethodPost, base+"/p.S/M", strings.NewReader("\x00\x00\x00\x00\x00"))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = row.host
			req.Header.Set("Content-Type", row.kind)
			if row.timeout != "" {
				req.Header.Set("Grpc-Timeout", row.timeout)
			}
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			got := res.Header.Get("Grpc-Status")
			if err != nil || res.StatusCode != row.status || got != row.grpc || row.grpc != "" && (len(b) > 0 || res.Header.Get("Grpc-Message") == "") {
				t.Errorf("%s %s: %d, grpc-status %q, body %q, %v", row.host, row.kind, res.StatusCode, got, b, err)
			}
		}
	})
}

// postGRPC posts a body as a gRPC client does, and returns the status of the answer, which ends with its head.
func postGRPC(t *testing.T, c *http.Client, url string, body io.Reader) string {
	t.Helper()
	res, err := c.Post(url, "application/grpc", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	rest, err := io.ReadAll(res.Body)
	if got := res.Header.Get("Grpc-Status"); got == "" || err != nil || res.StatusCode != 200 || len(rest) > 0 || len(res.Trailer) > 0 {
		t.Errorf("%s: %d, grpc-status %q, body %q, trailers %v, %v: no answer of trailers only", url, res.StatusCode, got, rest, res.Trailer, err)
	}
	return res.Header.Get("Grpc-Status")
}

// Each failure of the proxy's own has the status that the gRPC project maps the one of HTTP to.
func TestGRPCStatusOfFailures(t *testing.T) {
	silent := fakePod(t, func(_ int, _ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })
	resets := fakePod(t, func(_ int, _ net.Conn, br *bufio.Reader) { _, _ = br.ReadByte() })
	garbage := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		_, _ = br.ReadByte()
		_, _ = io.WriteString(c, "HTTP/1.1 twohundred\r\n\r\n")
	})
	dead := closedPort(t)
	fine := backend(t, hello)
	families := []filters.Policy{filters.Limit(), filters.SourceRange(), filters.Auth(), filters.RequestBody()}
	o := proxy.Options{Policies: families, Timeouts: proxy.Timeouts{Tunnel: 300 * time.Millisecond}} // which bounds the silence of gRPC
	overHTTP2(t, o, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		for name, row := range map[string]struct {
			pod    string
			values policy.Values
			want   string
		}{
			"502, reset":      {resets, nil, "14"},
			"502, garbage":    {garbage, nil, "14"},
			"502, no connect": {dead, nil, "14"},
			"504":             {silent, nil, "14"},
			"403":             {fine, policy.Values{"denylist-source-range": "127.0.0.0/8"}, "7"},
			"413":             {fine, policy.Values{"proxy-body-size": "3"}, "8"},
			"429":             {fine, policy.Values{"limit-rps": "1", "limit-burst-multiplier": "1", "limit-req-status-code": "429"}, "14"},
		} {
			r.routeWith(row.pod, row.values, families...)
			if name == "429" {
				for range 3 {
					res, err := c.Get(base + "/")
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
				}
			}
			if got := postGRPC(t, c, base+"/p.S/M", strings.NewReader("ask for it")); got != row.want {
				t.Errorf("%s: %s, want %s", name, got, row.want)
			}
			if name == "413" {
				if got := postGRPC(t, c, base+"/p.S/M", io.MultiReader(strings.NewReader("ask "), strings.NewReader("in parts"))); got != row.want {
					t.Errorf("413 of a body whose length is not said: %s, want %s", got, row.want)
				}
			}
		}
		r.publishUsers(fine, "basic", "u:{PLAIN}p\n")
		if got := postGRPC(t, c, base+"/p.S/M", strings.NewReader("ask")); got != "16" {
			t.Errorf("401: %s, want 16", got)
		}
	})
}

// So does what is refused before anybody looks where it goes: by the codec, and by the rules that all versions share.
func TestGRPCStatusOfRefusals(t *testing.T) {
	overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.route("a.test")
		for name, row := range map[string]struct {
			path, grpc string
			plain      int
		}{
			"the path is above the root": {"/../x", "13", 400},
			"the path is too long":       {"/" + strings.Repeat("x", 9<<10), "2", 414},
		} {
			for _, kind := range []string{"application/grpc", "text/plain"} {
				req, err := http.NewRequest(http.MethodPost, base+"/", strings.NewReader("\x00\x00\x00\x00\x00"))
				if err != nil {
					t.Fatal(err)
				}
				req.Host, req.URL.Opaque = "a.test", row.path
				req.Header.Set("Content-Type", kind)
				res, err := c.Do(req)
				if err != nil {
					t.Fatal(name, err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				got := res.Header.Get("Grpc-Status")
				if grpc := kind == "application/grpc"; grpc && (res.StatusCode != 200 || got != row.grpc) || !grpc && (res.StatusCode != row.plain || got != "") {
					t.Errorf("%s, %s: %d, grpc-status %q, want %s or %d", name, kind, res.StatusCode, got, row.grpc, row.plain)
				}
			}
		}
	})
}

// nginx's pages are not for gRPC clients: what they are told is one line.
func TestGRPCGetsNoPages(t *testing.T) {
	overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.engine.Publish(new(router.Table).With(router.Change{Compat: true}))
		for kind, page := range map[string]bool{"application/grpc": false, "text/plain": true} {
			req, err := http.NewRequest(http.MethodPost, base+"/p.S/M", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", kind)
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			message := res.Header.Get("Grpc-Message")
			if err != nil || strings.Contains(string(b), "<center>nginx</center>") != page || strings.Contains(message, "<") || (message == "") != page {
				t.Errorf("%s: %d, grpc-message %q, body %q, %v", kind, res.StatusCode, message, b, err)
			}
		}
	})
}
