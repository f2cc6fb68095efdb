package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// rawPod is a Pod that speaks HTTP/2 frame by frame, in clear.
type rawPod struct {
	t    testing.TB
	n    int // of the connection
	c    net.Conn
	fr   *xhttp2.Framer
	text bytes.Buffer
	enc  *hpack.Encoder
}

// rawPods starts a Pod whose connections are greeted with settings and then handed to serve, which is called with the number of each.
func rawPods(t testing.TB, serve func(p *rawPod), settings ...xhttp2.Setting) string {
	t.Helper()
	return fakePod(t, func(n int, c net.Conn, br *bufio.Reader) {
		preface := make([]byte, len(xhttp2.ClientPreface))
		if _, err := io.ReadFull(br, preface); err != nil {
			return
		}
		p := &rawPod{t: t, n: n, c: c, fr: xhttp2.NewFramer(c, br)}
		p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		p.enc = hpack.NewEncoder(&p.text)
		_ = p.fr.WriteSettings(settings...)
		serve(p)
	})
}

// next returns the next HEADERS frame, or nil at the end.
func (p *rawPod) next() *xhttp2.MetaHeadersFrame {
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *xhttp2.SettingsFrame:
			if !f.IsAck() {
				_ = p.fr.WriteSettingsAck()
			}
		case *xhttp2.MetaHeadersFrame:
			return f
		}
	}
}

// respond sends the head of an answer, and a body with which it ends unless more follows.
func (p *rawPod) respond(id uint32, body string, ends bool, fields ...string) {
	p.text.Reset()
	_ = p.enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: p.text.Bytes(), EndHeaders: true})
	_ = p.fr.WriteData(id, ends, []byte(body))
}

// drain reads to the end.
func (p *rawPod) drain() {
	for p.next() != nil {
	}
}

// A request that the Pod says it has not processed is sent again, whatever its method, and one that it may have processed is not.
func TestHTTP2PodRefuses(t *testing.T) {
	var seen atomic.Int64
	for _, row := range []struct {
		name, method string
		first        func(p *rawPod, f *xhttp2.MetaHeadersFrame)
		status, seen int
	}{
		{"refused stream", "POST", func(p *rawPod, f *xhttp2.MetaHeadersFrame) {
			_ = p.fr.WriteRSTStream(f.StreamID, xhttp2.ErrCodeRefusedStream)
		}, 200, 2},
		{"goaway below", "POST", func(p *rawPod, f *xhttp2.MetaHeadersFrame) {
			_ = p.fr.WriteGoAway(f.StreamID-2, xhttp2.ErrCodeNo, nil)
		}, 200, 2},
		{"reset POST", "POST", func(p *rawPod, f *xhttp2.MetaHeadersFrame) {
			_ = p.fr.WriteRSTStream(f.StreamID, xhttp2.ErrCodeInternal)
		}, 502, 1},
		{"reset GET", "GET", func(p *rawPod, f *xhttp2.MetaHeadersFrame) {
			_ = p.fr.WriteRSTStream(f.StreamID, xhttp2.ErrCodeCancel)
		}, 502, 1},
		{"lost GET", "GET", func(p *rawPod, _ *xhttp2.MetaHeadersFrame) { p.c.Close() }, 200, 2},
		{"lost POST", "POST", func(p *rawPod, _ *xhttp2.MetaHeadersFrame) { p.c.Close() }, 502, 1},
		{"garbage", "GET", func(p *rawPod, _ *xhttp2.MetaHeadersFrame) { _, _ = p.c.Write(bytes.Repeat([]byte("garbage!"), 4)) }, 200, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			seen.Store(0)
			var fault atomic.Bool
			pod := rawPods(t, func(p *rawPod) {
				for f := p.next(); f != nil; f = p.next() {
					if f.PseudoValue("path") == "/first" {
						p.respond(f.StreamID, "hello", true)
						continue
					}
					seen.Add(1)
					if fault.CompareAndSwap(true, false) {
						row.first(p, f)
						continue
					}
					p.respond(f.StreamID, "ok", true)
				}
			})
			r := newRig(t, proxy.Options{})
			r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, pod)
			if res, body := r.do("GET", "http://a.test/first", nil); body != "hello" {
				t.Fatalf("%s %q", res.Status, body)
			}
			fault.Store(true)
			var body io.Reader
			if row.method == "POST" {
				body = strings.NewReader("body")
			}
			if res, text := r.do(row.method, "http://a.test/", body); res.StatusCode != row.status || int(seen.Load()) != row.seen {
				t.Errorf("%s %q after %d tries, want %d after %d", res.Status, text, seen.Load(), row.status, row.seen)
			}
		})
	}
}

// A Pod that refuses for ever is not asked for ever.
func TestHTTP2PodRefusesForEver(t *testing.T) {
	var seen atomic.Int64
	pod := rawPods(t, func(p *rawPod) {
		for f := p.next(); f != nil; f = p.next() {
			seen.Add(1)
			_ = p.fr.WriteRSTStream(f.StreamID, xhttp2.ErrCodeRefusedStream)
		}
	})
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, pod)
	if res, _ := r.do("POST", "http://a.test/", strings.NewReader("x")); res.StatusCode != 502 || seen.Load() != 4 {
		t.Errorf("%s after %d tries", res.Status, seen.Load())
	}
}

// A Pod that allows no request at all is passed over, and where there is no other, one connection is enough to know.
func TestHTTP2PodAllowsNothing(t *testing.T) {
	var conns atomic.Int64
	full := rawPods(t, func(p *rawPod) {
		conns.Add(1)
		p.drain()
	}, xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 0})
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, full)
	res, body := r.do("POST", "http://a.test/", strings.NewReader("x"))
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" || conns.Load() != 1 {
		t.Errorf("%s %q, Retry-After %q, after %d connections", res.Status, body, res.Header.Get("Retry-After"), conns.Load())
	}
	open := rawPods(t, func(p *rawPod) {
		for f := p.next(); f != nil; f = p.next() {
			p.respond(f.StreamID, "open", true)
		}
	})
	r.routeTo("b.test", router.Backend{Scheme: router.PodH2C}, full, open)
	for range 20 {
		if res, body := r.do("POST", "http://b.test/", strings.NewReader("x")); res.StatusCode != 200 || body != "open" {
			t.Fatalf("%s %q", res.Status, body)
		}
	}
}

// GOAWAY ends a connection for new requests: those under way end on it, and others go over a new one.
func TestHTTP2PodGoesAway(t *testing.T) {
	release := make(chan struct{})
	var conns atomic.Int64
	pod := rawPods(t, func(p *rawPod) {
		conns.Add(1)
		f := p.next()
		if f == nil {
			return
		}
		if p.n > 0 {
			p.respond(f.StreamID, "new", true)
			p.drain()
			return
		}
		p.respond(f.StreamID, "begin ", false)
		_ = p.fr.WriteGoAway(f.StreamID, xhttp2.ErrCodeNo, nil)
		<-release
		_ = p.fr.WriteData(f.StreamID, true, []byte("end"))
		p.drain()
	})
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, pod)
	res, err := r.client.Get("http://a.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res, body := r.do("POST", "http://a.test/", strings.NewReader("x")); res.StatusCode != 200 || body != "new" {
		t.Fatalf("behind GOAWAY: %s %q", res.Status, body)
	}
	close(release)
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != "begin end" {
		t.Errorf("%q, %v", got, err)
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// A stream that the Pod resets in the middle of its answer is a broken answer to the client, and nobody else's.
func TestHTTP2PodResetsAnswer(t *testing.T) {
	pod := startPod(t, router.PodH2C, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprint(w, "some")
		if q.URL.Path != "/whole" {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}, nil)
	overClients(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, podAddr(pod))
		for range 3 {
			res, err := c.Get(base + "/")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			// Where nothing has left yet the client can still be told in words.
			if err == nil && res.StatusCode != 502 {
				t.Errorf("a broken answer came whole: %q", got)
			}
			if res, err = c.Get(base + "/whole"); err != nil {
				t.Fatal(err)
			}
			got, err = io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(got) != "some" {
				t.Errorf("%q, %v", got, err)
			}
		}
	})
}

// A client that gives up is no longer waited for: the Pod is told, on its stream alone.
func TestClientGoneReachesHTTP2Pod(t *testing.T) {
	var began, gone, others atomic.Int64
	pod := startPod(t, router.PodH2, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/other" {
			others.Add(1)
			return
		}
		if q.URL.Path == "/answering" {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
		}
		began.Add(1)
		<-q.Context().Done()
		gone.Add(1)
	}, nil)
	overClients(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		began.Store(0)
		gone.Store(0)
		r.routeTo("a.test", router.Backend{Scheme: router.PodH2}, podAddr(pod))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		paths := []string{"/waiting", "/answering"}
		if c == r.client {
			paths[1] = paths[0] // over HTTP/1.1 an answer that has begun is delivered
		}
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, "GET", base+paths[i%2], nil)
				res, err := c.Do(req)
				if err == nil {
					_, err = io.ReadAll(res.Body)
					res.Body.Close()
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
			})
		}
		waitFor(t, "the requests to arrive", func() bool { return began.Load() == 6 })
		cancel()
		all.Wait()
		waitFor(t, "the Pod to be told", func() bool { return gone.Load() == 6 })
		waitFor(t, "the requests to end", func() bool { return r.engine.Requests() == 0 })
		for _, p := range r.engine.Endpoints() {
			for _, e := range p.Endpoints {
				if e.InFlight != 0 {
					t.Errorf("%d in flight in the end", e.InFlight)
				}
			}
		}
		res, err := c.Get(base + "/other")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	})
}

// Both directions stream at once: each message is passed on when it comes.
func TestHTTP2PodStreamsBothWays(t *testing.T) {
	for _, scheme := range []router.PodScheme{router.PodH2C, router.PodH2} {
		t.Run(scheme.String(), func(t *testing.T) {
			pod := startPod(t, scheme, func(w http.ResponseWriter, q *http.Request) {
				w.WriteHeader(200)
				rc := http.NewResponseController(w)
				_ = rc.Flush()
				line := bufio.NewReader(q.Body)
				for {
					s, err := line.ReadString('\n')
					if err != nil {
						return
					}
					fmt.Fprint(w, "echo ", s)
					_ = rc.Flush()
				}
			}, nil)
			overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
				t.Helper()
				r.routeTo("a.test", router.Backend{Scheme: scheme}, podAddr(pod))
				pr, pw := io.Pipe()
				res, err := c.Post(base+"/", "application/grpc", pr)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				answers := bufio.NewReader(res.Body)
				for i := range 20 {
					fmt.Fprintf(pw, "%d\n", i)
					if got, err := answers.ReadString('\n'); err != nil || got != fmt.Sprintf("echo %d\n", i) {
						t.Fatalf("%q, %v", got, err)
					}
				}
				_ = pw.Close()
				if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
					t.Errorf("%q, %v", rest, err)
				}
			})
		})
	}
}

// A client that does not read its answer holds up nobody else whose requests share the connection, and not without bound.
func TestSlowStreamBlocksNoOther(t *testing.T) {
	var sent atomic.Int64
	pod := startPod(t, router.PodH2C, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/slow" {
			fmt.Fprint(w, "fast")
			return
		}
		chunk := make([]byte, 64<<10)
		for range 1 << 10 {
			n, err := w.Write(chunk)
			if err != nil {
				return
			}
			sent.Add(int64(n))
		}
	}, nil)
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, podAddr(pod))
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprint(c, "GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
	waitFor(t, "the slow answer to begin", func() bool { return sent.Load() > 0 })
	for last := int64(-1); sent.Load() != last; time.Sleep(50 * time.Millisecond) {
		last = sent.Load()
	}
	if n := sent.Load(); n > 16<<20 {
		t.Errorf("%d bytes were taken for a client that reads none", n)
	}
	for range 50 {
		if res, body := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 || body != "fast" {
			t.Fatalf("%s %q", res.Status, body)
		}
	}
}

// An answer that comes before the request is whole is passed on at once, and the rest of the request is not wanted.
func TestHTTP2PodAnswersEarly(t *testing.T) {
	pod := startPod(t, router.PodH2C, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "no")
	}, nil)
	overClients(t, proxy.Options{MaxBody: -1}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, podAddr(pod))
		for range 3 {
			pr, pw := io.Pipe()
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				for {
					if _, err := pw.Write(make([]byte, 4<<10)); err != nil {
						return
					}
				}
			}()
			res, err := c.Post(base+"/", "text/plain", pr)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(res.Body); res.StatusCode != 403 || string(got) != "no" {
				t.Errorf("%s %q, %v", res.Status, got, err)
			}
			res.Body.Close()
			_ = pr.Close()
			<-stop
		}
		waitFor(t, "the requests to end", func() bool { return r.engine.Requests() == 0 })
	})
}

// So is one of a Pod that takes nothing, or nothing yet, however short the request is: whether it was read first or streams, and whether the Pod is done
// with it or wants it all the same.
func TestHTTP2PodAnswersWithoutRoom(t *testing.T) {
	pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := io.ReadFull(br, make([]byte, len(xhttp2.ClientPreface))); err != nil {
			return
		}
		p := &rawPod{t: t, c: c, fr: xhttp2.NewFramer(c, br)}
		p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		p.enc = hpack.NewEncoder(&p.text)
		_ = p.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
		sizes := map[uint32]int{}
		for {
			f, err := p.fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *xhttp2.SettingsFrame:
				if !f.IsAck() {
					_ = p.fr.WriteSettingsAck()
				}
			case *xhttp2.MetaHeadersFrame:
				done := f.PseudoValue("path") == "/done"
				p.respond(f.StreamID, "begun ", done)
				if !done {
					_ = p.fr.WriteWindowUpdate(f.StreamID, 1<<20)
				}
			case *xhttp2.DataFrame:
				sizes[f.StreamID] += len(f.Data())
				_ = p.fr.WriteWindowUpdate(0, max(f.Length, 1))
				if f.StreamEnded() {
					_ = p.fr.WriteData(f.StreamID, true, fmt.Append(nil, sizes[f.StreamID]))
				}
			}
		}
	})
	overClients(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, pod)
		for _, size := range []int{1, 1000, 5000, 20_000, 70_000, 300_000} {
			for path, want := range map[string]string{"/done": "begun ", "/wanted": fmt.Sprint("begun ", size)} {
				for _, length := range []int64{int64(size), -1} {
					q, err := http.NewRequest(http.MethodPost, base+path, bytes.NewReader(make([]byte, size)))
					if err != nil {
						t.Fatal(err)
					}
					q.ContentLength = length
					res, err := c.Do(q)
					if err != nil {
						t.Fatalf("%s, %d bytes, length %d: %v", path, size, length, err)
					}
					// A Pod that is done may be heard before the client has sent everything: then its connection ends behind the answer.
					if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
						t.Errorf("%s, %d bytes, length %d: %s %q, %v", path, size, length, res.Status, got, err)
					}
					res.Body.Close()
				}
			}
		}
		waitFor(t, "the requests to end", func() bool { return r.engine.Requests() == 0 })
	})
}

// Pods come and go under load: what is under way ends where it began, and no client of a method that can be repeated sees it.
func TestHTTP2PodsRoll(t *testing.T) {
	hello := func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		fmt.Fprint(w, "hello")
	}
	start := func() *httptest.Server { return startPod(t, router.PodH2C, hello, nil) }
	pods := []*httptest.Server{start(), start()}
	overHTTP2(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		addresses := func() []string { return []string{podAddr(pods[0]), podAddr(pods[1])} }
		r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, addresses()...)
		stop := make(chan struct{})
		var load sync.WaitGroup
		var done atomic.Int64
		for range 8 {
			load.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					res, err := c.Post(base+"/", "application/grpc", strings.NewReader("message"))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(res.Body)
					res.Body.Close()
					if err != nil || res.StatusCode != 200 || string(got) != "hello" {
						t.Errorf("%s %q %q, %v", res.Status, got, res.Header.Get("Grpc-Message"), err)
					}
					done.Add(1)
				}
			})
		}
		for i := range 10 {
			before := done.Load()
			waitFor(t, "requests", func() bool { return done.Load() > before+100 || t.Failed() })
			old := pods[i%2]
			pods[i%2] = start()
			if i%2 == 0 {
				// The endpoint leaves first, as it should.
				r.addresses(addresses()...)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := old.Config.Shutdown(ctx); err != nil {
				t.Errorf("the Pod still has requests: %v", err)
			}
			cancel()
			r.addresses(addresses()...)
		}
		close(stop)
		load.Wait()
		if done.Load() < 1000 {
			t.Errorf("only %d requests", done.Load())
		}
	})
}

// A Pod that dies takes with it only what it has: what can be repeated is, elsewhere.
func TestHTTP2PodDies(t *testing.T) {
	hello := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }
	r := newRig(t, proxy.Options{})
	var pods []*httptest.Server
	var addrs []string
	for range 3 {
		s := startPod(t, router.PodH2C, hello, nil)
		pods, addrs = append(pods, s), append(addrs, podAddr(s))
	}
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, addrs...)
	stop := make(chan struct{})
	var load sync.WaitGroup
	var done atomic.Int64
	for range 8 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if res, body := r.do("GET", "http://a.test/", nil); res.StatusCode != 200 || body != "hello" {
					t.Errorf("%s %q", res.Status, body)
				}
				done.Add(1)
			}
		})
	}
	waitFor(t, "requests", func() bool { return done.Load() > 200 })
	pods[0].Listener.Close()
	pods[0].CloseClientConnections()
	before := done.Load()
	waitFor(t, "more requests", func() bool { return done.Load() > before+500 })
	close(stop)
	load.Wait()
}

// An endpoint that leaves lets its requests end and then has no connection left.
func TestHTTP2EndpointLeaves(t *testing.T) {
	release := make(chan struct{})
	var open atomic.Int64
	pod := startPod(t, router.PodH2C, func(w http.ResponseWriter, q *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-release
		fmt.Fprint(w, "end")
	}, func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
			}
		}
	})
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, podAddr(pod))
	res, err := r.client.Get("http://a.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r.addresses()
	if res, _ := r.do("GET", "http://a.test/", nil); res.StatusCode != 503 {
		t.Errorf("without an endpoint: %s", res.Status)
	}
	close(release)
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != "end" {
		t.Errorf("%q, %v", got, err)
	}
	waitFor(t, "the connection to end", func() bool { return open.Load() == 0 })
}

// Early Hints pass, and others do not.
func TestHTTP2PodHints(t *testing.T) {
	pod := startPod(t, router.PodH2C, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(103)
		w.WriteHeader(102)
		fmt.Fprint(w, "page")
	}, nil)
	r := newRig(t, proxy.Options{})
	r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, podAddr(pod))
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	got, _ := io.ReadAll(c)
	if bytes.Count(got, []byte("HTTP/1.1 1")) != 1 || !bytes.HasPrefix(got, []byte("HTTP/1.1 103 Early Hints\r\n")) || !bytes.Contains(got, []byte("HTTP/1.1 200 OK\r\n")) {
		t.Errorf("%q", got)
	}
}

// A request whose body streams can be sent again too, as long as none of the body has come.
func TestHTTP2PodRefusesStreamingRequest(t *testing.T) {
	var refused atomic.Bool
	pod := rawPods(t, func(p *rawPod) {
		for f := p.next(); f != nil; f = p.next() {
			if refused.CompareAndSwap(false, true) {
				_ = p.fr.WriteRSTStream(f.StreamID, xhttp2.ErrCodeRefusedStream)
				continue
			}
			p.respond(f.StreamID, "begun ", false)
			got := p.body(f.StreamID)
			_ = p.fr.WriteData(f.StreamID, true, []byte(got))
		}
	})
	overClients(t, proxy.Options{}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		refused.Store(false)
		r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, pod)
		pr, pw := io.Pipe()
		res, err := c.Post(base+"/", "application/grpc", pr)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "" {
			t.Fatalf("%s %v", res.Status, res.Header)
		}
		fmt.Fprint(pw, "body")
		_ = pw.Close()
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "begun body" {
			t.Errorf("%q, %v", got, err)
		}
		if !refused.Load() {
			t.Error("nothing was refused")
		}
	})
}

// body reads the rest of a request.
func (p *rawPod) body(id uint32) string {
	var b []byte
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return string(b)
		}
		if d, ok := f.(*xhttp2.DataFrame); ok && d.StreamID == id {
			b = append(b, d.Data()...)
			if d.StreamEnded() {
				return string(b)
			}
		}
	}
}
