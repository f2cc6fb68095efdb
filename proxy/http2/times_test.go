package http2_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// pipe is newRaw on a pipe inside a bubble of synctest, with its server.
func pipe(v *server) (*raw, net.Conn, <-chan error) {
	v.t.Helper()
	a, b := net.Pipe()
	_, result := v.serve(b)
	return newRaw(v.t, a), a, result
}

// lasts checks how long something took on the bubble's clock, to the precision of the sweeper and of its closer look.
func lasts(t testing.TB, began time.Time, want time.Duration) {
	t.Helper()
	if took := time.Since(began); took < want || took > want+2500*time.Millisecond {
		t.Errorf("took %v, want %v", took, want)
	}
}

// bubble runs f in a bubble with a server of its own, whose t is the bubble's.
func bubble(t *testing.T, run program, f func(v *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newServer(t, http2.Options{}, run)) })
}

func TestPrefaceInTime(t *testing.T) {
	t.Parallel()
	for name, said := range map[string]string{"nothing": "", "part": "PRI * HTTP/2.0\r\n", "preface": xhttp2.ClientPreface} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, hello, func(v *server) {
				t := v.t
				began := time.Now()
				a, b := net.Pipe()
				_, result := v.serve(b)
				c := newSilent(t, a)
				if _, err := io.WriteString(a, said); err != nil {
					t.Fatal(err)
				}
				c.goAway()
				lasts(t, began, 10*time.Second)
				if err := <-result; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestIdleInTime(t *testing.T) {
	t.Parallel()
	bubble(t, hello, func(v *server) {
		t := v.t
		c, _, result := pipe(v)
		time.Sleep(50 * time.Second)
		// PINGs do not keep a connection, requests do.
		c.answer(c.get(get...))
		began := time.Now()
		time.Sleep(50 * time.Second)
		c.sync()
		if e := c.goAway(); e.code != xhttp2.ErrCodeNo || e.last != 1 {
			t.Errorf("%v", e)
		}
		lasts(t, began, 75*time.Second)
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

// TestLongStreamIsNotIdle: neither a slow answer nor a slow upload is a connection at rest.
func TestLongStreamIsNotIdle(t *testing.T) {
	t.Parallel()
	slow := func(s *http2.Stream, x *exchange.Exchange) {
		time.Sleep(10 * time.Minute)
		echo(s, x)
	}
	bubble(t, slow, func(v *server) {
		c, _, _ := pipe(v)
		id := c.open(post...)
		time.Sleep(5 * time.Minute)
		c.do(c.fr.WriteData(id, true, []byte("x")))
		c.answer(id)
	})
}

func TestHeadInTime(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(c *raw, block []byte){
		"no CONTINUATION": func(c *raw, block []byte) {
			c.do(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block}))
		},
		"part of HEADERS": func(c *raw, block []byte) {
			_, err := c.nc.Write(append([]byte{0, 0, byte(len(block) + 1), 1, 4, 0, 0, 0, 1}, block...))
			c.do(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, hello, func(v *server) {
				t := v.t
				c, _, result := pipe(v)
				time.Sleep(time.Minute)
				began := time.Now()
				begin(c, c.block(get...))
				if e := c.goAway(); e.code != xhttp2.ErrCodeEnhanceYourCalm {
					t.Errorf("%v", e)
				}
				lasts(t, began, 10*time.Second)
				if err := <-result; err == nil {
					t.Error("an orderly end")
				}
			})
		})
	}
}

func TestSettingsAckInTime(t *testing.T) {
	t.Parallel()
	bubble(t, hello, func(v *server) {
		t := v.t
		began := time.Now()
		a, b := net.Pipe()
		v.serve(b)
		c := newSilent(t, a)
		_, err := io.WriteString(a, xhttp2.ClientPreface)
		c.do(err)
		c.do(c.fr.WriteSettings())
		c.answer(c.get(get...))
		if e := c.goAway(); e.code != xhttp2.ErrCodeSettingsTimeout {
			t.Errorf("%v", e)
		}
		lasts(t, began, 10*time.Second)
	})
}

// TestStalledConnection: a client that takes no byte for a minute is cut, and who serves it is told.
func TestStalledConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		v := newServer(t, http2.Options{}, func(s *http2.Stream, x *exchange.Exchange) {
			x.Response.Status = 200
			x.Response.Body = unknownLength{}
			s.StartResponse(x, http2.KeepOpen)
			ended <- s.Write(make([]byte, 1<<20))
		})
		a, b := net.Pipe()
		_, result := v.serve(b)
		fr := xhttp2.NewFramer(a, nil)
		go func() { _, _ = io.ReadFull(a, make([]byte, 100)) }()
		_, _ = io.WriteString(a, xhttp2.ClientPreface)
		_ = fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20})
		_ = fr.WriteSettingsAck()
		_ = fr.WriteWindowUpdate(0, 1<<20)
		began := time.Now()
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x82, 0x86, 0x84, 0x01, 1, 'a'}})
		if err := <-ended; !errors.Is(err, http2.ErrConnection) {
			t.Errorf("%v", err)
		}
		lasts(t, began, time.Minute)
		if err := <-result; err == nil {
			t.Error("an orderly end")
		}
		a.Close()
	})
}

// TestSlowConnectionIsNotStalled: a client that takes a little now and then keeps its connection.
func TestSlowConnectionIsNotStalled(t *testing.T) {
	t.Parallel()
	bubble(t, bulk(60_000), func(v *server) {
		t := v.t
		a, b := net.Pipe()
		v.serve(b)
		fr := xhttp2.NewFramer(a, nil)
		got := make(chan int)
		go func() {
			buf, n := make([]byte, 16<<10), 0
			for n < 60_000 {
				m, err := a.Read(buf)
				if err != nil {
					break
				}
				n += m
				time.Sleep(20 * time.Second)
			}
			got <- n
		}()
		_, _ = io.WriteString(a, xhttp2.ClientPreface)
		_ = fr.WriteSettings()
		_ = fr.WriteSettingsAck()
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x82, 0x86, 0x84, 0x01, 1, 'a'}})
		if n := <-got; n < 60_000 {
			t.Errorf("cut after %d bytes", n)
		}
		a.Close()
	})
}

// TestStalledWindow: a window that stays shut for a minute ends its stream and no other.
func TestStalledWindow(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string]uint32{"stream": 1000, "connection": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, bulk(200_000), func(v *server) {
				t := v.t
				a, b := net.Pipe()
				v.serve(b)
				c := newRaw(t, a, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: setting})
				began := time.Now()
				stuck, slow := c.get(get...), c.get(get...)
				for range 4 {
					time.Sleep(20 * time.Second)
					c.do(c.fr.WriteWindowUpdate(slow, 1))
				}
				e := c.expect("RST_STREAM", func(e event) bool { return e.StreamID == stuck && e.Type == xhttp2.FrameRSTStream })
				if e.code != xhttp2.ErrCodeCancel {
					t.Errorf("%v", e)
				}
				lasts(t, began, 80*time.Second)
				if name == "stream" {
					c.do(c.fr.WriteWindowUpdate(0, 1<<20))
					c.do(c.fr.WriteWindowUpdate(slow, 1<<20))
					c.answer(slow)
				}
			})
		})
	}
}

// TestStalledWindows: where a client shuts the windows of many streams, all of them end after the minute, and not one a minute.
func TestStalledWindows(t *testing.T) {
	t.Parallel()
	bubble(t, bulk(200_000), func(v *server) {
		t := v.t
		a, b := net.Pipe()
		v.serve(b)
		c := newRaw(t, a, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1000})
		began := time.Now()
		for range 100 {
			c.get(get...)
		}
		for id := uint32(1); id < 200; id += 2 {
			c.expect("RST_STREAM", func(e event) bool { return e.StreamID == id && e.Type == xhttp2.FrameRSTStream })
		}
		lasts(t, began, time.Minute)
	})
}

// TestShutdownInTwoSteps: requests that were on their way are served, later ones are not, and then the connection ends.
func TestShutdownInTwoSteps(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	a, b := pair(t)
	v := newServer(t, http2.Options{}, func(s *http2.Stream, x *exchange.Exchange) {
		<-release
		hello(s, x)
	})
	conn, result := v.serve(b)
	c := newRaw(t, a)
	early := c.get(get...)
	c.sync()
	if conn.Idle() || conn.Streams() != 1 {
		t.Errorf("%d streams", conn.Streams())
	}
	conn.Shutdown()
	conn.Shutdown()
	first := c.expect("GOAWAY", func(e event) bool { return e.Type == xhttp2.FrameGoAway })
	if first.last != 1<<31-1 || first.code != xhttp2.ErrCodeNo {
		t.Errorf("%v", first)
	}
	call := c.expect("PING", func(e event) bool { return e.Type == xhttp2.FramePing })
	crossing := c.get(get...)
	c.do(c.fr.WritePing(true, call.ping))
	final := c.expect("GOAWAY", func(e event) bool { return e.Type == xhttp2.FrameGoAway })
	if final.last != crossing || final.code != xhttp2.ErrCodeNo {
		t.Errorf("%v", final)
	}
	late := c.get(with(get, "a", "b")...)
	c.sync()
	close(release)
	c.answer(early)
	c.answer(crossing)
	c.ended()
	if n := c.count(func(e event) bool { return e.StreamID == late }); n != 0 {
		t.Error("a late request was answered")
	}
	a.Close()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestShutdownOfIdle: a client that does not answer the PING gets a second or two.
func TestShutdownOfIdle(t *testing.T) {
	t.Parallel()
	bubble(t, hello, func(v *server) {
		t := v.t
		a, b := net.Pipe()
		conn, result := v.serve(b)
		c := newRaw(t, a)
		c.answer(c.get(get...))
		synctest.Wait()
		if !conn.Idle() {
			t.Error("not idle")
		}
		began := time.Now()
		conn.Shutdown()
		c.expect("GOAWAY", func(e event) bool { return e.Type == xhttp2.FrameGoAway && e.last == 1<<31-1 })
		c.expect("GOAWAY", func(e event) bool { return e.Type == xhttp2.FrameGoAway && e.last == 1 })
		lasts(t, began, time.Second)
		c.ended()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

// TestLingering: a client that does not close after our last frame is closed on.
func TestLingering(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, result := newServer(t, http2.Options{}, hello).serve(b)
	if _, err := io.WriteString(a, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(a)
	if err != nil || len(got) == 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-result; err == nil {
		t.Error("an orderly end")
	}
	a.Close()
}
