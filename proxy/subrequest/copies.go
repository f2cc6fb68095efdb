package subrequest

import (
	"context"
	"sync"
	"time"
)

// The bounds of copies.
const (
	maxCopies   = 256
	copyTimeout = 10 * time.Second
)

// copies are requests whose answers nobody waits for.
type copies struct {
	ctx    context.Context //nolint:containedctx // they outlive the calls that begin them
	cancel context.CancelFunc
	slots  chan struct{}
	mu     sync.Mutex
	closed bool
	done   sync.WaitGroup
}

func (s *copies) init(ctx context.Context) {
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.slots = make(chan struct{}, maxCopies)
}

// enter takes a place, and reports whether there was one.
func (s *copies) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	select {
	case s.slots <- struct{}{}:
		s.done.Add(1)
		return true
	default:
		return false
	}
}

func (s *copies) leave() {
	<-s.slots
	s.done.Done()
}

// close ends what is under way, and waits for it.
func (s *copies) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.done.Wait()
}

// Busy reports whether a copy that were sent now would be dropped, and counts it as dropped then, so that nobody makes it in vain.
func (c *Client) Busy() bool {
	if len(c.copies.slots) < cap(c.copies.slots) {
		return false
	}
	c.copied(Dropped)
	return true
}

// Copy sends r and forgets the answer. It never waits: where too many copies are under way it drops r. The caller must not change r any more.
func (c *Client) Copy(r *Request) {
	if !c.copies.enter() {
		c.copied(Dropped)
		return
	}
	go func() {
		defer c.copies.leave()
		ctx, cancel := context.WithTimeout(c.copies.ctx, copyTimeout)
		defer cancel()
		if _, err := c.roundTrip(ctx, r); err != nil {
			c.copied(Failed)
			return
		}
		c.copied(Sent)
	}()
}

// Drop counts a copy that could not be made.
func (c *Client) Drop() { c.copied(Dropped) }

func (c *Client) copied(o Outcome) {
	if c.options.Copied != nil {
		c.options.Copied(o)
	}
}
