package http2_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

func TestAnswerLeavesInTwoFrames(t *testing.T) {
	t.Parallel()
	c := dial(t, hello)
	id := c.get(get...)
	head, body, _ := c.answer(id)
	var got []string
	for _, f := range head.fields {
		got = append(got, f.Name+": "+f.Value)
	}
	want := []string{
		":status: 200", "content-type: text/plain; charset=utf-8", "content-length: 5",
		"date: Sun, 22 Nov 2026 03:22:39 GMT", "server: podlane",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if string(body) != "hello" || head.ends() {
		t.Errorf("body %q, head %v", body, head)
	}
	if n := c.count(func(e event) bool { return e.StreamID == id }); n != 2 {
		t.Errorf("%d frames, want HEADERS and DATA", n)
	}
}

func TestBodyAndTrailersBothWays(t *testing.T) {
	t.Parallel()
	c := dial(t, echo)
	id := c.open(with(post, "te", "trailers")...)
	c.do(c.fr.WriteData(id, false, []byte("first ")))
	c.do(c.fr.WriteDataPadded(id, false, []byte("second"), make([]byte, 100)))
	c.do(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{
		StreamID: id, EndHeaders: true, EndStream: true,
		BlockFragment: c.block("grpc-status", "0", "content-type", "never/there", "x_dropped", "1", "host", "evil"),
	}))
	head, body, trailers := c.answer(id)
	if string(body) != "first second" || head.field("echo-method") != "POST" {
		t.Errorf("body %q, head %v", body, head)
	}
	if len(trailers.fields) != 1 || trailers.field("grpc-status") != "0" {
		t.Errorf("trailers %v", trailers.fields)
	}
}

// TestResponsesWithoutBody: HEAD, 204 and 304 end with their head, whatever the body holds.
func TestResponsesWithoutBody(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ method, status, length string }{
		"HEAD": {"HEAD", "200", "5"}, "204": {"GET", "204", ""}, "304": {"GET", "304", "5"}, "empty": {"GET", "200", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
				status, _ := strconv.Atoi(want.status)
				text := "hello"
				if name == "empty" {
					text = ""
				}
				x.Answer(status, exchange.NoReason, text)
				x.Response.Trailers.AddString("x", "y")
				if name == "empty" {
					x.Response.Trailers.Reset(nil)
				}
				reply(s, x)
			})
			id := c.get(with([]string{":method", want.method}, get[2:]...)...)
			head, body, _ := c.answer(id)
			if !head.ends() || len(body) > 0 || head.field(":status") != want.status || head.field("content-length") != want.length {
				t.Errorf("%v, body %q", head, body)
			}
		})
	}
}

func TestInterimResponses(t *testing.T) {
	t.Parallel()
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		x.Response.Status = 103
		x.Response.Fields.AddString("Link", "</a.css>; rel=preload")
		x.Response.Fields.AddString("Connection", "close")
		if err := s.Interim(x); err != nil {
			t.Error(err)
		}
		if s.Begun() {
			t.Error("an interim response counts as the final one")
		}
		hello(s, x)
	})
	id := c.get(get...)
	c.answer(id)
	hints := c.expect("103", func(e event) bool { return e.Type == xhttp2.FrameHeaders && e.field(":status") == "103" })
	if hints.ends() || hints.field("link") == "" || hints.field("connection") != "" {
		t.Errorf("%v", hints)
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		if !x.Request.ExpectContinue || s.Buffered() != 0 {
			t.Error("no expectation")
		}
		if err := s.Continue(); err != nil {
			t.Error(err)
		}
		echo(s, x)
	})
	id := c.open(with(post, "expect", "100-continue")...)
	c.expect("100", func(e event) bool { return e.field(":status") == "100" })
	c.do(c.fr.WriteData(id, true, []byte("now")))
	if _, body, _ := c.answer(id); string(body) != "now" {
		t.Errorf("%q", body)
	}
}

// TestShortBodyIsWholeAtOnce: head and body that come together are whole when the request begins, and their length is known.
func TestShortBodyIsWholeAtOnce(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	v := newServer(t, http2.Options{}, func(s *http2.Stream, x *exchange.Exchange) {
		if n := x.Request.Body.Length(); n != 7 || !s.OwnsBody(x.Request.Body) || !s.BodyFits() || !s.BodyWhole() {
			t.Errorf("length %d", n)
		}
		s.MarkBody()
		for range 3 {
			s.Rewind()
			if got, err := readAll(x.Request.Body); err != nil || string(got) != "payload" || !s.BodyDone() || s.BodyBytes() != 7 {
				t.Errorf("%q, %v, %d bytes", got, err, s.BodyBytes())
			}
		}
		hello(s, x)
	})
	c := newSilent(t, a)
	var all bytes.Buffer
	all.WriteString(xhttp2.ClientPreface)
	fr := xhttp2.NewFramer(&all, nil)
	c.do(fr.WriteSettings())
	c.do(fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(post...), EndHeaders: true}))
	c.do(fr.WriteData(1, false, []byte("pay")))
	c.do(fr.WriteData(1, true, []byte("load")))
	if _, err := a.Write(all.Bytes()); err != nil {
		t.Fatal(err)
	}
	v.serve(b)
	c.answer(1)
}

func readAll(b exchange.Body) ([]byte, error) {
	var all []byte
	for {
		p, err := b.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, p...)
	}
}

// TestFillBody: a short body of known length that comes late is waited for.
func TestFillBody(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		close(begun)
		fills := 0
		for ; !s.BodyWhole(); fills++ {
			if !s.BodyFits() {
				t.Error("does not fit")
			}
			if err := s.FillBody(); err != nil {
				t.Error(err)
			}
		}
		if fills == 0 || s.Buffered() != 4 {
			t.Errorf("%d fills, %d bytes", fills, s.Buffered())
		}
		s.MarkBody()
		echo(s, x)
	})
	id := c.open(with(post, "content-length", "4")...)
	<-begun
	c.do(c.fr.WriteData(id, false, []byte("ab")))
	c.do(c.fr.WriteData(id, true, []byte("cd")))
	if _, body, _ := c.answer(id); string(body) != "abcd" {
		t.Errorf("%q", body)
	}
}

// TestEarlyAnswerStopsUpload: a request that is answered before it is complete is told so, without harm to what comes behind it.
func TestEarlyAnswerStopsUpload(t *testing.T) {
	t.Parallel()
	c := dial(t, hello)
	id := c.open(post...)
	c.answer(id)
	if code := c.expect("RST_STREAM", func(e event) bool { return e.Type == xhttp2.FrameRSTStream }).code; code != xhttp2.ErrCodeNo {
		t.Errorf("code %v", code)
	}
	// What was under way is ignored.
	c.do(c.fr.WriteData(id, false, make([]byte, 10_000)))
	c.do(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: c.block("late", "x"), EndHeaders: true, EndStream: true}))
	c.do(c.fr.WriteRSTStream(id, xhttp2.ErrCodeCancel))
	c.answer(c.get(get...))
}

// TestUnfinishedAnswerIsReset: a client must see that an answer is not whole.
func TestUnfinishedAnswerIsReset(t *testing.T) {
	t.Parallel()
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		x.Answer(200, exchange.NoReason, "hello")
		s.StartResponse(x, http2.KeepOpen)
		if err := s.Write([]byte("hel")); err != nil {
			t.Error(err)
		}
		if err := s.Finish(x); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Finish: %v", err)
		}
		if err := s.Write([]byte("lo!")); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("Write: %v", err)
		}
	})
	if code := c.reset(c.get(get...)); code != xhttp2.ErrCodeInternal {
		t.Errorf("code %v", code)
	}
}

// TestDiscard: an answer of which nothing has left can be replaced.
func TestDiscard(t *testing.T) {
	t.Parallel()
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		x.Answer(200, exchange.NoReason, "hello")
		s.StartResponse(x, http2.KeepOpen)
		_ = s.Write([]byte("hel"))
		if s.Begun() || s.Written() != 3 {
			t.Errorf("begun, %d written", s.Written())
		}
		s.Discard()
		x.Answer(502, exchange.UpstreamTruncated, "no\n")
		reply(s, x)
		if !s.Begun() || s.Written() != 3 {
			t.Errorf("not begun, %d written", s.Written())
		}
	})
	head, body, _ := c.answer(c.get(get...))
	if head.field(":status") != "502" || string(body) != "no\n" {
		t.Errorf("%v %q", head, body)
	}
}

// TestFlushSendsWhatThereIs: event streams reach the client piece by piece.
func TestFlushSendsWhatThereIs(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		x.Response.Status = 200
		x.Response.Body = unknownLength{}
		s.StartResponse(x, http2.KeepOpen)
		for range 3 {
			_ = s.Write([]byte("event\n"))
			if err := s.Flush(); err != nil {
				t.Error(err)
			}
			<-next
		}
		x.Response.Trailers.AddString("X-Sum", "3")
		x.Response.Trailers.AddString("Content-Length", "3")
		if err := s.Finish(x); err != nil {
			t.Error(err)
		}
	})
	id := c.get(get...)
	for n := 1; n <= 3; n++ {
		c.wait("an event", func(events []event, _ bool) bool {
			total := 0
			for _, e := range events {
				total += len(e.data)
			}
			return total == n*len("event\n")
		})
		next <- struct{}{}
	}
	_, _, trailers := c.answer(id)
	if len(trailers.fields) != 1 || trailers.field("x-sum") != "3" {
		t.Errorf("trailers %v", trailers.fields)
	}
}

type unknownLength struct{}

func (unknownLength) Next() ([]byte, error) { return nil, io.EOF }
func (unknownLength) Length() int64         { return -1 }

// TestInterrupts: waits of both halves end when another goroutine says so.
func TestInterrupts(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		defer close(done)
		interrupt := func(what func()) {
			time.AfterFunc(5*time.Millisecond, what)
		}
		interrupt(s.InterruptRead)
		for range 2 {
			if _, err := x.Request.Body.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Next: %v", err)
			}
		}
		if err := s.FillBody(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("FillBody: %v", err)
		}
		s.ResumeRead()
		if p, err := x.Request.Body.Next(); err != nil || string(p) != "later" {
			t.Errorf("Next: %q, %v", p, err)
		}
		x.Response.Status = 200
		x.Response.Body = unknownLength{}
		s.StartResponse(x, http2.KeepOpen)
		interrupt(s.InterruptWrite)
		if err := s.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write: %v", err)
		}
		if err := s.Finish(x); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Finish: %v", err)
		}
		s.Reset(xhttp2.ErrCodeCancel)
	})
	id := c.open(post...)
	time.AfterFunc(20*time.Millisecond, func() { _ = c.fr.WriteData(id, false, []byte("later")) })
	<-done
	if code := c.expect("RST_STREAM", func(e event) bool { return e.Type == xhttp2.FrameRSTStream }).code; code != xhttp2.ErrCodeCancel {
		t.Errorf("code %v", code)
	}
}

// TestGone: who serves a stream learns at once that its client has reset it, or that the connection has ended, and is left alone
// afterwards.
func TestGone(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(c *raw, id uint32){
		"reset": func(c *raw, id uint32) { c.do(c.fr.WriteRSTStream(id, xhttp2.ErrCodeCancel)) },
		"close": func(c *raw, _ uint32) { c.nc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, served := make(chan struct{}), make(chan error, 2)
			c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
				gone := make(chan struct{})
				s.OnGone(func() { close(gone) })
				close(begun)
				<-gone
				_, err := x.Request.Body.Next()
				served <- err
				x.Answer(200, exchange.NoReason, "hello")
				s.StartResponse(x, http2.KeepOpen)
				_ = s.Write([]byte("hello"))
				served <- s.Finish(x)
				late := false
				s.OnGone(func() { late = true })
				if !late {
					t.Error("told too late, and not told")
				}
			})
			id := c.open(post...)
			<-begun
			leave(c, id)
			want := map[string]error{"reset": http2.ErrReset, "close": http2.ErrConnection}[name]
			for range 2 {
				if err := <-served; !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			}
		})
	}
}

// TestLargeHead: an answer's head may need CONTINUATION, and comes whole beside others.
func TestLargeHead(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("v", 50_000)
	c := dial(t, func(s *http2.Stream, x *exchange.Exchange) {
		x.Answer(200, exchange.NoReason, "hello")
		x.Response.Fields.AddString("X-Large", value)
		reply(s, x)
	}, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 100})
	for range 3 {
		c.get(get...)
	}
	for id := uint32(1); id < 7; id += 2 {
		if head, _, _ := c.answer(id); head.field("x-large") != value {
			t.Errorf("stream %d: %d bytes", id, len(head.field("x-large")))
		}
	}
}
