package http2

import (
	"io"
	"os"
	"sync"

	"podlane.dev/podlane/proxy/exchange"
)

// The sizes of chunks: a short body takes a small one.
const (
	smallChunk = 2 << 10
	largeChunk = 16 << 10
)

// chunk is memory for DATA that was received and not pulled yet.
type chunk struct {
	next *chunk
	w    int // b[:w] was received
	b    []byte
}

var (
	smallChunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, largeChunk)} }}
)

func (c *chunk) free() {
	c.next, c.w = nil, 0
	if len(c.b) == smallChunk {
		smallChunks.Put(c)
		return
	}
	largeChunks.Put(c)
}

// body is the receiving half of a stream. It implements exchange.Body: what Next returns lies in a chunk until the next call, and only
// then is the window given back, so that a peer sends no faster than the body is pulled. All is guarded by the connection's lock.
type body struct {
	s           *stream
	first, last *chunk
	cur         *chunk // being read; first, unless the body is marked
	at          int    // cur.b[:at] was given out
	marked      bool
	handed      int   // bytes of the last Next, whose window is still owed
	length      int64 // what Length says
	declared    int64 // Content-Length, or -1
	received    int64
	read        int64 // bytes given out
	unpaid      int   // bytes received for which the connection's window was not given back

	window int // what the peer may still send
	size   int // of the window
	owed   int // bytes that were pulled and not given back yet

	done    bool // the peer has ended the stream
	err     error
	stopped bool
	ready   sync.Cond
	tail    trailers
	hasTail bool
	// trailers receives the trailer section.
	trailers *exchange.Fields
}

// begin makes b ready for a new stream.
func (b *body) begin(s *stream, window int) {
	tail := b.tail
	tail.reset()
	*b = body{s: s, length: -1, declared: -1, window: window, size: window, tail: tail}
	b.ready.L = &s.l.mu
}

// Length implements exchange.Body.
func (b *body) Length() int64 { return b.length }

// Next implements exchange.Body. Errors: io.EOF at the end, os.ErrDeadlineExceeded after InterruptRead, ErrReset or another error of
// this package where the stream was broken before its end.
func (b *body) Next() ([]byte, error) {
	l := b.s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	b.release()
	for {
		switch {
		case b.stopped:
			return nil, os.ErrDeadlineExceeded
		case b.err != nil:
			return nil, b.err
		case b.cur != nil && b.at < b.cur.w:
			p := b.cur.b[b.at:b.cur.w]
			b.at = b.cur.w
			b.handed = len(p)
			b.read += int64(len(p))
			return p, nil
		case b.done:
			if b.hasTail && b.trailers != nil {
				b.tail.fill(b.trailers)
			}
			return nil, io.EOF
		}
		b.ready.Wait()
	}
}

// Ready reports whether the next call of Next will not wait for the peer.
func (b *body) Ready() bool {
	l := b.s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.done || b.err != nil || b.cur != nil && (b.at < b.cur.w || b.cur.next != nil)
}

// release takes back what the last Next has given out.
func (b *body) release() {
	if b.handed > 0 {
		b.credit(b.handed)
		b.handed = 0
	}
	if b.cur == nil || b.at < b.cur.w {
		return
	}
	c := b.cur
	b.cur, b.at = c.next, 0
	if b.marked {
		return
	}
	b.first = c.next
	if b.first == nil {
		b.last = nil
	}
	c.free()
}

// credit gives window back for n bytes that were pulled. While the puller keeps up, the stream's window grows.
func (b *body) credit(n int) {
	l := b.s.l
	paid := min(n, b.unpaid)
	b.unpaid -= paid
	l.credit(paid)
	grow := 0
	if drained := b.cur == nil || b.at == b.cur.w && b.cur.next == nil; drained {
		grow = min(b.size, l.o.MaxStreamWindow-b.size)
	}
	b.giveBack(n, grow)
}

// giveBack gives the stream's window back, larger by up to grow, when enough has come together to be worth a frame.
func (b *body) giveBack(n, grow int) {
	l := b.s.l
	if b.done || b.err != nil || !b.s.open {
		return
	}
	b.owed += n
	if b.owed < b.size/2 || b.declared >= 0 && b.declared-b.received <= int64(b.window) {
		return
	}
	if grow > 0 && (l.o.Grow == nil || l.o.Grow()) {
		b.size += grow
		b.owed += grow
	}
	b.window += b.owed
	l.windowUpdate(b.s.id, b.owed)
	b.owed = 0
}

// put takes received bytes in.
func (b *body) put(p []byte) {
	if l := b.s.l; l.pod {
		l.credit(len(p))
	} else {
		b.unpaid += len(p)
	}
	b.received += int64(len(p))
	for len(p) > 0 {
		c := b.last
		if c == nil || c.w == len(c.b) {
			c = b.grow(len(p))
		}
		n := copy(c.b[c.w:], p)
		c.w += n
		p = p[n:]
	}
	b.ready.Broadcast()
}

// grow appends a chunk: a small one where a few bytes come first.
func (b *body) grow(n int) *chunk {
	var c *chunk
	if b.last == nil && n <= smallChunk {
		c = smallChunks.Get().(*chunk)
	} else {
		c = largeChunks.Get().(*chunk)
	}
	if b.last == nil {
		b.first = c
	} else {
		b.last.next = c
	}
	b.last = c
	if b.cur == nil {
		b.cur, b.at = c, 0
	}
	return c
}

// end says that the peer has ended the stream.
func (b *body) end() {
	b.done = true
	b.ready.Broadcast()
}

// fail makes a body that is not complete a broken one.
func (b *body) fail(err error) {
	if b.done || b.err != nil {
		return
	}
	b.err = err
	b.ready.Broadcast()
}

// discard drops what was received and not pulled. What the last Next has given out stays valid.
func (b *body) discard() {
	b.s.l.credit(b.unpaid)
	b.unpaid = 0
	for c := b.first; c != nil; {
		next := c.next
		if c != b.cur || b.handed == 0 {
			c.free()
		}
		c = next
	}
	b.first, b.last, b.cur, b.handed, b.marked = nil, nil, nil, 0, false
}

// fitSize bounds a body that is read before anything is sent on, and kept so that it can be sent again.
const fitSize = 16 << 10

// fits reports whether the body's length is known and small.
func (b *body) fits() bool { return b.length >= 0 && b.length <= fitSize }

// whole reports whether all of the body has arrived, with the end of the stream.
func (b *body) whole() bool {
	l := b.s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.done
}

// fill waits until more has arrived.
func (b *body) fill() error {
	l := b.s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for have := b.received; b.received == have && !b.done; b.ready.Wait() {
		switch {
		case b.stopped:
			return os.ErrDeadlineExceeded
		case b.err != nil:
			return b.err
		}
	}
	return nil
}

// mark remembers a body that is whole, so that rewind can give it out again. What it holds is from now on the stream's, and the
// connection's window for it is given back.
func (b *body) mark() {
	l := b.s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	b.marked = true
	l.credit(b.unpaid)
	b.unpaid = 0
}

// rewind makes a marked body begin anew.
func (b *body) rewind() {
	l := b.s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	b.cur, b.at, b.handed, b.read = b.first, 0, 0, 0
}

// buffered is the number of bytes that were received and not pulled.
func (b *body) buffered() int {
	l := b.s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(b.received - b.read)
}

// pulled is the number of bytes that were given out, and complete whether they were all there are.
func (b *body) pulled() (n int64, complete bool) {
	l := b.s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.read, b.done && b.read == b.received
}
