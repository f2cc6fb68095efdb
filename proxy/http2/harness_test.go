package http2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// TestMain runs the tests, or is the load of one.
func TestMain(m *testing.M) {
	if what := os.Getenv(loadEnv); what != "" {
		os.Exit(loadMain(what))
	}
	goleak.VerifyTestMain(m)
}

// stopped is a Clock.
type stopped struct{}

var date = []byte("Sun, 22 Nov 2026 03:22:39 GMT")

func (stopped) Date() []byte { return date }

// defaults are Options without settings.
func defaults() (o http2.Options) { return o }

// program is what a test does with the streams of a server.
type program func(s *http2.Stream, x *exchange.Exchange)

// server serves one side of connections with a program, and sweeps them.
type server struct {
	t     testing.TB
	o     http2.Options
	run   program
	start func(*http2.Stream) // begin, unless a test has its own
	stop  chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex
	conns map[*http2.Conn]net.Conn
}

func newServer(t testing.TB, o http2.Options, run program) *server {
	t.Helper()
	v := &server{t: t, o: o, run: run, stop: make(chan struct{}), conns: map[*http2.Conn]net.Conn{}}
	v.start = v.begin
	v.wg.Go(v.sweep)
	t.Cleanup(v.close)
	return v
}

func (v *server) close() {
	v.mu.Lock()
	for c := range v.conns {
		c.Close()
	}
	v.mu.Unlock()
	close(v.stop)
	v.wg.Wait()
}

func (v *server) sweep() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-v.stop:
			return
		case <-tick.C:
			v.mu.Lock()
			for c := range v.conns {
				c.Sweep(time.Since(began))
			}
			v.mu.Unlock()
		}
	}
}

// serve serves nc and returns its Conn, and a channel with what Serve returned.
func (v *server) serve(nc net.Conn) (*http2.Conn, <-chan error) { return v.serveFrom(nc, nil) }

// serveFrom is serve for a connection of which the first bytes were read already.
func (v *server) serveFrom(nc net.Conn, first []byte) (*http2.Conn, <-chan error) {
	c := http2.NewConn(nc, v.o, stopped{})
	result := make(chan error, 1)
	v.mu.Lock()
	v.conns[c] = nc
	v.mu.Unlock()
	v.wg.Go(func() {
		err := c.Serve(first, v.start)
		nc.Close()
		v.mu.Lock()
		delete(v.conns, c)
		v.mu.Unlock()
		result <- err
	})
	return c, result
}

// begin reads and validates a request as the engine does.
func (v *server) begin(s *http2.Stream) {
	x := exchange.New()
	defer x.Release()
	err := s.ReadRequest(x)
	var reject *exchange.Reject
	if err == nil {
		reject = x.Validate()
	} else if !errors.As(err, &reject) {
		s.Reset(xhttp2.ErrCodeInternal)
		return
	}
	if reject != nil {
		x.Request.Body = nil
		x.Answer(reject.Status, exchange.BadRequest, reject.Detail+"\n")
		reply(s, x)
		return
	}
	v.run(s, x)
}

// reply sends the response that x holds.
func reply(s *http2.Stream, x *exchange.Exchange) {
	s.StartResponse(x, http2.KeepOpen)
	if b := x.Response.Body; b != nil && !s.Bodyless() {
		for {
			p, err := b.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = s.Write(p)
			}
			if err != nil {
				s.Reset(xhttp2.ErrCodeInternal)
				return
			}
		}
	}
	_ = s.Finish(x)
}

// listen serves every connection to a fresh address of the loopback interface.
func (v *server) listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	v.wg.Go(func() {
		<-v.stop
		l.Close()
	})
	v.wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			v.serve(nc)
		}
	})
	return l.Addr().String()
}

// hello answers 200 and five bytes.
func hello(s *http2.Stream, x *exchange.Exchange) {
	x.Answer(200, exchange.NoReason, "hello")
	reply(s, x)
}

// echo answers with what it was sent: the head as text in fields, the body as the body, trailers as trailers.
func echo(s *http2.Stream, x *exchange.Exchange) {
	var got bytes.Buffer
	if b := x.Request.Body; b != nil {
		for {
			p, err := b.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				s.Reset(xhttp2.ErrCodeCancel)
				return
			}
			got.Write(p)
		}
	}
	x.Answer(200, exchange.NoReason, got.String())
	x.Response.Fields.Add("Echo-Method", x.Request.Method)
	x.Response.Fields.Add("Echo-Target", x.Request.Target)
	x.Response.Fields.AddString("Echo-Length", strconv.Itoa(got.Len()))
	for i := range x.Request.Trailers.Len() {
		if _, name, value, ok := x.Request.Trailers.At(i); ok {
			x.Response.Trailers.Add(string(name), value)
		}
	}
	reply(s, x)
}
