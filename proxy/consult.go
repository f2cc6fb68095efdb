package proxy

import (
	"context"
	"time"
)

// Wait implements exchange.Waiter. The sweeper keeps the limit and asks whether the client is still there, as while a Pod is waited for.
func (s *session) Wait(limit time.Duration, f func(ctx context.Context)) {
	c := s.c
	if s.trace != nil {
		start := time.Now()
		defer func() { s.trace.Asked(start) }()
	}
	ctx, cancel := context.WithCancel(s.e.life)
	defer cancel()
	// A client whose body is missing may have closed its sending side early: whoever reads the body will tell.
	c.bodyMissing.Store(s.x.Request.Body != nil && !c.srv.BodyDone())
	c.consulted.Store(&cancel)
	defer c.consulted.Store(nil)
	if c.aborted.Load() { // it may not have seen cancel
		cancel()
	}
	c.enter(consulting, limit)
	f(ctx)
	if c.enter(working, 0) == gone || c.aborted.Load() {
		s.gone = true
	}
}

// endConsultation ends what a filter waits for. Any goroutine may call it.
func (c *call) endConsultation() {
	if cancel := c.consulted.Load(); cancel != nil {
		(*cancel)()
	}
}
