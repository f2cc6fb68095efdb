package http2_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// event is a frame that a raw peer has received. fields are those of a HEADERS frame.
type event struct {
	xhttp2.FrameHeader
	fields []hpack.HeaderField
	data   []byte
	code   xhttp2.ErrCode
	last   uint32
	incr   uint32
	ping   [8]byte
}

// field returns the value of a HEADERS frame's field, or "".
func (e event) field(name string) string {
	for _, f := range e.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func (e event) ends() bool {
	return e.Flags.Has(xhttp2.FlagHeadersEndStream) && (e.Type == xhttp2.FrameHeaders || e.Type == xhttp2.FrameData)
}

func (e event) String() string {
	s := fmt.Sprintf("%v stream=%d flags=%x len=%d", e.Type, e.StreamID, uint8(e.Flags), e.Length)
	if e.Type == xhttp2.FrameRSTStream || e.Type == xhttp2.FrameGoAway {
		s += fmt.Sprintf(" code=%v last=%d %s", e.code, e.last, e.data)
	}
	if e.Type == xhttp2.FrameHeaders {
		s += fmt.Sprint(" ", e.fields)
	}
	return s
}

// raw is an HTTP/2 peer that does what a test says, frame by frame. What it receives is kept until the test asks.
type raw struct {
	t    testing.TB
	nc   net.Conn
	fr   *xhttp2.Framer
	enc  *hpack.Encoder
	hbuf bytes.Buffer
	next uint32
	// patience is how long a test waits for what must come.
	patience time.Duration

	mu      sync.Mutex
	arrived *sync.Cond
	events  []event
	err     error // why reading has ended
	done    chan struct{}
}

// newRaw sends the preface and SETTINGS, and acknowledges the peer's.
func newRaw(t testing.TB, nc net.Conn, settings ...xhttp2.Setting) *raw {
	t.Helper()
	c := newSilent(t, nc)
	if _, err := io.WriteString(nc, xhttp2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c.do(c.fr.WriteSettings(settings...))
	c.expect("SETTINGS", func(e event) bool { return e.Type == xhttp2.FrameSettings && !e.Flags.Has(xhttp2.FlagSettingsAck) })
	c.do(c.fr.WriteSettingsAck())
	return c
}

// newSilent says nothing by itself.
func newSilent(t testing.TB, nc net.Conn) *raw {
	t.Helper()
	c := &raw{t: t, nc: nc, fr: xhttp2.NewFramer(nc, nc), next: 1, done: make(chan struct{}), patience: 20 * time.Second}
	if nc.LocalAddr().Network() == "pipe" {
		c.patience = time.Hour // of a bubble's clock
	}
	c.fr.AllowIllegalWrites = true
	c.enc = hpack.NewEncoder(&c.hbuf)
	c.arrived = sync.NewCond(&c.mu)
	go c.read()
	t.Cleanup(func() {
		nc.Close()
		<-c.done
	})
	return c
}

func (c *raw) read() {
	defer close(c.done)
	dec := hpack.NewDecoder(4096, nil)
	for {
		f, err := c.fr.ReadFrame()
		e := event{}
		if err == nil {
			e, err = c.event(f, dec)
		}
		c.mu.Lock()
		if err != nil {
			c.err = err
		} else {
			c.events = append(c.events, e)
		}
		c.arrived.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// event copies a frame, and gathers header blocks.
func (c *raw) event(f xhttp2.Frame, dec *hpack.Decoder) (event, error) {
	e := event{FrameHeader: f.Header()}
	switch f := f.(type) {
	case *xhttp2.DataFrame:
		e.data = bytes.Clone(f.Data())
	case *xhttp2.RSTStreamFrame:
		e.code = f.ErrCode
	case *xhttp2.GoAwayFrame:
		e.code, e.last, e.data = f.ErrCode, f.LastStreamID, bytes.Clone(f.DebugData())
	case *xhttp2.WindowUpdateFrame:
		e.incr = f.Increment
	case *xhttp2.PingFrame:
		e.ping = f.Data
	case *xhttp2.HeadersFrame:
		block := bytes.Clone(f.HeaderBlockFragment())
		for ended := f.HeadersEnded(); !ended; {
			next, err := c.fr.ReadFrame()
			if err != nil {
				return e, err
			}
			more, ok := next.(*xhttp2.ContinuationFrame)
			if !ok {
				return e, fmt.Errorf("%v inside a header block", next)
			}
			block = append(block, more.HeaderBlockFragment()...)
			ended = more.HeadersEnded()
		}
		fields, err := dec.DecodeFull(block)
		if err != nil {
			return e, err
		}
		e.fields = fields
	}
	return e, nil
}

func (c *raw) do(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// wait returns what f makes of the events so far, waiting until it says so or the connection has ended.
func (c *raw) wait(what string, f func(events []event, over bool) bool) {
	c.t.Helper()
	late := time.AfterFunc(c.patience, func() {
		c.mu.Lock()
		c.err = fmt.Errorf("nothing for %v", c.patience)
		c.arrived.Broadcast()
		c.mu.Unlock()
	})
	defer late.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !f(c.events, c.err != nil) {
		if c.err != nil {
			c.t.Fatalf("%s did not come: %v; received %v", what, c.err, c.events)
		}
		c.arrived.Wait()
	}
}

// expect waits for the first event that is as f says, and takes it out.
func (c *raw) expect(what string, f func(event) bool) (found event) {
	c.t.Helper()
	c.wait(what, func(events []event, _ bool) bool {
		for i, e := range events {
			if f(e) {
				found = e
				c.events = append(append([]event{}, events[:i]...), events[i+1:]...)
				return true
			}
		}
		return false
	})
	return found
}

// block encodes fields given as name, value, name, value.
func (c *raw) block(fields ...string) []byte {
	c.hbuf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.hbuf.Bytes())
}

// The pseudo-header fields of usual requests.
var (
	get  = []string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/"}
	post = []string{":method", "POST", ":scheme", "http", ":authority", "a.test", ":path", "/"}
)

func with(fields []string, more ...string) []string {
	return append(append([]string{}, fields...), more...)
}

// open sends a request's head that does not end the stream, and returns the stream's number.
func (c *raw) open(fields ...string) uint32 {
	c.t.Helper()
	return c.head(0, fields)
}

// get sends a request without a body.
func (c *raw) get(fields ...string) uint32 {
	c.t.Helper()
	return c.head(xhttp2.FlagHeadersEndStream, fields)
}

func (c *raw) head(flags xhttp2.Flags, fields []string) uint32 {
	c.t.Helper()
	id := c.next
	c.next += 2
	c.section(id, flags, c.block(fields...))
	return id
}

// section sends a header block, in as many frames as it takes.
func (c *raw) section(id uint32, flags xhttp2.Flags, block []byte) {
	c.t.Helper()
	first := block[:min(len(block), 16<<10)]
	rest := block[len(first):]
	c.do(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{
		StreamID: id, BlockFragment: first, EndHeaders: len(rest) == 0, EndStream: flags.Has(xhttp2.FlagHeadersEndStream),
	}))
	for len(rest) > 0 {
		part := rest[:min(len(rest), 16<<10)]
		rest = rest[len(part):]
		c.do(c.fr.WriteContinuation(id, len(rest) == 0, part))
	}
}

// answer waits for the end of a stream and returns its final head, body and trailers.
func (c *raw) answer(id uint32) (head event, body []byte, trailers event) {
	c.t.Helper()
	c.wait(fmt.Sprintf("the answer on stream %d", id), func(events []event, _ bool) bool {
		head, body, trailers = event{}, nil, event{}
		for _, e := range events {
			switch {
			case e.StreamID != id:
				continue
			case e.Type == xhttp2.FrameRSTStream:
				c.t.Fatalf("stream %d was reset: %v", id, e)
			case e.Type == xhttp2.FrameHeaders && head.fields == nil && !strings.HasPrefix(e.field(":status"), "1"):
				head = e
			case e.Type == xhttp2.FrameHeaders && head.fields != nil:
				trailers = e
			}
			body = append(body, e.data...)
			if e.ends() {
				return true
			}
		}
		return false
	})
	return head, body, trailers
}

// reset waits for RST_STREAM, and returns its code.
func (c *raw) reset(id uint32) xhttp2.ErrCode {
	c.t.Helper()
	e := c.expect(fmt.Sprintf("RST_STREAM on %d", id), func(e event) bool {
		if e.StreamID == id && e.Type == xhttp2.FrameHeaders {
			c.t.Fatalf("stream %d was answered: %v", id, e)
		}
		return e.StreamID == id && e.Type == xhttp2.FrameRSTStream
	})
	return e.code
}

// goAway waits for GOAWAY and for the end of the connection.
func (c *raw) goAway() event {
	c.t.Helper()
	e := c.expect("GOAWAY", func(e event) bool { return e.Type == xhttp2.FrameGoAway })
	c.ended()
	return e
}

// ended waits for the end of the connection.
func (c *raw) ended() {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(c.patience):
		c.t.Fatal("the connection did not end")
	}
}

// sync waits until the peer has read everything that was sent before.
func (c *raw) sync() {
	c.t.Helper()
	data := [8]byte{'s', 'y', 'n', 'c', byte(c.next >> 8), byte(c.next)}
	c.do(c.fr.WritePing(false, data))
	c.expect("the answer to PING", func(e event) bool { return e.Type == xhttp2.FramePing && e.ping == data })
}

// count is the number of events that are as f says.
func (c *raw) count(f func(event) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if f(e) {
			n++
		}
	}
	return n
}

// pair returns two ends of a TCP connection over the loopback interface.
func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			close(accepted)
			return
		}
		accepted <- c
	}()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, ok := <-accepted
	if !ok {
		t.Fatal("not accepted")
	}
	return a, b
}

// dial serves one end of a connection with run, and returns a raw client at the other.
func dial(t testing.TB, run program, settings ...xhttp2.Setting) *raw {
	t.Helper()
	return dialTo(t, newServer(t, defaults(), run), settings...)
}

func dialTo(t testing.TB, v *server, settings ...xhttp2.Setting) *raw {
	t.Helper()
	a, b := pair(t)
	v.serve(b)
	return newRaw(t, a, settings...)
}
