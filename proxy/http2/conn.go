package http2

import (
	"bytes"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Conn is one HTTP/2 connection of a client. One goroutine calls Serve, one Sweep; the other methods may be called from any.
type Conn struct {
	link
	clock Clock
	start func(*Stream)

	// The reader's own.
	head    *requestHead // of the next request
	tail    *trailers    // of the present block
	addHead func(hpack.HeaderField)
	addTail func(hpack.HeaderField)
	fresh   []*Stream // opened, and not begun before the reader has read all that is here

	// Guarded by the lock.
	free    []*Stream // whose goroutines wait for the next request
	idlest  int       // the least length of free since Sweep looked last
	leaving leaving
	leftAt  time.Duration // of the sweeper
	late    []uint32      // streams whose answers are complete and whose RST_STREAM is to be sent
	lateDue int           // how many of them have waited since Sweep looked last

	lateness atomic.Int32 // len(late), for Sweep
}

// NewConn returns the codec of an accepted connection. clock may be shared by any number of Conns.
func NewConn(nc net.Conn, o Options, clock Clock) *Conn {
	c := &Conn{clock: clock}
	c.init(nc, o.withDefaults(), c)
	c.head, c.tail = new(requestHead), new(trailers)
	c.addHead, c.addTail = c.headField, c.tailField
	c.in.settle = c.settle
	return c
}

// Serve reads frames until the connection ends; first are bytes of it that were read already. begin is called for every request whose head
// is complete, on a goroutine of its own, which is used again; the stream ends when begin returns. begin must not panic. When Serve
// returns, every begin has returned. An orderly end is no error. The socket itself is the caller's to close.
func (c *Conn) Serve(first []byte, begin func(*Stream)) error {
	c.start = begin
	c.in.init(c.nc, first)
	defer c.release()
	err := c.greetClient()
	if err == nil {
		err = c.run()
	}
	c.dropFresh()
	return c.conclude(err)
}

// release ends what the connection's goroutine does not own: it also runs where the reader has panicked.
func (c *Conn) release() {
	c.kill()
	c.end(ErrConnection)
	c.mu.Lock()
	c.unpark(len(c.free))
	c.free = nil
	c.mu.Unlock()
	c.tasks.Wait()
	c.in.close()
}

// greetClient sends our SETTINGS and reads the client's preface (RFC 9113 section 3.4).
func (c *Conn) greetClient() error {
	settings := []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.o.MaxStreams)}}
	if c.o.ExtendedConnect {
		settings = append(settings, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	}
	c.mu.Lock()
	c.greet(settings...)
	c.unlockAndFlush()
	for want := []byte(http2.ClientPreface); len(want) > 0; {
		p, err := c.in.some(len(want))
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(want, p) {
			return errPreface
		}
		c.in.r += len(p)
		want = want[len(p):]
	}
	h, err := c.fr.ReadFrameHeader()
	if err != nil {
		return err
	}
	if h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck) {
		return errFirst
	}
	if err := c.frame(h); err != nil {
		return err
	}
	c.mu.Lock()
	c.rest()
	c.mu.Unlock()
	return nil
}

func (c *Conn) headField(f hpack.HeaderField) {
	c.head.field(f)
	if c.head.done() {
		c.dec.SetEmitEnabled(false)
	}
}

func (c *Conn) tailField(f hpack.HeaderField) { c.tail.field(f) }

// section implements side: the head of a request, or the trailers of one.
func (c *Conn) section(b *block) error {
	c.dec.SetEmitEnabled(true)
	c.mu.Lock()
	s := c.streams.find(b.id)
	known := b.id <= c.maxID
	c.mu.Unlock()
	switch {
	case s != nil:
		return c.trailers(s.server, b)
	case b.id%2 == 0:
		return errStreamID
	case known:
		return c.lateBlockFor(b)
	}
	c.head.begin(&c.o)
	c.dec.SetEmitFunc(c.addHead)
	if err := c.decode(b); err != nil {
		return err
	}
	c.head.end()
	return c.open(b)
}

// open makes a stream of a request whose head was read.
func (c *Conn) open(b *block) error {
	h := c.head
	c.mu.Lock()
	defer c.mu.Unlock()
	c.maxID = max(c.maxID, b.id)
	c.guard.moved(len(b.fragment))
	bad := h.malformed || b.endStream() && h.length > 0 && h.reject == nil
	switch {
	case c.leaving == left || c.mute():
		// RFC 9113 section 6.8: streams above the number in GOAWAY are ignored.
		return nil
	case bad || b.dependsOn == b.id:
		return c.refuseFault(b.id, http2.ErrCodeProtocol)
	case c.streams.len >= c.o.MaxStreams || c.active >= 2*c.o.MaxStreams:
		if c.unacked.Load() != 0 {
			// The client may not know the limit yet.
			c.recent.add(b.id, byReset)
			c.refuse(b.id, http2.ErrCodeRefusedStream)
			return nil
		}
		return c.refuseFault(b.id, http2.ErrCodeRefusedStream)
	}
	if c.lapsed == errIdle {
		// It had been read when the sweeper found the connection idle: taken now, it has to be answered.
		c.lapsed = nil
		_ = c.nc.SetReadDeadline(never)
	}
	var s *Stream
	if n := len(c.free); n > 0 {
		s = c.free[n-1]
		c.free = c.free[:n-1]
		c.idlest = min(c.idlest, n-1)
	} else {
		c.idlest = 0
		s = new(Stream)
		s.server, s.c, s.head = s, c, new(requestHead)
	}
	c.active++
	s.head, c.head = h, s.head
	s.begin(&c.link)
	s.enroll(b.id)
	s.body.declared, s.body.done = h.length, b.endStream()
	c.rest()
	c.fresh = append(c.fresh, s)
	return nil
}

// refuseFault resets a stream that never was. The lock is held.
func (c *Conn) refuseFault(id uint32, code http2.ErrCode) error {
	c.recent.add(id, byReset)
	c.refuse(id, code)
	return c.guard.reset()
}

// trailers takes the trailer section of a request, with which it ends.
func (c *Conn) trailers(s *Stream, b *block) error {
	c.mu.Lock()
	done := s.body.done
	c.mu.Unlock()
	t := c.tail
	t.begin(&c.o)
	c.dec.SetEmitFunc(c.addTail)
	if err := c.decode(b); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !s.open:
		return nil
	case done:
		return http2.StreamError{StreamID: b.id, Code: http2.ErrCodeStreamClosed}
	case t.malformed || !b.endStream() || b.dependsOn == b.id:
		return http2.StreamError{StreamID: b.id, Code: http2.ErrCodeProtocol}
	}
	c.guard.moved(len(b.fragment))
	s.body.tail, *t = *t, s.body.tail
	s.body.hasTail = true
	return c.endBody(&s.stream)
}
