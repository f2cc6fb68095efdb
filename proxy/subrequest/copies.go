package subrequest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of copies: how many are under way, how long each may take, how long a body may be, and what all bodies may cost in memory.
const (
	maxCopies     = 256
	copyTimeout   = 10 * time.Second
	maxCopiedBody = 1 << 20
	maxHeld       = 32 << 20
)

// copies are requests whose answers nobody waits for.
type copies struct {
	ctx    context.Context //nolint:containedctx // they outlive the calls that begin them
	cancel context.CancelFunc
	slots  chan struct{}
	held   atomic.Int64 // bytes of bodies
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

// Copy is a request whose answer nobody waits for, while it is being made. It belongs to one goroutine at a time, and ends with Send or Close.
type Copy struct {
	c       *Client
	request *Request
	held    int64
	ended   bool
}

// Copy returns a copy that has no body yet. The caller must not change r any more.
func (c *Client) Copy(r *Request) *Copy { return &Copy{c: c, request: r} }

// Write adds p to the body. A copy whose body is too long is dropped, and so is one for which there is no memory.
func (m *Copy) Write(p []byte) {
	if m.ended || len(p) == 0 {
		return
	}
	n := int64(len(p))
	m.held += n
	if all := m.c.copies.held.Add(n); m.held > maxCopiedBody || all > maxHeld {
		m.drop()
		return
	}
	m.request.Body = append(m.request.Body, p...)
}

// Send sends the copy and forgets the answer. It never waits: where too many copies are under way the copy is dropped.
func (m *Copy) Send() {
	switch {
	case m.ended:
		return
	case !m.c.copies.enter():
		m.drop()
		return
	}
	m.ended = true
	go m.send()
}

func (m *Copy) send() {
	defer m.c.copies.leave()
	ctx, cancel := context.WithTimeout(m.c.copies.ctx, copyTimeout)
	defer cancel()
	if _, err := m.c.roundTrip(ctx, m.request); err != nil {
		m.end(Failed)
		return
	}
	m.end(Sent)
}

// Close drops the copy unless it was sent. It never fails.
func (m *Copy) Close() error {
	if !m.ended {
		m.drop()
	}
	return nil
}

func (m *Copy) drop() {
	m.ended = true
	m.end(Dropped)
}

// end gives back the memory, and counts the copy. Nobody but its caller uses the copy any more, except to see that it has ended.
func (m *Copy) end(o Outcome) {
	m.request.Body = nil
	m.c.copies.held.Add(-m.held)
	m.held = 0
	m.c.copied(o)
}

func (c *Client) copied(o Outcome) {
	if c.options.Copied != nil {
		c.options.Copied(o)
	}
}
