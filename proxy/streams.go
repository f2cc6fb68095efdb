package proxy

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// streams is what a connection on which HTTP/2 is spoken carries: a call for each stream that is being served.
type streams struct {
	c    *conn
	conn *http2.Conn
	// served counts streams.
	served atomic.Int64

	mu    sync.Mutex
	calls []*stream
}

// stream is the call of one HTTP/2 stream, and its wire.
type stream struct {
	call
	st    *http2.Stream
	home  *streams
	index int // in streams.calls

	onGone, onTook func() // made once
}

func (e *Engine) newStream(st *http2.Stream) *stream {
	s := &stream{call: call{e: e, fd: -1, srv: st}, st: st}
	s.wire = s
	s.onPodTook, s.onTook, s.onGone = s.podTook, s.clientTook, s.gone
	return s
}

// serveStreams speaks HTTP/2 until the connection ends.
func (c *conn) serveStreams() {
	e := c.e
	// What the other codec has read already.
	first := c.h1.Take()
	h := &streams{c: c, conn: http2.NewConn(c.nc, c.terms.http2, &e.clock)}
	c.enter(working, 0)
	c.h2.Store(h)
	if e.draining.Load() {
		h.conn.Shutdown()
	}
	// An orderly end is no error, and of others the client has been told, but for one that was cut because it takes nothing: what it has not
	// taken would stay with the kernel for minutes, and the client's end of the connection open.
	if err := h.conn.Serve(first, h.serve); errors.Is(err, http2.ErrConnection) {
		c.reset()
	}
}

// serve serves one request on the goroutine of its stream.
func (h *streams) serve(st *http2.Stream) {
	e := h.c.e
	s, ok := st.Own.(*stream)
	if !ok {
		s = e.newStream(st)
		st.Own = s
	}
	served := h.served.Add(1)
	if most := e.live.Load().terms.maxStreams; most > 0 && served >= most {
		h.conn.Shutdown()
	}
	s.aborted.Store(false)
	s.home = h
	h.add(s)
	e.active.Add(1)
	defer func() {
		if v := recover(); v != nil {
			e.panicked(v)
			s.session.wreck()
			st.Own = nil // it is in a state that nobody knows
		}
		// From here on the sweeper does not know it, so nothing that was meant for this request reaches the next.
		h.remove(s)
		e.active.Add(-1)
	}()
	st.OnProgress(s.onTook)
	st.OnGone(s.onGone)
	s.exchange(h.c, int(served))
	s.session = session{}
}

// exchange serves the stream's request, the nth of its connection.
func (s *stream) exchange(c *conn, nth int) {
	session := s.call.start(&c.client)
	x := session.x
	x.Client.Requests = nth
	if err := s.st.ReadRequest(x); err != nil {
		session.unreadable(unmarked, err)
	} else {
		session.run()
	}
	x.Release()
}

func (h *streams) add(s *stream) {
	h.mu.Lock()
	s.index = len(h.calls)
	h.calls = append(h.calls, s)
	h.mu.Unlock()
}

func (h *streams) remove(s *stream) {
	h.mu.Lock()
	last := h.calls[len(h.calls)-1]
	h.calls[s.index] = last
	last.index = s.index
	h.calls[len(h.calls)-1] = nil
	h.calls = h.calls[:len(h.calls)-1]
	h.mu.Unlock()
}

// sweep keeps the times of the connection and of its streams. A stream that is interrupted here cannot end meanwhile.
func (h *streams) sweep(now int64) {
	h.conn.Sweep(time.Duration(now) * time.Millisecond)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.calls {
		s.expire(now)
	}
}

// closeIfIdle asks the client to open no more streams, and reports whether the connection ends at once.
func (h *streams) closeIfIdle() bool {
	idle := h.conn.Idle()
	h.conn.Shutdown()
	return idle
}

// abort ends every stream.
func (h *streams) abort() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.calls {
		s.abort()
	}
}

// gone is called when the client has reset the stream, or its connection has ended: nobody waits for the Pod any more.
func (s *stream) gone() {
	s.aborted.Store(true)
	s.rouse()
	s.endConsultation()
	if p := s.pod.Load(); p != nil {
		p.abort()
	}
}

func (s *stream) interruptRead()  { s.st.InterruptRead() }
func (s *stream) interruptWrite() { s.st.InterruptWrite() }
func (s *stream) resumeRead()     { s.st.ResumeRead() }
func (s *stream) reset()          { s.st.Reset(http2.Internal) }
func (s *stream) cut()            { s.st.Reset(http2.Cancel) }

// linger has nothing to do: streams end one by one, and what comes for one that has ended is dropped.
func (s *stream) linger() {}

func (s *stream) lingerBriefly() {}

// leave tells the client that the connection takes no more streams.
func (s *stream) leave() { s.home.conn.Shutdown() }

func (s *stream) tunnel() tunnelEnd { return streamEnd{s.st, s.session.x, s.st.TunnelBody()} }

// streamEnd is the end of a tunnel on a stream (RFC 8441).
type streamEnd struct {
	st   *http2.Stream
	x    *exchange.Exchange
	body exchange.Body
}

// Pull reads what the client sends.
func (e streamEnd) Pull() ([]byte, error) { return e.body.Next() }

// Write sends p at once.
func (e streamEnd) Write(p []byte) (int, error) {
	if err := e.st.Write(p); err != nil {
		return 0, err
	}
	return len(p), e.st.Flush()
}

// CloseWrite ends our side of the stream.
func (e streamEnd) CloseWrite() error { return e.st.Finish(e.x) }

// Close ends the stream.
func (e streamEnd) Close() error {
	e.st.Reset(http2.Cancel)
	return nil
}
