package http2

import (
	"slices"

	"golang.org/x/net/http2"
)

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
	switch {
	case !s.open:
	case s.localDone:
		// The answer is complete and the request is not: its rest is not wanted (RFC 9113 section 8.1).
		c.guard.completed()
		c.resetLater(&s.stream)
	default:
		c.reset(&s.stream, http2.ErrCodeInternal)
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

// maxLate is how many resets may be put off.
const maxLate = 128

// resetLater closes a stream whose answer is complete, and puts off the RST_STREAM(NO_ERROR) that tells the client so. A client that reads
// it together with the answer may forget the answer: curl did until version 8. What the client still sends is dropped meanwhile, like
// everything for a stream that was reset. The lock is held.
func (c *Conn) resetLater(s *stream) {
	if len(c.late) >= maxLate {
		c.reset(s, http2.ErrCodeNo)
		return
	}
	c.close(s, byReset)
	c.late = append(c.late, s.id)
	c.lateness.Store(int32(len(c.late)))
}

// sendLate sends the resets that have waited for a whole turn of the sweeper.
func (c *Conn) sendLate() {
	if c.lateness.Load() == 0 {
		return
	}
	c.mu.Lock()
	for _, id := range c.late[:c.lateDue] {
		c.refuse(id, http2.ErrCodeNo)
	}
	c.late = slices.Delete(c.late, 0, c.lateDue)
	c.lateDue = len(c.late)
	c.lateness.Store(int32(len(c.late)))
	c.unlockAndFlush()
}

// unpark ends the goroutines of n streams that wait. The lock is held.
func (c *Conn) unpark(n int) {
	for _, s := range c.free[len(c.free)-n:] {
		close(s.wake)
	}
	clear(c.free[len(c.free)-n:])
	c.free = c.free[:len(c.free)-n]
}
