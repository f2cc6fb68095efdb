package floods_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// raw is one connection of HTTP/2 over TLS whose frames a test writes itself.
type raw struct {
	tc    *tls.Conn
	began time.Time
	next  uint32 // stream
	hp    bytes.Buffer
	enc   *hpack.Encoder

	writing sync.Mutex
	out     *bufio.Writer
	fr      *http2.Framer

	keys    *records // nil where crypto/tls sends
	listens bool     // it stops to write, and must be told why it is ended

	greeted chan struct{} // closed when the proxy's SETTINGS have come and were acknowledged

	ended chan struct{} // closed when nothing more is read
	mu    sync.Mutex
	code  string        // of GOAWAY
	lived time.Duration // until the end
	heads map[uint32]string
	bytes map[uint32]int
	done  map[uint32]bool
	reset map[uint32]http2.ErrCode
	pongs int
	// onData, where it is set, is told of every DATA frame, before it is counted; it is called by the reader alone.
	onData func(stream uint32, size int)
}

// stillOpen stands for the code of a connection that nobody ended.
const stillOpen = "nobody"

// caller makes connections to an engine; rekeys says that they send under keys of their own.
type caller struct {
	addr   string
	rekeys bool
}

// dial connects. What comes is read and noted, and SETTINGS are acknowledged.
func (l caller) dial(ctx context.Context, settings ...http2.Setting) (*raw, error) {
	c, err := l.dialDeaf(ctx, settings...)
	if err != nil {
		return nil, err
	}
	c.ended = make(chan struct{})
	go c.read()
	select {
	case <-c.greeted: // what follows may be a header block, which nothing may interrupt
	case <-c.ended:
	}
	return c, nil
}

// dialDeaf connects one that reads nothing.
func (l caller) dialDeaf(ctx context.Context, settings ...http2.Setting) (*raw, error) {
	d := &net.Dialer{Timeout: patience}
	nc, err := d.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	var secrets bytes.Buffer
	config := &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{"h2"}} //nolint:gosec // the engine's own default certificate
	if l.rekeys {
		config.KeyLogWriter = &secrets
	}
	tc := tls.Client(nc, config)
	_ = tc.SetDeadline(time.Now().Add(outlived()))
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	c := &raw{
		tc: tc, began: time.Now(), next: 1, out: bufio.NewWriterSize(tc, 8<<10), greeted: make(chan struct{}), ended: make(chan struct{}),
		heads: map[uint32]string{}, bytes: map[uint32]int{}, done: map[uint32]bool{}, reset: map[uint32]http2.ErrCode{},
	}
	if l.rekeys {
		if c.keys, err = newRecords(tc, &secrets); err != nil {
			nc.Close()
			return nil, err
		}
		c.out.Reset(c.keys)
	}
	c.enc = hpack.NewEncoder(&c.hp)
	c.fr = http2.NewFramer(c.out, tc)
	c.fr.AllowIllegalWrites = true
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, _ = c.out.WriteString(http2.ClientPreface)
	close(c.ended)
	return c, errors.Join(c.fr.WriteSettings(settings...), c.flush())
}

// client is dial for one that is nobody's attacker: it must come about.
func (r *rig) client(settings ...http2.Setting) *raw {
	r.t.Helper()
	c, err := caller{addr: r.addr}.dial(r.t.Context(), settings...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.close)
	return c
}

func (c *raw) close() {
	_ = c.tc.NetConn().Close()
	<-c.ended
}

// read notes what comes, until the end.
func (c *raw) read() {
	defer close(c.ended)
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			if _, ok := errors.AsType[http2.StreamError](err); ok {
				continue
			}
			c.mu.Lock()
			c.lived = time.Since(c.began)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				c.code = stillOpen
			case c.code == "":
				c.code = kindOf(err)
			}
			c.mu.Unlock()
			return
		}
		c.note(f)
	}
}

func (c *raw) note(f http2.Frame) {
	id := f.Header().StreamID
	if d, ok := f.(*http2.DataFrame); ok && c.onData != nil {
		c.onData(id, len(d.Data()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = c.write(func() error { return c.fr.WriteSettingsAck() }) // nobody else writes yet
			close(c.greeted)
		}
	case *http2.GoAwayFrame:
		c.code = f.ErrCode.String()
	case *http2.MetaHeadersFrame:
		c.heads[id] = f.PseudoValue("status")
		c.done[id] = c.done[id] || f.StreamEnded()
	case *http2.DataFrame:
		c.bytes[id] += len(f.Data())
		c.done[id] = c.done[id] || f.StreamEnded()
	case *http2.PingFrame:
		if f.IsAck() {
			c.pongs++
		}
	case *http2.RSTStreamFrame:
		c.reset[id] = f.ErrCode
	}
}

// write writes frames, and sends them with what else has gathered when it is more than a buffer holds.
func (c *raw) write(f func() error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return errors.Join(f(), c.out.Flush())
}

// gather writes frames, which are sent when the buffer is full.
func (c *raw) gather(f func() error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return f()
}

func (c *raw) flush() error { return c.write(func() error { return nil }) }

// block is a header block of names and values.
func (c *raw) block(fields ...string) []byte {
	c.hp.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.hp.Bytes())
}

// fieldsOf are the pseudo-header fields of a request.
func fieldsOf(method, path string) []string {
	return []string{":method", method, ":scheme", "https", ":authority", host, ":path", path}
}

// stream is a new one.
func (c *raw) stream() uint32 {
	c.next += 2
	return c.next - 2
}

// open begins a request, which has a body where it is a POST, and returns its stream.
func (c *raw) open(method, path string, more ...string) (uint32, error) {
	id := c.stream()
	block := c.block(append(fieldsOf(method, path), more...)...)
	return id, c.gather(func() error {
		return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: method == "GET", BlockFragment: block})
	})
}

// answered is how an answer that has come whole began, "" before.
func (c *raw) answered(id uint32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done[id] {
		return ""
	}
	return c.heads[id]
}

// received is how many bytes of a body have come.
func (c *raw) received(id uint32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes[id]
}

// ponged is how many PINGs were answered.
func (c *raw) ponged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pongs
}

// isOpen reports whether the connection is.
func (c *raw) isOpen() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// get makes a request that must succeed.
func (c *raw) get(t *testing.T, path string, more ...string) {
	t.Helper()
	id, err := c.open("GET", path, more...)
	if err = errors.Join(err, c.flush()); err != nil {
		t.Fatal(err)
	}
	await(t, "the answer to "+path, func() bool { return c.answered(id) != "" || !c.isOpen() })
	if status := c.answered(id); status != "200" {
		t.Fatalf("%s: %q, GOAWAY %s", path, status, c.code)
	}
}

// outlast waits until the connection has ended without reading from it.
func (c *raw) outlast() {
	c.code = stillOpen
	sc, err := c.tc.NetConn().(*net.TCPConn).SyscallConn()
	for end := c.began.Add(outlived()); err == nil && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		err = sc.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			if n, err := unix.Poll(p, 0); err == nil && n > 0 {
				c.code = "unread"
			}
		})
		if c.code != stillOpen {
			break
		}
	}
	c.lived = time.Since(c.began)
}

// kindOf is an error without the addresses, which differ each time.
func kindOf(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
