package proxy

import (
	"io"

	"podlane.dev/podlane/proxy/exchange"
)

// pace waits until b may be pulled. Meanwhile the goroutine waits for nothing but time: the sweeper, which looks at its word as at any
// other, is its clock, and an abort its only other interrupt. A client that has gone away is noticed by the write that follows, and the Pod,
// whose bytes nobody takes, is held back by its own socket. What is buffered leaves first.
func (s *session) pace(b exchange.Paced) error {
	c := s.c
	for wait := b.Wait(); wait > 0; wait = b.Wait() {
		if err := c.srv.Flush(); err != nil {
			return err
		}
		wake := c.waker()
		if c.enter(pacing, wait) != unmarked {
			return clientError{io.ErrShortWrite}
		}
		// Either abort sees what waker made, or its mark is seen here.
		if !c.aborted.Load() {
			<-wake
		}
		c.enter(writingClient, s.e.timeouts.Stall)
		if c.aborted.Load() {
			return clientError{io.ErrClosedPipe}
		}
	}
	return nil
}

// waker returns the channel by which the call's goroutine is woken from a pause; the first pause makes it, because few calls ever pause.
// A token that comes when nobody pauses makes a later pause look at its time once more, and does nothing else.
func (c *call) waker() <-chan struct{} {
	if w := c.wake.Load(); w != nil {
		return *w
	}
	w := make(chan struct{}, 1)
	c.wake.Store(&w)
	return w
}

// rouse ends the pause of the call's goroutine. Any goroutine may call it.
func (c *call) rouse() {
	if w := c.wake.Load(); w != nil {
		select {
		case *w <- struct{}{}:
		default:
		}
	}
}
