package http2

import (
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// ClientConn is one HTTP/2 connection to a Pod, which many requests use at the same time. One goroutine calls Serve, one Sweep; the other
// methods may be called from any.
type ClientConn struct {
	link
	reads   atomic.Uint32 // how often bytes have come
	greeted chan struct{} // closed when the Pod's SETTINGS have come, or never will

	// The reader's own.
	head    *responseHead // of the present block
	tail    *trailers
	addHead func(hpack.HeaderField)
	addTail func(hpack.HeaderField)

	// Guarded by the lock.
	limit  int // streams that the Pod allows
	held   int // ClientStreams that are in use
	leaves bool
	free   []*ClientStream

	// The sweeper's own.
	silent timer
	asked  bool // a PING is under way
}

// limitBefore is how many streams a Pod is taken to allow before its SETTINGS say so (RFC 9113 section 6.5.2 recommends it as the least).
const limitBefore = 100

// NewClientConn returns the codec of a fresh connection to a Pod.
func NewClientConn(nc net.Conn, o Options) *ClientConn {
	c := &ClientConn{limit: limitBefore, tail: new(trailers), greeted: make(chan struct{})}
	c.init(nc, o.withPodDefaults(), c)
	c.pod, c.guard.trusts = true, true
	c.addHead, c.addTail = c.headField, func(f hpack.HeaderField) { c.tail.field(f) }
	c.in.settle = c.settle
	c.out.hold()
	c.out.buf = append(c.out.buf, http2.ClientPreface...)
	c.greet(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	return c
}

func (c *ClientConn) settle() {
	c.reads.Add(1)
	c.mu.Lock()
	c.unlockAndFlush()
}

// Serve sends our preface and reads frames until the connection ends. An orderly end is no error. The socket itself is the caller's to
// close. Streams may be opened before Serve is called.
func (c *ClientConn) Serve() error {
	c.in.init(c.nc, nil)
	defer c.release()
	// Some Pods say nothing before they have read our preface.
	c.mu.Lock()
	c.unlockAndFlush()
	err := c.greetPod()
	if err == nil {
		close(c.greeted)
		err = c.run()
	}
	return c.conclude(err)
}

// release ends what the connection's goroutine does not own: it also runs where the reader has panicked.
func (c *ClientConn) release() {
	c.kill()
	c.end(ErrConnection)
	c.tasks.Wait()
	c.in.close()
	select {
	case <-c.greeted:
	default:
		close(c.greeted)
	}
}

// Greeted is closed when the Pod has said that it speaks HTTP/2 and how many streams it allows, or when the connection has ended before.
func (c *ClientConn) Greeted() <-chan struct{} { return c.greeted }

// Limit is the number of streams that the Pod allows.
func (c *ClientConn) Limit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit
}

// greetPod reads the Pod's SETTINGS.
func (c *ClientConn) greetPod() error {
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

// Open takes one of the streams that the Pod allows. Errors: ErrFull, and ErrLeaving where the connection takes no more requests.
func (c *ClientConn) Open() (*ClientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.leaves || c.lapsed != nil || c.mute() || c.maxID > maxWindow-2:
		return nil, ErrLeaving
	case c.streams.len >= c.limit:
		return nil, ErrFull
	}
	var s *ClientStream
	if n := len(c.free); n > 0 {
		s = c.free[n-1]
		c.free[n-1] = nil
		c.free = c.free[:n-1]
	} else {
		s = new(ClientStream)
		s.client, s.c = s, c
	}
	s.begin(&c.link)
	s.enroll(0)
	c.held++
	c.active++
	c.rest()
	return s, nil
}

// Room is the number of streams that Open would give now.
func (c *ClientConn) Room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaves || c.lapsed != nil || c.mute() {
		return 0
	}
	return max(0, c.limit-c.streams.len)
}

// Streams is the number of streams that are in use.
func (c *ClientConn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// Usable reports whether the connection takes requests, now or when others have ended.
func (c *ClientConn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.leaves && c.lapsed == nil && !c.mute()
}

// Shutdown takes no more streams, and ends the connection when the last has ended.
func (c *ClientConn) Shutdown() {
	c.mu.Lock()
	c.leaves = true
	c.stepped()
	c.unlockAndFlush()
}

// Close ends the connection at once.
func (c *ClientConn) Close() { c.kill() }

// stepped implements side: streams have become fewer.
func (c *ClientConn) stepped() {
	c.rest()
	if c.leaves && c.held == 0 && c.streams.len == 0 && !c.mute() {
		c.farewell(http2.ErrCodeNo, "")
	}
}

// pong implements side.
func (c *ClientConn) pong([8]byte) {}

// goAway implements side. Streams above the last that the Pod names were not processed; those up to it go on.
func (c *ClientConn) goAway(last uint32, _ http2.ErrCode) {
	c.mu.Lock()
	c.leaves = true
	for {
		var late *stream
		c.streams.each(func(s *stream) {
			if s.id > last {
				late = s
			}
		})
		if late == nil {
			break
		}
		late.fail(ErrRefused)
		c.close(late, byReset)
	}
	c.stepped()
	c.unlockAndFlush()
}

// setting implements side.
func (c *ClientConn) setting(s http2.Setting) {
	if s.ID == http2.SettingMaxConcurrentStreams {
		c.mu.Lock()
		c.limit = int(min(s.Val, 1<<20))
		c.mu.Unlock()
	}
}

// Sweep keeps the connection's times. One goroutine calls it again and again, with the time on a clock of its choice; the times
// are as precise as the calls are frequent. It never waits.
func (c *ClientConn) Sweep(now time.Duration) {
	closer := c.sweepLink(now)
	if t := &c.o.Timeouts; t.Ping > 0 {
		c.sweepPing(c.silent.age(c.reads.Load(), now))
	}
	if !closer {
		return
	}
	c.mu.Lock()
	if c.held == 0 && c.out.parked && len(c.out.buf) == 0 {
		c.out.retire = true
		c.free = nil
	}
	c.unlockAndFlush()
}

// sweepPing asks a Pod that has been silent for a sign of life, and gives the connection up when none comes.
func (c *ClientConn) sweepPing(silence time.Duration) {
	t := &c.o.Timeouts
	switch {
	case silence <= t.Ping:
		c.asked = false
	case c.asked:
		if t.PingAck > 0 && silence > t.Ping+t.PingAck {
			c.kill()
		}
	default:
		c.mu.Lock()
		if c.held > 0 && !c.mute() {
			c.asked = true
			_ = c.fr.WritePing(false, aliveCall)
		}
		c.unlockAndFlush()
	}
}

var aliveCall = [8]byte{'a', 'l', 'i', 'v', 'e', '?'}

func (c *ClientConn) headField(f hpack.HeaderField) {
	c.head.field(f)
	if c.head.err != nil {
		c.dec.SetEmitEnabled(false)
	}
}

// section implements side: the head of a response, or its trailers.
func (c *ClientConn) section(b *block) error {
	c.dec.SetEmitEnabled(true)
	c.mu.Lock()
	s := c.streams.find(b.id)
	known := b.id <= c.maxID && b.id%2 == 1
	headed := s != nil && s.client.final
	c.mu.Unlock()
	switch {
	case s != nil && headed:
		return c.trailers(s.client, b)
	case s != nil:
		return c.response(s.client, b)
	case known:
		return c.lateBlockFor(b)
	}
	return errStreamID
}

// response takes the head of a response.
func (c *ClientConn) response(s *ClientStream, b *block) error {
	h := responseHeads.Get().(*responseHead)
	h.begin(&c.o)
	c.head = h
	c.dec.SetEmitFunc(c.addHead)
	err := c.decode(b)
	c.head = nil
	if err != nil {
		return err
	}
	h.ends = b.endStream()
	h.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guard.moved(len(b.fragment))
	if !s.open || s.id != b.id {
		responseHeads.Put(h)
		return nil
	}
	if invalid := s.takes(h); invalid != nil {
		responseHeads.Put(h)
		s.fail(invalid)
		c.reset(&s.stream, http2.ErrCodeProtocol)
		return nil
	}
	if h.ends {
		return c.endBody(&s.stream)
	}
	return nil
}

// trailers takes the trailer section of a response, with which it ends.
func (c *ClientConn) trailers(s *ClientStream, b *block) error {
	t := c.tail
	t.begin(&c.o)
	c.dec.SetEmitFunc(c.addTail)
	if err := c.decode(b); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guard.moved(len(b.fragment))
	switch {
	case !s.open || s.id != b.id:
		return nil
	case s.body.done || t.malformed || !b.endStream():
		s.fail(errResponseOrder)
		c.reset(&s.stream, http2.ErrCodeProtocol)
		return nil
	}
	s.body.tail, *t = *t, s.body.tail
	s.body.hasTail = true
	return c.endBody(&s.stream)
}
