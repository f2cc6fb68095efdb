package http1

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// script is a connection that is no plain socket. Each read returns one piece, the last together with end.
type script struct {
	net.Conn
	pieces []string
	end    error
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, s.end
	}
	n := copy(b, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] != "" {
		return n, nil
	}
	if s.pieces = s.pieces[1:]; len(s.pieces) == 0 {
		return n, s.end
	}
	return n, nil
}

func (s *script) Write(b []byte) (int, error) { return len(b), nil }

func pull(b exchange.Body) (string, error) {
	var all []byte
	for {
		p, err := b.Next()
		all = append(all, p...)
		if errors.Is(err, io.EOF) {
			return string(all), nil
		}
		if err != nil {
			return string(all), err
		}
	}
}

// TestReadThatAlsoEnds: an io.Reader may return its last bytes together with io.EOF, and crypto/tls does so when close_notify lies
// behind them. They count.
func TestReadThatAlsoEnds(t *testing.T) {
	for name, in := range map[string][]string{
		"head":          {"G", "ET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		"last of head":  {"GET / HTTP/1.1\r\nHost: a\r\n\r", "\n"},
		"body":          {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "hello"},
		"large body":    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n", strings.Repeat("x", 20_000)},
		"chunks":        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
		"chunk's end":   {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r", "\n"},
		"all, at once":  {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"},
		"one byte more": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell", "o"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewServer(&script{pieces: in, end: io.EOF}, Limits{}, new(Clock))
			defer s.Close()
			x := exchange.New()
			defer x.Release()
			if err := s.Await(); err != nil {
				t.Fatalf("await: %v", err)
			}
			if err := s.ReadRequest(x); err != nil {
				t.Fatalf("head: %v", err)
			}
			if x.Request.Body == nil {
				return
			}
			if _, err := pull(x.Request.Body); err != nil || !s.BodyDone() {
				t.Errorf("body: %v", err)
			}
		})
	}
	t.Run("answer until close", func(t *testing.T) {
		c := NewClient(&script{pieces: []string{"HTTP/1.1 200 OK\r\n\r\n", "hello"}, end: io.EOF}, Limits{})
		defer c.Close()
		x := exchange.New()
		defer x.Release()
		if err := c.ReadResponse(x); err != nil {
			t.Fatal(err)
		}
		if got, err := pull(x.Response.Body); got != "hello" || err != nil {
			t.Errorf("%q %v", got, err)
		}
	})
}

// holding is a connection that keeps what is written while hold is set.
type holding struct {
	net.Conn
	hold bool
	kept []byte
}

func (h *holding) Write(b []byte) (int, error) {
	if !h.hold {
		return h.Conn.Write(b)
	}
	h.kept = append(h.kept, b...)
	return len(b), nil
}

// TestCloseNotifyBehindBody is the same with the real crypto/tls: the body's record and close_notify arrive together.
func TestCloseNotifyBehindBody(t *testing.T) {
	h := httptest.NewUnstartedServer(nil)
	h.StartTLS()
	certificates := h.TLS.Certificates
	h.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		sent <- sendHeld(l.Addr().String(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "hello")
	}()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	s := NewServer(tls.Server(nc, &tls.Config{Certificates: certificates}), Limits{}, new(Clock))
	defer s.Close()
	x := exchange.New()
	defer x.Release()
	if err := s.ReadRequest(x); err != nil {
		t.Fatal(err)
	}
	if got, err := pull(x.Request.Body); got != "hello" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	nc.Close()
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// sendHeld sends head and body over TLS, the body in one piece with what closes the connection.
func sendHeld(addr, head, body string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	h := &holding{Conn: nc}
	// TLS 1.3 hides the type of the last record until it is read.
	tc := tls.Client(h, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if _, err := io.WriteString(tc, head); err != nil {
		return err
	}
	h.hold = true
	if _, err := io.WriteString(tc, body); err != nil {
		return err
	}
	if err := tc.CloseWrite(); err != nil {
		return err
	}
	// CloseWrite leaves a deadline in the past.
	if err := nc.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	if _, err := nc.Write(h.kept); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, nc) // until the server has done
	return nil
}

// scribble writes over the buffers that are free. What an Exchange still refers to must not be among them.
func scribble() {
	var taken []*buffer
	for range 64 {
		b := buffers.Get().(*buffer)
		for i := range b.b {
			b.b[i] = '!'
		}
		taken = append(taken, b)
	}
	for _, b := range taken {
		buffers.Put(b)
	}
}

// headOf returns a request head of n bytes in all.
func headOf(n int, framing string) string {
	const fixed = "HEAD /path HTTP/1.1\r\nHost: a\r\nUser-Agent: test\r\n"
	pad := n - len(fixed) - len("X: \r\n") - len(framing) - len("\r\n\r\n")
	return fixed + "X: " + strings.Repeat("x", pad) + "\r\n" + framing + "\r\n\r\n"
}

// TestHeadOutlivesItsBuffer: a body that needs more room than a long head has left moves to another buffer. The first must not be given
// to another connection while the head in it is still in use: the method decides whether the answer has a body.
func TestHeadOutlivesItsBuffer(t *testing.T) {
	const length, chunked = "Content-Length: 5", "Transfer-Encoding: chunked"
	for name, in := range map[string][]string{
		"no room for a body":     {headOf(bufferSize, length), "hello"},
		"room for part of it":    {headOf(bufferSize-2, length), "hello"},
		"no room for a chunk":    {headOf(bufferSize, chunked), "5\r\nhello\r\n0\r\n\r\n"},
		"chunk line in pieces":   {headOf(bufferSize-3, chunked), "5;ab", "c\r\nhello\r\n0\r\n\r\n"},
		"trailer line in pieces": {headOf(bufferSize-40, chunked), "5\r\nhello\r\n0\r\n", strings.Repeat("t", 30), strings.Repeat("t", 200) + ": v\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 { // under the race detector sync.Pool forgets some
				s := NewServer(&script{pieces: append([]string(nil), in...), end: io.EOF}, Limits{}, new(Clock))
				x := exchange.New()
				if err := s.ReadRequest(x); err != nil {
					t.Fatal(err)
				}
				if got, err := pull(x.Request.Body); got != "hello" || err != nil {
					t.Fatalf("%q %v", got, err)
				}
				scribble()
				r := &x.Request
				if string(r.Method) != "HEAD" || string(r.Target) != "/path" || string(r.Fields.Get(exchange.UserAgent)) != "test" {
					t.Fatalf("%q %q %q", r.Method, r.Target, r.Fields.Get(exchange.UserAgent))
				}
				s.Close()
				x.Release()
			}
		})
	}
}

// TestUnfinishedHeadOutlivesItsBuffer: what has been parsed of a head that grows, and then does not end, is logged.
func TestUnfinishedHeadOutlivesItsBuffer(t *testing.T) {
	silent := errors.New("silent")
	for range 10 {
		in := []string{headOf(bufferSize+100, "X: y")[:bufferSize]}
		s := NewServer(&script{pieces: append(in, ""), end: silent}, Limits{}, new(Clock))
		x := exchange.New()
		if err := s.ReadRequest(x); !errors.Is(err, silent) {
			t.Fatal(err)
		}
		scribble()
		if got := string(x.Request.Fields.Get(exchange.UserAgent)); got != "test" {
			t.Fatalf("User-Agent is %.20q", got)
		}
		s.Close()
		x.Release()
	}
}

// TestBufferBounds feeds the most expensive messages that are accepted, and looks at what they make the codec hold: SECURITY.md allows
// 64 KiB per connection.
func TestBufferBounds(t *testing.T) {
	const bound = 64 << 10
	for name, in := range map[string][]string{
		"largest head": {"GET /" + strings.Repeat("p", 8170) + " HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 32<<10-16) + "\r\n\r\n"},
		"and a body": {
			"POST /" + strings.Repeat("p", 8170) + " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: " + strings.Repeat("x", 32<<10-36) + "\r\n\r\n", "hello",
		},
		"and trailers": {
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: " + strings.Repeat("x", 32<<10-60) + "\r\n\r\n",
			"5\r\nhello\r\n0\r\n", "Y: " + strings.Repeat("y", 8000), "\r\n\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewServer(&script{pieces: in, end: io.EOF}, Limits{}, new(Clock))
			defer s.Close()
			x := exchange.New()
			defer x.Release()
			if err := s.ReadRequest(x); err != nil {
				t.Fatal(err)
			}
			if x.Request.Body != nil {
				if _, err := pull(x.Request.Body); err != nil {
					t.Fatal(err)
				}
			}
			if n := cap(s.in.buf); n > bound {
				t.Errorf("the buffer has %d bytes, more than %d", n, bound)
			}
		})
	}
	t.Run("largest answer, and trailers", func(t *testing.T) {
		head := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: "
		head += strings.Repeat("x", 64<<10-len(head)-4) + "\r\n\r\n"
		in := []string{head, "5\r\nhello\r\n0\r\n", "Y: " + strings.Repeat("y", 8000), "\r\n\r\n"}
		c := NewClient(&script{pieces: in, end: io.EOF}, Limits{})
		defer c.Close()
		x := exchange.New()
		defer x.Release()
		if err := c.ReadResponse(x); err != nil {
			t.Fatal(err)
		}
		if got, err := pull(x.Response.Body); got != "hello" || err != nil {
			t.Fatalf("%q %v", got, err)
		}
		t.Logf("the buffer has %d bytes", cap(c.in.buf))
	})
}

// TestIdleHoldsNothing: between messages, when nothing is buffered, no buffer is held.
func TestIdleHoldsNothing(t *testing.T) {
	s := NewServer(&script{pieces: []string{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"}}, Limits{}, new(Clock))
	x := exchange.New()
	defer x.Release()
	if err := s.ReadRequest(x); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(x.Request.Body); err != nil {
		t.Fatal(err)
	}
	x.Answer(200, exchange.NoReason, "hello")
	s.StartResponse(x, exchange.KeepOpen)
	if err := s.Finish(x); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an answer without its body was finished: %v", err)
	}
	s.Next()
	if s.in.buf != nil || s.in.held != nil || s.in.bulk != nil || s.out.buf != nil || s.out.held != nil {
		t.Errorf("in %d %v %v, out %d %v", len(s.in.buf), s.in.held, s.in.bulk, cap(s.out.buf), s.out.held)
	}
}
