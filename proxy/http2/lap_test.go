package http2_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// through is a program that takes requests to a Pod and answers back, both bodies as they come: the smallest proxy.
func through(c *http2.ClientConn) program {
	return func(s *http2.Stream, x *exchange.Exchange) {
		pod, err := c.Open()
		if err != nil {
			x.Answer(503, exchange.Overload, "full\n")
			reply(s, x)
			return
		}
		defer pod.Close()
		s.OnGone(pod.Cancel)
		pod.StartRequest(x)
		uploaded := make(chan struct{})
		if x.Request.Body == nil {
			err = pod.Finish()
			close(uploaded)
		} else {
			err = pod.Flush()
			go func() {
				defer close(uploaded)
				upload(x.Request.Body, pod)
			}()
		}
		if err == nil {
			err = pod.ReadResponse(x)
		}
		if err != nil {
			s.InterruptRead()
			<-uploaded
			x.Answer(502, exchange.UpstreamReset, "no answer\n")
			reply(s, x)
			return
		}
		x.Response.RemoveHopByHop()
		s.StartResponse(x, http2.KeepOpen)
		download(s, pod, x)
		s.InterruptRead()
		<-uploaded
	}
}

func upload(b exchange.Body, pod *http2.ClientStream) {
	for {
		p, err := b.Next()
		if errors.Is(err, io.EOF) {
			_ = pod.Finish()
			return
		}
		if err != nil {
			pod.Cancel()
			return
		}
		if pod.Write(p) != nil || pod.Flush() != nil {
			return
		}
	}
}

func download(s *http2.Stream, pod *http2.ClientStream, x *exchange.Exchange) {
	for x.Response.Body != nil {
		if !pod.Ready() && s.Flush() != nil {
			return
		}
		p, err := x.Response.Body.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.Reset(xhttp2.ErrCodeInternal)
			return
		}
		if s.Write(p) != nil {
			return
		}
	}
	_ = s.Finish(x)
}

// TestThrough: Go's client and server with both of our sides between them.
func TestThrough(t *testing.T) {
	t.Parallel()
	nc, err := net.Dial("tcp", goServer(t))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newPods(t, http2.Options{}).serve(nc)
	addr := newServer(t, http2.Options{}, through(c)).listen(t)
	client := transport(t)
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			for j := range 5 {
				body := bytes.Repeat([]byte{byte('a' + j)}, i*j*1000)
				res, err := client.Post(fmt.Sprintf("http://%s/%d", addr, i), "text/plain", io.NopCloser(bytes.NewReader(body)))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || !bytes.Equal(got, body) || res.Trailer.Get("X-Down") != "1" {
					t.Errorf("%d bytes of %d, trailers %v, %v", len(got), len(body), res.Trailer, err)
				}
			}
		})
	}
	all.Wait()
}

// TestConversation: each side sends when it has heard the other, over both of our sides, as gRPC's streams do.
func TestConversation(t *testing.T) {
	t.Parallel()
	nc, err := net.Dial("tcp", goServer(t))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newPods(t, http2.Options{}).serve(nc)
	addr := newServer(t, http2.Options{}, through(c)).listen(t)
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/", r)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 100 {
		word := fmt.Appendf(nil, "word %d", i)
		if _, err := w.Write(word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(res.Body, got); err != nil || !bytes.Equal(got, word) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	_ = w.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// podPipe is a raw Pod at the other end of a pipe, inside a bubble.
func podPipe(t *testing.T, o http2.Options) (*http2.ClientConn, *raw, <-chan error) {
	t.Helper()
	a, b := net.Pipe()
	c, result := newPods(t, o).serve(a)
	return c, rawPod(t, b), result
}

func TestSilentPodInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		began := time.Now()
		c, result := newPods(t, http2.Options{}).serve(a)
		go func() { _, _ = io.Copy(io.Discard, b) }()
		x := request(t, "GET", "/")
		s := ask(t, c, x)
		if err := s.ReadResponse(x); !errors.Is(err, http2.ErrConnection) {
			t.Errorf("%v", err)
		}
		lasts(t, began, 10*time.Second)
		s.Close()
		if err := <-result; err == nil {
			t.Error("an orderly end")
		}
		b.Close()
	})
}

func TestIdlePodInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p, result := podPipe(t, http2.Options{})
		x := request(t, "GET", "/")
		s := ask(t, c, x)
		time.Sleep(5 * time.Minute)
		p.respond(1, ends, ":status", "200")
		if err := s.ReadResponse(x); err != nil {
			t.Error(err)
		}
		s.Close()
		began := time.Now()
		if e := p.goAway(); e.code != xhttp2.ErrCodeNo {
			t.Errorf("%v", e)
		}
		lasts(t, began, 75*time.Second)
		if err := <-result; err != nil {
			t.Error(err)
		}
		if _, err := c.Open(); !errors.Is(err, http2.ErrLeaving) {
			t.Error(err)
		}
	})
}

// TestKeepalive: a Pod that is silent while it has requests is asked; one that answers goes on, one that does not is given up.
func TestKeepalive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p, result := podPipe(t, http2.Options{Timeouts: http2.Timeouts{Ping: 30 * time.Second}})
		x := request(t, "GET", "/")
		s := ask(t, c, x)
		isPing := func(e event) bool { return e.Type == xhttp2.FramePing }
		for range 3 {
			began := time.Now()
			e := p.expect("PING", isPing)
			lasts(t, began, 30*time.Second)
			p.do(p.fr.WritePing(true, e.ping))
		}
		p.expect("PING", isPing)
		began := time.Now()
		if err := s.ReadResponse(x); !errors.Is(err, http2.ErrConnection) {
			t.Error(err)
		}
		lasts(t, began, 15*time.Second)
		s.Close()
		if err := <-result; err == nil {
			t.Error("an orderly end")
		}
	})
}

// TestStalledPod: a Pod that takes no byte for a minute is given up.
func TestStalledPod(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c, result := newPods(t, http2.Options{}).serve(a)
		go func() {
			_, _ = io.ReadFull(b, make([]byte, 50))
			_, _ = b.Write(settingsFrame)
			_, _ = b.Write([]byte{0, 0, 0, 4, 1, 0, 0, 0, 0})
		}()
		x := request(t, "POST", "/")
		x.Request.Body = lengthOf(-1)
		s := open(t, c)
		s.StartRequest(x)
		began := time.Now()
		if err := s.Write(make([]byte, 1<<20)); !errors.Is(err, http2.ErrConnection) {
			t.Error(err)
		}
		lasts(t, began, time.Minute)
		s.Close()
		if err := <-result; err == nil {
			t.Error("an orderly end")
		}
		b.Close()
	})
}

// FuzzPod: whatever a Pod sends, nothing crashes or hangs, and an answer that is accepted is one.
func FuzzPod(f *testing.F) {
	f.Add(frames(func(fr *xhttp2.Framer, block func(...string) []byte) {
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block(":status", "103", "link", "x"), EndHeaders: true})
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block(":status", "200", "content-length", "4"), EndHeaders: true})
		_ = fr.WriteData(1, false, []byte("bo"))
		_ = fr.WriteDataPadded(1, false, []byte("dy"), []byte{0})
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block("grpc-status", "0"), EndHeaders: true, EndStream: true})
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: block(":status", "404"), EndHeaders: true, EndStream: true})
		_ = fr.WriteGoAway(3, xhttp2.ErrCodeNo, nil)
	}), uint8(3))
	start := frames(func(fr *xhttp2.Framer, _ func(...string) []byte) {
		_ = fr.WriteSettings()
		_ = fr.WriteSettingsAck()
	})
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		nc := &script{in: append(bytes.Clone(start), in...), piece: int(piece) + 1}
		c := http2.NewClientConn(nc, http2.Options{})
		var all sync.WaitGroup
		for range 2 {
			x := request(t, "GET", "/")
			s := ask(t, c, x)
			all.Go(func() {
				defer s.Close()
				for {
					if err := s.ReadResponse(x); err != nil {
						return
					}
					text := x.Response.Fields.AppendTo(nil)
					if x.Response.Status < 100 || bytes.Count(text, []byte("\r\n")) != bytes.Count(text, []byte("\n")) || bytes.Contains(text, []byte("\r\n\r\n")) {
						t.Errorf("%d %q", x.Response.Status, text)
					}
					if x.Response.Status >= 200 {
						break
					}
				}
				if x.Response.Body != nil {
					_, _ = readAll(x.Response.Body)
				}
			})
		}
		_ = c.Serve()
		all.Wait()
	})
}
