package http2

import (
	"bytes"
	"net"
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
	head      *requestHead // of the next request
	tail      *trailers    // of the present block
	addHead   func(hpack.HeaderField)
	addTail   func(hpack.HeaderField)
	skipField func(hpack.HeaderField)
	fresh     []*Stream // opened, and not begun before the reader has read all that is here

	// Guarded by the lock.
	free    []*Stream // whose goroutines wait for the next request
	idlest  int       // the least length of free since Sweep looked last
	leaving leaving
	leftAt  time.Duration // of the sweeper
}

// leaving is how far a shutdown has come.
type leaving uint8

const (
	staying leaving = iota
	warned          // GOAWAY with the highest number is out: requests that are under way are still served
	left            // GOAWAY with the last stream's number is out
)

// NewConn returns the codec of an accepted connection. clock may be shared by any number of Conns.
func NewConn(nc net.Conn, o Options, clock Clock) *Conn {
	c := &Conn{clock: clock}
	c.init(nc, o, c)
	c.head, c.tail = new(requestHead), new(trailers)
	c.addHead, c.addTail = c.headField, c.tailField
	c.skipField = func(hpack.HeaderField) {}
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

// settle begins the streams that were opened, and sends what the reader has to say: it has read all that is here. A stream that the
// client has reset by then costs nothing more.
func (c *Conn) settle() {
	c.mu.Lock()
	begin := c.fresh[:0]
	for _, s := range c.fresh {
		if s.broken == nil {
			begin = append(begin, s)
			continue
		}
		s.body.discard()
		c.active--
		if s.wake != nil {
			c.free = append(c.free, s)
		}
		c.stepped()
	}
	c.unlockAndFlush()
	for _, s := range begin {
		c.dispatch(s)
	}
	clear(c.fresh)
	c.fresh = c.fresh[:0]
}

// dropFresh gives up streams that were opened and not begun when the connection failed.
func (c *Conn) dropFresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.fresh {
		c.active--
		if s.wake != nil {
			c.free = append(c.free, s)
		}
	}
	c.fresh = nil
}

// dispatch begins a stream on its goroutine.
func (c *Conn) dispatch(s *Stream) {
	if s.wake != nil {
		s.wake <- struct{}{}
		return
	}
	s.wake = make(chan struct{}, 1)
	c.tasks.Add(1)
	go c.work(s)
}

// work is the goroutine of a stream, and of those that use it again.
func (c *Conn) work(s *Stream) {
	defer c.tasks.Done()
	for again := true; again; _, again = <-s.wake {
		c.start(s)
		if !c.finished(s) {
			return
		}
	}
}

// finished ends a stream whose request was served, and reports whether its goroutine is kept for another.
func (c *Conn) finished(s *Stream) bool {
	c.mu.Lock()
	for s.calling {
		s.send.ready.Wait()
	}
	s.gone = nil
	if s.open {
		code := http2.ErrCodeInternal
		if s.localDone {
			// The answer is complete and the request is not: its rest is not wanted (RFC 9113 section 8.1).
			code = http2.ErrCodeNo
			c.guard.completed()
		}
		c.reset(&s.stream, code)
	}
	s.body.discard()
	c.active--
	keep := !c.mute()
	if keep {
		c.free = append(c.free, s)
	}
	c.stepped()
	c.unlockAndFlush()
	return keep
}

// unpark ends the goroutines of n streams that wait. The lock is held.
func (c *Conn) unpark(n int) {
	for _, s := range c.free[len(c.free)-n:] {
		close(s.wake)
	}
	clear(c.free[len(c.free)-n:])
	c.free = c.free[:len(c.free)-n]
}

// stepped implements side: streams have become fewer.
func (c *Conn) stepped() {
	c.rest()
	if c.leaving == left && c.streams.len == 0 && c.active == 0 && !c.mute() {
		c.closing = true
		c.enter(lingering)
		c.flush()
	}
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
		return c.lateHeaders(b)
	}
	c.head.begin(&c.o)
	c.dec.SetEmitFunc(c.addHead)
	if err := c.decode(b); err != nil {
		return err
	}
	c.head.end()
	return c.open(b)
}

// lateHeaders takes a header block for a stream that is not open any more.
func (c *Conn) lateHeaders(b *block) error {
	c.dec.SetEmitFunc(c.skipField)
	c.dec.SetEmitEnabled(false)
	if err := c.decode(b); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.recent.how(b.id) {
	case byReset:
		return c.guard.idle()
	case ended:
		return errClosedStream
	}
	return errStreamID
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
	s.stream.begin(&c.link, b.id)
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

// pong implements side.
func (c *Conn) pong(data [8]byte) {
	if data == lastCall {
		c.leave()
	}
}

// goAway implements side. A client that goes away closes the connection when it has its answers.
func (c *Conn) goAway(uint32, http2.ErrCode) {}

// setting implements side.
func (c *Conn) setting(http2.Setting) {}

// lastCall is the PING of a shutdown: when it is answered, the client has read the first GOAWAY.
var lastCall = [8]byte{'l', 'a', 's', 't', 'c', 'a', 'l', 'l'}

// Shutdown ends the connection as soon as its streams have ended: it tells the client to open no more, serves what is under way
// meanwhile, and a round trip or a second later takes nothing new.
func (c *Conn) Shutdown() {
	c.mu.Lock()
	defer c.unlockAndFlush()
	if c.leaving != staying || c.mute() {
		return
	}
	c.leaving = warned
	_ = c.fr.WriteGoAway(maxWindow, http2.ErrCodeNo, nil)
	_ = c.fr.WritePing(false, lastCall)
}

// leave is the second step of a shutdown.
func (c *Conn) leave() {
	c.mu.Lock()
	defer c.unlockAndFlush()
	if c.leaving != warned || c.mute() {
		return
	}
	c.leaving = left
	_ = c.fr.WriteGoAway(c.maxID, http2.ErrCodeNo, nil)
	c.stepped()
}

// Idle reports whether no request is being served.
func (c *Conn) Idle() bool { return c.Streams() == 0 }

// Streams is the number of requests that are being served.
func (c *Conn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active
}

// Close ends the connection at once.
func (c *Conn) Close() { c.kill() }

// Sweep keeps the connection's times. One goroutine calls it again and again, with the time on a clock of its choice; the times
// are as precise as the calls are frequent. It never waits.
func (c *Conn) Sweep(now time.Duration) {
	if !c.sweepLink(now) {
		return
	}
	c.mu.Lock()
	if n := min(c.idlest, len(c.free)); n > 0 {
		c.unpark(n)
	}
	c.idlest = len(c.free)
	if c.streams.len == 0 && c.active == 0 && c.out.parked && len(c.out.buf) == 0 {
		c.out.retire = true
	}
	last := false
	if c.leaving == warned {
		last = c.leftAt != 0
		c.leftAt = now
	}
	c.unlockAndFlush()
	if last {
		c.leave()
	}
}
