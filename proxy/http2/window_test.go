package http2_test

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// sender sends DATA as far as the windows that a raw client was given allow.
type sender struct {
	c            *raw
	conn, stream map[uint32]int // what the peer has allowed in all
	sent         map[uint32]int
	all          int
}

func newSender(c *raw) *sender {
	return &sender{c: c, conn: map[uint32]int{}, stream: map[uint32]int{}, sent: map[uint32]int{}}
}

// allowed is what may still be sent on a stream.
func (s *sender) allowed(id uint32) int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	conn, stream := 65535-s.all, 64<<10-s.sent[id]
	for _, e := range s.c.events {
		if e.Type == xhttp2.FrameWindowUpdate {
			switch e.StreamID {
			case 0:
				conn += int(e.incr)
			case id:
				stream += int(e.incr)
			}
		}
	}
	return min(conn, stream)
}

// fill sends until nothing is allowed any more.
func (s *sender) fill(id uint32) {
	s.c.t.Helper()
	for n := s.allowed(id); n > 0; n = s.allowed(id) {
		s.data(id, min(n, 16<<10))
	}
}

func (s *sender) data(id uint32, n int) {
	s.c.t.Helper()
	s.c.do(s.c.fr.WriteData(id, false, make([]byte, n)))
	s.sent[id] += n
	s.all += n
}

// TestUploadBackpressure: what a Pod does not pull is not accepted: 64 KiB of a stream, 1 MiB of a connection.
func TestUploadBackpressure(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		<-release
		n, err := readAll(x.Request.Body)
		if err != nil {
			t.Error(err)
		}
		x.Answer(200, exchange.NoReason, "")
		x.Response.Fields.AddString("Echo-Length", strconv.Itoa(len(n)))
		reply(s, x)
	})
	s := newSender(c)
	for range 20 {
		id := c.open(post...)
		s.fill(id)
		c.sync()
		s.fill(id)
		if s.sent[id] > 64<<10 {
			t.Fatalf("stream %d: %d bytes accepted", id, s.sent[id])
		}
	}
	if s.all != 1<<20 {
		t.Errorf("%d bytes accepted on the connection, want 1 MiB", s.all)
	}
	close(release)
	for id := uint32(1); id < 40; id += 2 {
		c.do(c.fr.WriteData(id, true, nil))
		if head, _, _ := c.answer(id); head.field("echo-length") != strconv.Itoa(s.sent[id]) {
			t.Errorf("%d bytes sent, %v", s.sent[id], head)
		}
	}
}

// TestWindowGrowsWhileItIsDrained: a Pod that keeps up is sent more at a time, up to 1 MiB; one that stops is sent no more than that.
func TestWindowGrowsWhileItIsDrained(t *testing.T) {
	t.Parallel()
	for name, grows := range map[string]bool{"memory": true, "no memory": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var pulled, stop atomic.Int64
			stop.Store(1 << 62)
			release := make(chan struct{})
			v := newServer(t, http2.Options{Grow: func() bool { return grows }}, func(s *http2.Stream, x *exchange.Exchange) {
				for pulled.Load() < stop.Load() {
					p, err := x.Request.Body.Next()
					if err != nil {
						break
					}
					pulled.Add(int64(len(p)))
				}
				<-release
				hello(s, x)
			})
			c := dialTo(t, v)
			s := newSender(c)
			id := c.open(post...)
			for s.sent[id] < 8<<20 {
				s.fill(id)
				// Everything that was sent is pulled before the next round.
				want := int64(s.sent[id])
				c.sync()
				for pulled.Load() < want {
					c.sync()
				}
			}
			stop.Store(pulled.Load() + 1)
			before := s.sent[id]
			for range 3 {
				s.fill(id)
				c.sync()
			}
			rest := s.sent[id] - before
			t.Logf("window at the end: %d KiB", rest>>10)
			if grows && (rest < 512<<10 || rest > 1<<20+64<<10) {
				t.Errorf("the window has grown to %d", rest)
			}
			if !grows && rest > 64<<10+16<<10 {
				t.Errorf("the window has grown to %d without leave", rest)
			}
			close(release)
			c.answer(id)
		})
	}
}

// TestPaddingCounts: padding uses windows up, and is given back without being pulled.
func TestPaddingCounts(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		<-release
		echo(s, x)
	})
	id := c.open(post...)
	pad := make([]byte, 255)
	// 512 bytes of data, and eight windows' worth of padding.
	for range 512 {
		for range 3 {
			c.do(c.fr.WriteDataPadded(id, false, nil, pad))
		}
		c.sync()
		c.do(c.fr.WriteDataPadded(id, false, []byte("x"), pad))
	}
	close(release)
	c.do(c.fr.WriteData(id, true, nil))
	if _, body, _ := c.answer(id); len(body) != 512 {
		t.Errorf("%d bytes", len(body))
	}
}

// TestWindowExceeded: more than was allowed is a stream's error, or the connection's.
func TestWindowExceeded(t *testing.T) {
	t.Parallel()
	// Nobody pulls while the client sends.
	run := func(s *http2.Stream, _ *exchange.Exchange) {
		gone := make(chan struct{})
		s.OnGone(func() { close(gone) })
		<-gone
	}
	t.Run("stream", func(t *testing.T) {
		c := dial(t, run)
		id := c.open(post...)
		for range 4 {
			c.do(c.fr.WriteData(id, false, make([]byte, 16<<10)))
		}
		c.sync()
		c.do(c.fr.WriteData(id, false, []byte("x")))
		if code := c.reset(id); code != xhttp2.ErrCodeFlowControl {
			t.Errorf("code %v", code)
		}
	})
	t.Run("connection", func(t *testing.T) {
		c := dial(t, run)
		for range 16 {
			id := c.open(post...)
			for range 4 {
				c.do(c.fr.WriteData(id, false, make([]byte, 16<<10)))
			}
		}
		c.do(c.fr.WriteData(c.open(post...), false, []byte("x")))
		if e := c.expect("GOAWAY", func(e event) bool { return e.Type == xhttp2.FrameGoAway }); e.code != xhttp2.ErrCodeFlowControl {
			t.Errorf("%v", e)
		}
		c.nc.Close()
	})
}

// bulk answers with n bytes.
func bulk(n int) program {
	return func(s *http2.Stream, x *exchange.Exchange) {
		x.Answer(200, exchange.NoReason, strings.Repeat("0123456789abcdef", n/16))
		reply(s, x)
	}
}

// received is the number of DATA bytes on a stream so far.
func (c *raw) received(id uint32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, e := range c.events {
		if e.StreamID == id {
			n += len(e.data)
		}
	}
	return n
}

// TestDownloadHonoursWindows: not a byte more than the client allows is sent, on the stream, on the connection, and after it changed its mind.
func TestDownloadHonoursWindows(t *testing.T) {
	t.Parallel()
	const size = 256 << 10
	c := dial(t, bulk(size), xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1000})
	settled := func(id uint32, want int) {
		t.Helper()
		c.wait("DATA", func([]event, bool) bool { return sum(c.events, id) >= want })
		c.sync()
		if n := c.received(id); n != want {
			t.Fatalf("stream %d: %d bytes, want %d", id, n, want)
		}
	}
	id := c.get(get...)
	settled(id, 1000)
	c.do(c.fr.WriteWindowUpdate(id, 1))
	settled(id, 1001)
	// The initial window counts from the beginning: a smaller one leaves less than nothing.
	c.do(c.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0}))
	c.do(c.fr.WriteWindowUpdate(id, 1000))
	settled(id, 1001)
	c.do(c.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20}))
	settled(id, 65535)
	other := c.get(get...)
	c.sync()
	if c.received(other) != 0 {
		t.Error("DATA beyond the connection's window")
	}
	c.do(c.fr.WriteWindowUpdate(0, 2*size-65535))
	for _, id := range []uint32{id, other} {
		if _, body, _ := c.answer(id); len(body) != size {
			t.Errorf("stream %d: %d bytes", id, len(body))
		}
	}
}

func sum(events []event, id uint32) (n int) {
	for _, e := range events {
		if e.StreamID == id {
			n += len(e.data)
		}
	}
	return n
}

// TestDownloadsShare: streams that send at the same time take turns, and a short answer overtakes them.
func TestDownloadsShare(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		if string(x.Request.Target) == "/short" {
			hello(s, x)
			return
		}
		bulk(size)(s, x)
	}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1})
	ids := []uint32{c.get(get...), c.get(get...), c.get(get...)}
	total := func(events []event) int { return sum(events, ids[0]) + sum(events, ids[1]) + sum(events, ids[2]) }
	c.wait("DATA", func(events []event, _ bool) bool { return total(events) == 3 })
	c.do(c.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 30}))
	c.do(c.fr.WriteWindowUpdate(0, 1<<20))
	c.wait("DATA", func(events []event, _ bool) bool { return total(events) == 1<<20+65535 })
	for _, id := range ids {
		if n := c.received(id); n < 128<<10 {
			t.Errorf("stream %d got %d bytes of the first MiB", id, n)
		}
	}
	c.do(c.fr.WriteWindowUpdate(0, 1<<30))
	short := c.get(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/short")
	c.answer(short)
	if n := c.received(ids[0]) + c.received(ids[1]) + c.received(ids[2]); n == 3*size {
		t.Error("a short answer waited for the end of long ones")
	}
	for _, id := range ids {
		if _, body, _ := c.answer(id); len(body) != size {
			t.Errorf("stream %d: %d bytes", id, len(body))
		}
	}
}

// TestHeadsPassAShutWindow: with the connection's window shut, heads and ends of streams without DATA are sent.
func TestHeadsPassAShutWindow(t *testing.T) {
	t.Parallel()
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		if string(x.Request.Target) == "/" {
			bulk(128<<10)(s, x)
			return
		}
		x.Answer(404, exchange.NoRoute, "")
		reply(s, x)
	}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 30})
	long := c.get(get...)
	c.wait("DATA", func(events []event, _ bool) bool { return sum(events, long) == 65535 })
	for range 5 {
		head, _, _ := c.answer(c.get(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/x"))
		if head.field(":status") != "404" {
			t.Errorf("%v", head)
		}
	}
}

// TestUploadWhileAnswering: both halves of a stream are used at the same time, by two goroutines, as for gRPC.
func TestUploadWhileAnswering(t *testing.T) {
	t.Parallel()
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		pieces := make(chan []byte)
		var both sync.WaitGroup
		both.Go(func() {
			defer close(pieces)
			for {
				p, err := x.Request.Body.Next()
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				pieces <- bytes.Clone(p)
			}
		})
		x.Response.Status = 200
		x.Response.Body = unknownLength{}
		s.StartResponse(x, http2.KeepOpen)
		if err := s.Flush(); err != nil {
			t.Error(err)
		}
		for p := range pieces {
			if s.Write(p) != nil || s.Flush() != nil {
				t.Error("write failed")
			}
		}
		both.Wait()
		_ = s.Finish(x)
	})
	id := c.open(post...)
	for i := range 50 {
		word := strings.Repeat("w", i*10+1)
		c.do(c.fr.WriteData(id, false, []byte(word)))
		c.wait("the echo", func(events []event, _ bool) bool {
			n := 0
			for j := range i + 1 {
				n += j*10 + 1
			}
			return sum(events, id) == n
		})
	}
	c.do(c.fr.WriteData(id, true, nil))
	c.answer(id)
}
