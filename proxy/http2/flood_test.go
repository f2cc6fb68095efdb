package http2_test

import (
	"bytes"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// waitGone serves until the client has gone.
func waitGone(s *http2.Stream, _ *exchange.Exchange) {
	gone := make(chan struct{})
	s.OnGone(func() { close(gone) })
	<-gone
}

// calmed waits for GOAWAY with ENHANCE_YOUR_CALM.
func (c *raw) calmed(detail string) {
	c.t.Helper()
	e := c.expect("GOAWAY", func(e event) bool { return e.Type == xhttp2.FrameGoAway })
	if e.code != xhttp2.ErrCodeEnhanceYourCalm || !strings.Contains(string(e.data), detail) {
		c.t.Errorf("%v", e)
	}
	c.nc.Close()
	c.ended()
}

// TestRapidReset: 200 streams may be reset in ten seconds, not more, unless as many were answered.
func TestRapidReset(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	a, b := pair(t)
	_, result := newServer(t, http2.Options{}, func(s *http2.Stream, x *exchange.Exchange) {
		served.Add(1)
		waitGone(s, x)
	}).serve(b)
	c := newRaw(t, a)
	for range 200 {
		c.do(c.fr.WriteRSTStream(c.get(get...), xhttp2.ErrCodeCancel))
	}
	c.sync()
	c.do(c.fr.WriteRSTStream(c.get(get...), xhttp2.ErrCodeCancel))
	c.calmed("reset")
	if code, ok := http2.CodeOf(<-result); !ok || code != xhttp2.ErrCodeEnhanceYourCalm {
		t.Errorf("code %v", code)
	}
	t.Logf("%d of 201 streams were begun", served.Load())
}

// TestResetsBesideAnswers: a client that cancels much and reads more is none of them.
func TestResetsBesideAnswers(t *testing.T) {
	t.Parallel()
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		if string(x.Request.Target) == "/" {
			hello(s, x)
			return
		}
		waitGone(s, x)
	})
	for range 300 {
		c.answer(c.get(get...))
		c.answer(c.get(get...))
		c.do(c.fr.WriteRSTStream(c.get(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/x"), xhttp2.ErrCodeCancel))
		c.drop()
	}
	c.answer(c.get(get...))
}

// drop forgets the events so far, so that long tests stay fast.
func (c *raw) drop() {
	c.mu.Lock()
	c.events = nil
	c.mu.Unlock()
}

// TestMadeYouReset: streams that the client makes us reset count as if it had reset them (CVE-2025-8671).
func TestMadeYouReset(t *testing.T) {
	t.Parallel()
	for name, provoke := range map[string]func(c *raw){
		"window": func(c *raw) { c.do(c.fr.WriteWindowUpdate(c.get(get...), 1<<31-1)) },
		"data":   func(c *raw) { c.do(c.fr.WriteData(c.get(get...), true, []byte("x"))) },
		"length": func(c *raw) { c.do(c.fr.WriteData(c.open(with(post, "content-length", "5")...), true, []byte("x"))) },
		"head":   func(c *raw) { c.get(with(get, "connection", "close")...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, waitGone)
			for range 200 {
				provoke(c)
			}
			c.sync()
			provoke(c)
			c.calmed("reset")
		})
	}
}

// TestTooManyStreams: the 101st is refused, and no more than twice as many are served at the same time however many were reset.
func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var serving, most atomic.Int64
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		most.Store(max(most.Load(), serving.Add(1)))
		<-release
		serving.Add(-1)
		hello(s, x)
	})
	var ids []uint32
	for range 100 {
		ids = append(ids, c.get(get...))
	}
	if code := c.reset(c.get(get...)); code != xhttp2.ErrCodeRefusedStream {
		t.Errorf("code %v", code)
	}
	for _, id := range ids[:50] {
		c.do(c.fr.WriteRSTStream(id, xhttp2.ErrCodeCancel))
	}
	for range 50 {
		c.get(get...)
	}
	c.sync()
	close(release)
	for _, id := range ids[50:] {
		c.answer(id)
	}
	if n := most.Load(); n > 200 {
		t.Errorf("%d streams at the same time", n)
	}
}

// TestContinuationFlood: a header block has at most 32 CONTINUATION frames and 64 KiB (CVE-2023-45288).
func TestContinuationFlood(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) *raw {
		t.Helper()
		c := dial(t, hello)
		c.do(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(get...)}))
		return c
	}
	t.Run("frames", func(t *testing.T) {
		t.Parallel()
		c := start(t)
		for range 33 {
			c.do(c.fr.WriteContinuation(1, false, nil))
		}
		c.calmed("block")
	})
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		c := start(t)
		for range 4 {
			c.do(c.fr.WriteContinuation(1, false, make([]byte, 16<<10)))
		}
		c.calmed("block")
	})
	t.Run("allowed", func(t *testing.T) {
		t.Parallel()
		c := start(t)
		for range 31 {
			c.do(c.fr.WriteContinuation(1, false, nil))
		}
		c.do(c.fr.WriteContinuation(1, true, c.block("x", strings.Repeat("y", 12<<10))))
		c.expect("the answer", func(e event) bool { return e.field(":status") == "200" })
	})
}

// TestHeaderBomb: a block of one-byte references to a large entry of the dynamic table is refused at 32 KiB, and costs no memory
// (CVE-2026-47774).
func TestHeaderBomb(t *testing.T) {
	release := make(chan struct{})
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		<-release
		hello(s, x)
	}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	// The entry, and then requests each of whose 1000 references names it again: 4 MB if they were kept.
	entry := c.block("x", strings.Repeat("y", 3900))
	c.do(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{
		StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: append(c.block(get...), entry...),
	}))
	before := heap()
	bomb := append([]byte{0x82, 0x86, 0x84, 0x01, 6}, "a.test"...)
	bomb = append(bomb, bytes.Repeat([]byte{0x80 | 62}, 15_000)...)
	for i := range 99 {
		c.do(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: uint32(3 + 2*i), EndHeaders: true, EndStream: true, BlockFragment: bomb}))
	}
	c.sync()
	grown := int64(heap()) - int64(before)
	t.Logf("heap grew by %d KiB for 99 streams", grown>>10)
	if grown > 99*12<<10 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	for i := range 99 {
		c.expect("431", func(e event) bool { return e.StreamID == uint32(3+2*i) && e.field(":status") == "431" })
	}
	close(release)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestFramesWithoutProgress: a thousand may come in ten seconds, and no more.
func TestFramesWithoutProgress(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(c *raw, id uint32){
		"PING":          func(c *raw, _ uint32) { c.do(c.fr.WritePing(false, [8]byte{})) },
		"PING ACK":      func(c *raw, _ uint32) { c.do(c.fr.WritePing(true, [8]byte{})) },
		"SETTINGS":      func(c *raw, _ uint32) { c.do(c.fr.WriteSettings()) },
		"SETTINGS ACK":  func(c *raw, _ uint32) { c.do(c.fr.WriteSettingsAck()) },
		"PRIORITY":      func(c *raw, id uint32) { c.do(c.fr.WritePriority(id, xhttp2.PriorityParam{Weight: 1})) },
		"WINDOW_UPDATE": func(c *raw, id uint32) { c.do(c.fr.WriteWindowUpdate(id, 1)) },
		"empty DATA":    func(c *raw, id uint32) { c.do(c.fr.WriteData(id, false, nil)) },
		"padding":       func(c *raw, id uint32) { c.do(c.fr.WriteDataPadded(id, false, nil, make([]byte, 1))) },
		"unknown":       func(c *raw, id uint32) { c.do(c.fr.WriteRawFrame(0x77, 0, id, []byte("x"))) },
		"old RST":       func(c *raw, _ uint32) { c.do(c.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel)) },
		"GOAWAY":        func(c *raw, _ uint32) { c.do(c.fr.WriteGoAway(0, xhttp2.ErrCodeNo, nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
				if x.Request.Body == nil {
					hello(s, x)
					return
				}
				waitGone(s, x)
			})
			c.answer(c.get(get...))
			id := c.open(post...)
			for range 980 {
				send(c, id)
			}
			c.sync()
			for range 60 {
				send(c, id)
			}
			c.calmed("progress")
		})
	}
}

// TestProgressIsNoFlood: downloads send many WINDOW_UPDATEs, two for every 4 KiB in the worst case, and gRPC pings.
func TestProgressIsNoFlood(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	c := dial(t, bulk(size))
	id := c.get(get...)
	for got := 0; got < size; {
		n := 0
		c.wait("DATA", func(events []event, _ bool) bool {
			n = sum(events, id)
			c.events = nil // so that a long test stays fast
			return n > 0
		})
		got += n
		for ; n > 0; n -= 4 << 10 {
			c.do(c.fr.WriteWindowUpdate(0, uint32(min(n, 4<<10))))
			c.do(c.fr.WriteWindowUpdate(id, uint32(min(n, 4<<10))))
		}
		c.do(c.fr.WritePing(false, [8]byte{}))
	}
	c.sync()
}

// TestAnswersThatAreNotRead: who asks and does not read is not answered for ever.
func TestAnswersThatAreNotRead(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	v := newServer(t, http2.Options{}, waitGone)
	_, result := v.serve(b)
	defer a.Close()
	fr := xhttp2.NewFramer(a, nil)
	if _, err := a.Write([]byte(xhttp2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":method", Value: "GET"})
	var err error
	// Progress in between, so that only what is buffered counts.
	for id := uint32(1); err == nil && id < 1<<20; id += 2 {
		err = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block.Bytes()})
		for range 4 {
			if err == nil {
				err = fr.WritePing(false, [8]byte{})
			}
		}
	}
	if err == nil {
		t.Fatal("never closed")
	}
	if err := <-result; err == nil {
		t.Error("an orderly end")
	}
}
