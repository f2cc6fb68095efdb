package http2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// pods serves the client's end of connections, and sweeps them.
type pods struct {
	t    testing.TB
	o    http2.Options
	stop chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns []*http2.ClientConn
}

func newPods(t testing.TB, o http2.Options) *pods {
	t.Helper()
	v := &pods{t: t, o: o, stop: make(chan struct{})}
	v.wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		began := time.Now()
		for {
			select {
			case <-v.stop:
				return
			case <-tick.C:
				v.mu.Lock()
				for _, c := range v.conns {
					c.Sweep(time.Since(began))
				}
				v.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		v.mu.Lock()
		for _, c := range v.conns {
			c.Close()
		}
		v.mu.Unlock()
		close(v.stop)
		v.wg.Wait()
	})
	return v
}

func (v *pods) serve(nc net.Conn) (*http2.ClientConn, <-chan error) {
	c := http2.NewClientConn(nc, v.o)
	v.mu.Lock()
	v.conns = append(v.conns, c)
	v.mu.Unlock()
	result := make(chan error, 1)
	v.wg.Go(func() {
		err := c.Serve()
		nc.Close()
		result <- err
	})
	return c, result
}

// pod is a raw peer at the Pod's end: it has read the preface and the first SETTINGS.
func (v *pods) pod(settings ...xhttp2.Setting) (*http2.ClientConn, *raw, <-chan error) {
	v.t.Helper()
	a, b := pair(v.t)
	c, result := v.serve(a)
	return c, rawPod(v.t, b, settings...), result
}

func rawPod(t testing.TB, nc net.Conn, settings ...xhttp2.Setting) *raw {
	t.Helper()
	got := make([]byte, len(xhttp2.ClientPreface))
	if _, err := io.ReadFull(nc, got); err != nil || string(got) != xhttp2.ClientPreface {
		t.Fatalf("preface %q, %v", got, err)
	}
	p := newSilent(t, nc)
	p.do(p.fr.WriteSettings(settings...))
	p.expect("SETTINGS", func(e event) bool { return e.Type == xhttp2.FrameSettings && !e.Flags.Has(xhttp2.FlagSettingsAck) })
	p.do(p.fr.WriteSettingsAck())
	p.expect("the acknowledgement", func(e event) bool { return e.Type == xhttp2.FrameSettings })
	return p
}

// respond sends the head of a response.
func (c *raw) respond(id uint32, flags xhttp2.Flags, fields ...string) {
	c.t.Helper()
	c.section(id, flags, c.block(fields...))
}

const ends = xhttp2.FlagHeadersEndStream

// request makes an Exchange with a request, as the engine has it when it goes to a Pod.
func request(t testing.TB, method, target string, fields ...string) *exchange.Exchange {
	t.Helper()
	x := exchange.New()
	r := &x.Request
	r.Version, r.Method, r.Target = exchange.HTTP2, []byte(method), []byte(target)
	r.Fields.Reset(nil)
	r.Fields.AddString("Host", "a.test")
	for i := 0; i < len(fields); i += 2 {
		r.Fields.AddString(fields[i], fields[i+1])
	}
	if reject := x.Validate(); reject != nil {
		t.Fatal(reject)
	}
	return x
}

func open(t testing.TB, c *http2.ClientConn) *http2.ClientStream {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask sends a request without a body.
func ask(t testing.TB, c *http2.ClientConn, x *exchange.Exchange) *http2.ClientStream {
	t.Helper()
	s := open(t, c)
	s.StartRequest(x)
	if s.Begun() {
		t.Error("begun before it was flushed")
	}
	if err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPodSeesRequest(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	x := request(t, "DELETE", "/a?b=c", "Accept", "x", "TE", "trailers", "Connection", "x-gone", "X-Gone", "1", "Proxy-Connection", "close",
		"Cookie", "a=b", "X-Mixed-Case", "y")
	s := ask(t, c, x)
	head := p.expect("HEADERS", func(e event) bool { return e.Type == xhttp2.FrameHeaders })
	var got []string
	for _, f := range head.fields {
		got = append(got, f.Name+": "+f.Value)
	}
	want := []string{
		":method: DELETE", ":scheme: http", ":authority: a.test", ":path: /a?b=c", "accept: x", "cookie: a=b", "x-mixed-case: y", "te: trailers",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !head.ends() || head.StreamID != 1 || !s.Begun() || s.Started() {
		t.Errorf("%v", head)
	}
	p.respond(1, 0, ":status", "200", "content-length", "5", "x-y", "z", "connection", "close")
	p.do(p.fr.WriteData(1, true, []byte("hello")))
	if err := s.ReadResponse(x); err != nil {
		t.Fatal(err)
	}
	if x.Response.Status != 200 || x.Response.Version != exchange.HTTP2 || x.Response.Body.Length() != 5 || x.Response.Fields.Has(exchange.Connection) {
		t.Errorf("%+v", x.Response)
	}
	if body, err := readAll(x.Response.Body); err != nil || string(body) != "hello" || !s.Started() || !s.Ready() {
		t.Errorf("%q, %v", body, err)
	}
	if !s.Finished() || c.Streams() != 0 {
		t.Error("the connection is not usable")
	}
	x.Release()
	if n := p.count(func(e event) bool { return e.Type == xhttp2.FrameRSTStream }); n != 0 {
		t.Error("a complete stream was reset")
	}
}

func TestPodSeesSecureScheme(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{Secure: true}).pod()
	s := ask(t, c, request(t, "GET", "/"))
	if e := p.expect("HEADERS", func(e event) bool { return e.Type == xhttp2.FrameHeaders }); e.field(":scheme") != "https" {
		t.Errorf("%v", e)
	}
	s.Close()
}

// TestInterimsAndTrailers: 1xx heads come one by one, trailers with the end of the body.
func TestInterimsAndTrailers(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	x := request(t, "GET", "/")
	s := ask(t, c, x)
	p.respond(1, 0, ":status", "100")
	p.respond(1, 0, ":status", "103", "link", "</a>")
	p.respond(1, 0, ":status", "200")
	p.do(p.fr.WriteData(1, false, []byte("x")))
	p.respond(1, ends, "grpc-status", "0", "x_y", "kept", "content-type", "dropped")
	for _, want := range []int{100, 103, 200} {
		if err := s.ReadResponse(x); err != nil || x.Response.Status != want {
			t.Fatalf("%d, %v; want %d", x.Response.Status, err, want)
		}
		if (want < 200) != (x.Response.Body == nil) {
			t.Errorf("%d: body %v", want, x.Response.Body)
		}
	}
	if body, err := readAll(x.Response.Body); err != nil || string(body) != "x" || x.Response.Body.Length() != -1 {
		t.Errorf("%q, %v", body, err)
	}
	var got []string
	for i := range x.Response.Trailers.Len() {
		_, name, value, _ := x.Response.Trailers.At(i)
		got = append(got, string(name)+"="+string(value))
	}
	if diff := cmp.Diff([]string{"grpc-status=0", "x_y=kept"}, got); diff != "" {
		t.Error(diff)
	}
	s.Close()
}

// TestRequestBodyAndTrailers: the body as it comes, its length held to, the trailers behind it.
func TestRequestBodyAndTrailers(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	x := request(t, "POST", "/", "Content-Length", "10")
	x.Request.Body = lengthOf(10)
	s := open(t, c)
	s.StartRequest(x)
	for _, piece := range []string{"01234", "56789"} {
		if err := s.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Write([]byte("x")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("%v", err)
	}
	x.Request.Trailers.AddString("X-Sum", "10")
	x.Request.Trailers.AddString("Authorization", "no")
	if err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	head, body, trailers := p.answer(1)
	if head.field("content-length") != "10" || string(body) != "0123456789" || len(trailers.fields) != 1 || trailers.field("x-sum") != "10" {
		t.Errorf("%v %q %v", head, body, trailers)
	}
	s.Close()
	short := open(t, c)
	short.StartRequest(x)
	_ = short.Write([]byte("0123"))
	if err := short.Finish(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	short.Close()
}

type lengthOf int64

func (lengthOf) Next() ([]byte, error) { return nil, io.EOF }
func (n lengthOf) Length() int64       { return int64(n) }

// TestInvalidResponses: what is no HTTP, or breaks its framing, is told from a Pod that fails.
func TestInvalidResponses(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("v", 10_000)
	for name, send := range map[string]func(p *raw){
		"no status":            func(p *raw) { p.respond(1, ends, "x", "y") },
		"empty head":           func(p *raw) { p.respond(1, ends) },
		"status of two digits": func(p *raw) { p.respond(1, ends, ":status", "20") },
		"status of letters":    func(p *raw) { p.respond(1, ends, ":status", "2xx") },
		"two statuses":         func(p *raw) { p.respond(1, ends, ":status", "200", ":status", "200") },
		"101":                  func(p *raw) { p.respond(1, 0, ":status", "101") },
		"other pseudo":         func(p *raw) { p.respond(1, ends, ":status", "200", ":path", "/") },
		"upper-case name":      func(p *raw) { p.respond(1, ends, ":status", "200", "X", "y") },
		"newline in value":     func(p *raw) { p.respond(1, ends, ":status", "200", "x", "a\r\nb") },
		"two lengths":          func(p *raw) { p.respond(1, ends, ":status", "200", "content-length", "0", "content-length", "0") },
		"length without body":  func(p *raw) { p.respond(1, ends, ":status", "200", "content-length", "5") },
		"interim at the end":   func(p *raw) { p.respond(1, ends, ":status", "100") },
		"body first":           func(p *raw) { p.do(p.fr.WriteData(1, true, []byte("x"))) },
		"too large": func(p *raw) {
			p.respond(1, ends, with([]string{":status", "200"}, "a", large, "b", large, "c", large, "d", large, "e", large, "f", large, "g", large)...)
		},
		"too many fields": func(p *raw) {
			p.respond(1, ends, append([]string{":status", "200"}, strings.Split(strings.Repeat("a,b,", 256)+"a,b", ",")...)...)
		},
		"endless interims": func(p *raw) {
			for range 20 {
				p.respond(1, 0, ":status", "103")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p, _ := newPods(t, http2.Options{}).pod()
			x := request(t, "GET", "/")
			s := ask(t, c, x)
			send(p)
			err := s.ReadResponse(x)
			for err == nil && x.Response.Status < 200 {
				err = s.ReadResponse(x)
			}
			if !http2.IsInvalid(err) {
				t.Errorf("%d, %v", x.Response.Status, err)
			}
			p.expect("RST_STREAM", func(e event) bool { return e.Type == xhttp2.FrameRSTStream && e.code == xhttp2.ErrCodeProtocol })
			s.Close()
			// Other streams have not suffered.
			other := ask(t, c, request(t, "GET", "/"))
			p.respond(3, ends, ":status", "204")
			if err := other.ReadResponse(x); err != nil || x.Response.Status != 204 {
				t.Errorf("%d, %v", x.Response.Status, err)
			}
			other.Close()
		})
	}
}

// TestBrokenBodies: a body that ends otherwise than it should is an error.
func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]struct {
		send func(p *raw)
		want error
	}{
		"too short":       {func(p *raw) { p.do(p.fr.WriteData(1, true, []byte("1234"))) }, http2.ErrMalformed},
		"too long":        {func(p *raw) { p.do(p.fr.WriteData(1, false, []byte("123456"))) }, http2.ErrMalformed},
		"reset":           {func(p *raw) { p.do(p.fr.WriteRSTStream(1, xhttp2.ErrCodeInternal)) }, http2.ErrReset},
		"end":             {func(p *raw) { p.nc.Close() }, http2.ErrConnection},
		"second head":     {func(p *raw) { p.respond(1, 0, ":status", "200") }, nil},
		"pseudo trailers": {func(p *raw) { p.respond(1, ends, ":status", "200") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p, _ := newPods(t, http2.Options{}).pod()
			x := request(t, "GET", "/")
			s := ask(t, c, x)
			p.respond(1, 0, ":status", "200", "content-length", "5")
			if err := s.ReadResponse(x); err != nil {
				t.Fatal(err)
			}
			kind.send(p)
			_, err := readAll(x.Response.Body)
			if kind.want != nil && !errors.Is(err, kind.want) || kind.want == nil && !http2.IsInvalid(err) {
				t.Errorf("%v", err)
			}
			s.Close()
		})
	}
}

// TestHeadsWithoutBody: answers to HEAD, 204 and 304 have none, whatever their length says.
func TestHeadsWithoutBody(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	id := uint32(1)
	for _, kind := range [][2]string{{"HEAD", "200"}, {"GET", "304"}, {"GET", "204"}} {
		x := request(t, kind[0], "/")
		s := ask(t, c, x)
		p.respond(id, ends, ":status", kind[1], "content-length", "5")
		if err := s.ReadResponse(x); err != nil || x.Response.Body != nil || !s.Ready() {
			t.Errorf("%v: %v", kind, err)
		}
		if x.Response.Fields.Has(exchange.ContentLength) == (kind[1] == "204") {
			t.Errorf("%v: content-length", kind)
		}
		s.Close()
		id += 2
	}
}

// TestRefused: a request that was certainly not processed is told from one that may have been.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]struct {
		send    func(p *raw)
		refused bool
	}{
		"refused":      {func(p *raw) { p.do(p.fr.WriteRSTStream(3, xhttp2.ErrCodeRefusedStream)) }, true},
		"above goaway": {func(p *raw) { p.do(p.fr.WriteGoAway(1, xhttp2.ErrCodeNo, nil)) }, true},
		"cancelled":    {func(p *raw) { p.do(p.fr.WriteRSTStream(3, xhttp2.ErrCodeCancel)) }, false},
		"ended":        {func(p *raw) { p.nc.Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p, _ := newPods(t, http2.Options{}).pod()
			first, x := request(t, "GET", "/"), request(t, "GET", "/")
			one, two := ask(t, c, first), ask(t, c, x)
			p.sync()
			kind.send(p)
			err := two.ReadResponse(x)
			if err == nil || two.Refused(err) != kind.refused || two.Started() {
				t.Errorf("%v, refused %v", err, two.Refused(err))
			}
			two.Close()
			if name == "above goaway" {
				if _, err := c.Open(); !errors.Is(err, http2.ErrLeaving) || c.Usable() || c.Room() != 0 {
					t.Errorf("Open: %v", err)
				}
				p.respond(1, ends, ":status", "200")
				if err := one.ReadResponse(first); err != nil {
					t.Error(err)
				}
			}
			one.Close()
		})
	}
}

// TestPodLimit: no more streams than the Pod allows, and again as many when they have ended.
func TestPodLimit(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 2})
	x := request(t, "GET", "/")
	one, two := open(t, c), ask(t, c, x)
	if _, err := c.Open(); !errors.Is(err, http2.ErrFull) || c.Room() != 0 || c.Streams() != 2 || !c.Usable() {
		t.Errorf("%v, room %d, %d streams", err, c.Room(), c.Streams())
	}
	one.Close()
	p.respond(1, ends, ":status", "200")
	if err := two.ReadResponse(x); err != nil {
		t.Error(err)
	}
	if c.Room() != 2 {
		t.Errorf("room %d", c.Room())
	}
	two.Close()
}

// TestSlowClientHoldsPodBack: a client that does not take an answer makes the Pod wait, and nobody else.
func TestSlowClientHoldsPodBack(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	sent := newSender(p)
	var slow []*http2.ClientStream
	x := request(t, "GET", "/")
	for i := range 40 {
		id := uint32(1 + 2*i)
		s := ask(t, c, x)
		slow = append(slow, s)
		p.respond(id, 0, ":status", "200")
		if err := s.ReadResponse(x); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			sent.fill(id)
			p.sync()
		}
		if sent.sent[id] != 64<<10 {
			t.Fatalf("stream %d: %d bytes were accepted", id, sent.sent[id])
		}
	}
	quick := ask(t, c, x)
	p.respond(81, 0, ":status", "200")
	p.do(p.fr.WriteData(81, true, []byte("quick")))
	if err := quick.ReadResponse(x); err != nil {
		t.Fatal(err)
	}
	if body, err := readAll(x.Response.Body); err != nil || string(body) != "quick" {
		t.Errorf("%q, %v", body, err)
	}
	quick.Close()
	for _, s := range slow {
		s.Close()
	}
}

// TestCancel: the Pod learns that nobody waits, and what it still sends is ignored.
func TestCancel(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *http2.ClientStream){
		"cancel": func(s *http2.ClientStream) { s.Cancel(); s.Cancel(); s.Close() },
		"close":  func(s *http2.ClientStream) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p, _ := newPods(t, http2.Options{}).pod()
			x := request(t, "GET", "/")
			s := ask(t, c, x)
			p.respond(1, 0, ":status", "200")
			if err := s.ReadResponse(x); err != nil {
				t.Fatal(err)
			}
			end(s)
			if code := p.expect("RST_STREAM", func(e event) bool { return e.Type == xhttp2.FrameRSTStream }).code; code != xhttp2.ErrCodeCancel {
				t.Errorf("code %v", code)
			}
			p.do(p.fr.WriteData(1, false, make([]byte, 10_000)))
			p.respond(1, ends, "late", "x")
			p.sync()
			if c.Streams() != 0 || !c.Usable() {
				t.Errorf("%d streams", c.Streams())
			}
		})
	}
}

// TestClientInterrupts: waits of both halves end when another goroutine says so.
func TestClientInterrupts(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	x := request(t, "POST", "/")
	x.Request.Body = lengthOf(-1)
	s := open(t, c)
	s.StartRequest(x)
	written := make(chan error, 1)
	go func() { written <- s.Write(make([]byte, 1<<20)) }()
	p.wait("a full window", func(events []event, _ bool) bool { return sum(events, 1) == 65535 })
	s.InterruptWrite()
	if err := <-written; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write: %v", err)
	}
	time.AfterFunc(5*time.Millisecond, s.InterruptRead)
	if err := s.ReadResponse(x); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ReadResponse: %v", err)
	}
	s.ResumeRead()
	p.respond(1, 0, ":status", "200")
	if err := s.ReadResponse(x); err != nil {
		t.Error(err)
	}
	time.AfterFunc(5*time.Millisecond, s.Cancel)
	if _, err := x.Response.Body.Next(); !errors.Is(err, http2.ErrEnded) {
		t.Errorf("Next: %v", err)
	}
	s.Close()
}

// TestStreamThatWasNeverSent: a request that was given up before a byte of it left does not wait for an answer, and the Pod never hears of it.
func TestStreamThatWasNeverSent(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	x := request(t, "GET", "/")
	unsent := open(t, c)
	unsent.StartRequest(x)
	unsent.Cancel()
	if err := unsent.ReadResponse(x); !errors.Is(err, http2.ErrEnded) {
		t.Errorf("%v", err)
	}
	unsent.Close()
	p.sync()
	if n := p.count(func(e event) bool { return e.Type == xhttp2.FrameRSTStream }); n != 0 {
		t.Error("RST_STREAM for a stream that never was")
	}
	waiting := open(t, c)
	waiting.StartRequest(x)
	p.nc.Close()
	if err := waiting.ReadResponse(x); !errors.Is(err, http2.ErrConnection) {
		t.Errorf("%v", err)
	}
	waiting.Close()
	if c.Streams() != 0 {
		t.Errorf("%d streams", c.Streams())
	}
}

// TestEarlyAnswerOfPod: a Pod that answers and stops the upload is believed.
func TestEarlyAnswerOfPod(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	x := request(t, "POST", "/")
	x.Request.Body = lengthOf(-1)
	s := open(t, c)
	s.StartRequest(x)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	p.respond(1, 0, ":status", "413")
	p.do(p.fr.WriteData(1, true, []byte("too large")))
	p.do(p.fr.WriteRSTStream(1, xhttp2.ErrCodeNo))
	p.sync()
	var err error
	for err == nil {
		err = s.Write(make([]byte, 10_000))
	}
	if !errors.Is(err, http2.ErrReset) {
		t.Errorf("Write: %v", err)
	}
	if err := s.ReadResponse(x); err != nil || x.Response.Status != 413 {
		t.Errorf("%d, %v", x.Response.Status, err)
	}
	if body, err := readAll(x.Response.Body); err != nil || string(body) != "too large" {
		t.Errorf("%q, %v", body, err)
	}
	if !s.Finished() {
		t.Error("the connection is not usable")
	}
}

// TestShutdownOfClient: requests under way are answered, new ones go elsewhere, and then the connection ends in order.
func TestShutdownOfClient(t *testing.T) {
	t.Parallel()
	c, p, result := newPods(t, http2.Options{}).pod()
	x := request(t, "GET", "/")
	s := ask(t, c, x)
	c.Shutdown()
	if _, err := c.Open(); !errors.Is(err, http2.ErrLeaving) {
		t.Errorf("%v", err)
	}
	p.respond(1, ends, ":status", "200")
	if err := s.ReadResponse(x); err != nil {
		t.Error(err)
	}
	if s.Finished() {
		t.Error("usable after all")
	}
	e := p.expect("GOAWAY", func(e event) bool { return e.Type == xhttp2.FrameGoAway })
	if e.code != xhttp2.ErrCodeNo || e.last != 0 {
		t.Errorf("%v", e)
	}
	p.ended()
	p.nc.Close()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestBadPods: what is no HTTP/2 ends the connection, and its streams.
func TestBadPods(t *testing.T) {
	t.Parallel()
	for name, said := range map[string][]byte{
		"HTTP/1.1":     []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
		"no SETTINGS":  {0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8},
		"push":         append(settingsFrame, 0, 0, 5, 5, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0x82),
		"even stream":  append(settingsFrame, 0, 0, 1, 1, 5, 0, 0, 0, 2, 0x88),
		"idle stream":  append(settingsFrame, 0, 0, 1, 1, 5, 0, 0, 0, 9, 0x88),
		"bad HPACK":    append(settingsFrame, 0, 0, 1, 1, 5, 0, 0, 0, 1, 0xff),
		"nothing more": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			c, result := newPods(t, http2.Options{}).serve(a)
			x := request(t, "GET", "/")
			s := ask(t, c, x)
			if _, err := b.Write(said); err != nil {
				t.Fatal(err)
			}
			if tcp, ok := b.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			if err := s.ReadResponse(x); !errors.Is(err, http2.ErrConnection) || s.Refused(err) {
				t.Errorf("%v", err)
			}
			s.Close()
			if err := <-result; err == nil && name != "nothing more" {
				t.Error("an orderly end")
			}
			if _, err := c.Open(); !errors.Is(err, http2.ErrLeaving) {
				t.Errorf("%v", err)
			}
			b.Close()
		})
	}
}

var settingsFrame = []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}

// TestManyRequestsShare: one connection, many at a time, with bodies both ways, to x/net's server.
func TestManyRequestsShare(t *testing.T) {
	t.Parallel()
	addr := goServer(t)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newPods(t, http2.Options{}).serve(nc)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			for j := range 10 {
				body := bytes.Repeat([]byte{byte('a' + j)}, i*j*300)
				x := request(t, "POST", "/", "TE", "trailers")
				x.Request.Body = lengthOf(-1)
				s := open(t, c)
				s.StartRequest(x)
				var both sync.WaitGroup
				both.Go(func() {
					x.Request.Trailers.AddString("X-Up", "1")
					if err := s.Write(body); err != nil {
						t.Error(err)
					}
					if err := s.Finish(); err != nil {
						t.Error(err)
					}
				})
				if err := s.ReadResponse(x); err != nil {
					t.Error(err)
				} else if got, err := readAll(x.Response.Body); err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
				}
				both.Wait()
				if v, _ := x.Response.Trailers.Lookup("x-down"); string(v) != "1" {
					t.Errorf("trailers %q", v)
				}
				s.Close()
				x.Release()
			}
		})
	}
	all.Wait()
	if c.Streams() != 0 {
		t.Errorf("%d streams", c.Streams())
	}
}

// A POST ends with DATA even where it has no body, and other methods with their heads.
func TestPodSeesEndOfRequest(t *testing.T) {
	t.Parallel()
	c, p, _ := newPods(t, http2.Options{}).pod()
	for i, method := range []string{"GET", "POST", "DELETE"} {
		s := ask(t, c, request(t, method, "/"))
		id := uint32(2*i + 1)
		p.expect(method, func(e event) bool {
			return e.Type == xhttp2.FrameHeaders && e.StreamID == id && e.Flags.Has(ends) == (method != "POST")
		})
		if method == "POST" {
			p.expect("the end", func(e event) bool {
				return e.Type == xhttp2.FrameData && e.StreamID == id && e.Length == 0 && e.Flags.Has(xhttp2.FlagDataEndStream)
			})
		}
		s.Close()
	}
}

// Greeted tells when the Pod has said how many streams it allows, and that it never will.
func TestPodGreets(t *testing.T) {
	t.Parallel()
	v := newPods(t, http2.Options{})
	c, _, _ := v.pod(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 7})
	<-c.Greeted()
	if c.Limit() != 7 || !c.Usable() {
		t.Errorf("limit %d, usable %v", c.Limit(), c.Usable())
	}
	a, b := pair(t)
	c, _ = v.serve(a)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	<-c.Greeted()
	if c.Usable() {
		t.Error("a connection that has ended is usable")
	}
}
