package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// conn is one client connection. With HTTP/1.1 it is the call that carries one exchange after the other; with HTTP/2 the calls are its
// streams.
type conn struct {
	call
	nc             net.Conn // the socket, or the TLS connection over it
	tcp            net.Conn // the socket
	h1             *http1.Server
	client         exchange.Client
	index          int   // in the sweeper's set
	before, behind *conn // among those that sleep
	served         int
	// announced says that it begins with a header of the PROXY protocol, and admitted that it is counted by its address.
	announced, admitted bool
	protocol            string        // that ALPN chose
	asleep              atomic.Bool   // has no goroutine
	patience            time.Duration // of the present wait between two requests; 0 is no end

	h2 atomic.Pointer[streams] // set where HTTP/2 is spoken
}

func (e *Engine) newConn(nc net.Conn) *conn {
	c := &conn{call: call{e: e, terms: e.live.Load().terms, fd: -1}, tcp: nc}
	c.wire = c
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { c.fd = int(fd) })
		}
	}
	c.since.Store(e.sweeper.now.Load())
	c.client.Peer = addrPort(nc.RemoteAddr())
	c.client.Local = addrPort(nc.LocalAddr())
	c.client.Addr = c.client.Peer.Addr()
	c.client.Port = c.client.Local.Port()
	c.client.Proto, c.client.Connection = "http", e.connection.Add(1)
	c.onPodTook = c.podTook
	c.use(nc)
	return c
}

// use makes nc the connection that the codec reads and writes.
func (c *conn) use(nc net.Conn) {
	c.nc = nc
	c.h1 = http1.NewServer(nc, c.terms.limits, &c.e.clock)
	c.h1.OnProgress(c.clientTook)
	c.srv = c.h1
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// serve reads and answers requests, beginning with the wait for one, until the connection ends or sleeps, and reports whether it sleeps: then
// it belongs to nobody until it wakes.
func (c *conn) serve(wait phase) (sleeps bool) {
	for {
		if o := c.nextRequest(wait); o != came {
			return o == slept
		}
		if wait == firstByte && c.e.opts.H2C && c.tcp == c.nc {
			switch is, err := c.h1.Starts(preface); {
			case err != nil:
				return false
			case is:
				c.serveStreams()
				return false
			}
		}
		if !c.exchange() {
			return false
		}
		c.h1.Next()
		wait = idle
	}
}

// outcome is what became of the wait for a request.
type outcome uint8

const (
	came  outcome = iota // the first bytes of one are there
	ended                // none will
	slept                // the wait goes on without the goroutine
)

func (c *conn) nextRequest(wait phase) outcome {
	if c.enter(wait, c.limitOf(wait)) != unmarked {
		return ended
	}
	err := c.h1.Await()
	switch m := c.enter(reading, c.terms.timeouts.Header); {
	case m == expired && wait == idle:
		c.e.sweeper.settle()
		c.resumeRead()
		switch {
		case c.h1.Buffered() > 0: // at the last moment
			return came
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return ended
		case c.sleep():
			return slept
		}
		return c.nextRequest(parked)
	case m != unmarked || err != nil:
		return ended
	}
	return came
}

// preface is how HTTP/2 begins, up to where no request of HTTP/1.1 can follow it.
const preface = "PRI * HTTP/2.0\r\n"

// limitOf is how long the connection may wait in p. What it may between two requests is decided when it begins to.
func (c *conn) limitOf(p phase) time.Duration {
	t := &c.terms.timeouts
	switch p {
	case firstByte:
		return t.FirstByte
	case idle:
		if c.patience = t.Idle; c.e.gate.full() {
			c.patience = idleFull
		}
		switch {
		case t.Park == 0:
			return c.patience
		case c.patience == 0:
			return t.Park
		}
		return min(t.Park, c.patience)
	}
	if c.patience == 0 {
		return 0
	}
	return max(c.patience-t.Park, tick)
}

// idleFull replaces Timeouts.Idle when connections are running out.
const idleFull = 5 * time.Second

// exchange serves one request, whose first bytes have come, and reports whether another may follow.
func (c *conn) exchange() (again bool) {
	e := c.e
	e.active.Add(1)
	defer func() {
		// Here, and not where the connection ends: a request is in flight until what it holds is given back.
		if v := recover(); v != nil {
			e.panicked(v)
			c.session.wreck()
		}
		e.active.Add(-1)
	}()
	c.served++
	c.client.Requests = c.served
	s := c.start(&c.client)
	s.last = c.served >= c.terms.maxRequests
	x := s.x
	err := c.h1.ReadRequest(x)
	if m := c.enter(working, 0); m != unmarked || err != nil {
		s.unreadable(m, err)
		x.Release()
		return false
	}
	again = s.run()
	x.Release()
	return again
}

// newGrace is how long a new connection may be silent while the engine drains: its request may be under way.
const newGrace = time.Second

// closeIfIdle ends a connection that waits for a request of which nothing has come, and reports whether it did. One that is new is
// given a moment.
func (c *conn) closeIfIdle() bool {
	if h2 := c.h2.Load(); h2 != nil {
		return h2.closeIfIdle()
	}
	w := c.main.word.Load()
	switch p := phaseOf(w); {
	case markOf(w) != unmarked, !p.resting() && p != firstByte:
		return false
	case p == firstByte && c.e.sweeper.now.Load()-c.since.Load() < newGrace.Milliseconds():
		return false
	case c.readable():
		return false
	}
	c.main.interrupt(w, dismissed, &c.call)
	return true
}

// readable reports whether bytes have come that nobody has read yet.
func (c *conn) readable() bool {
	if c.fd < 0 {
		return false
	}
	p := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) == 0
}

// abort ends whatever the connection does.
func (c *conn) abort() {
	if h2 := c.h2.Load(); h2 != nil {
		h2.abort()
	}
	c.call.abort()
}

func (c *conn) interruptRead() {
	_ = c.nc.SetReadDeadline(past)
	c.Wake()
}
func (c *conn) interruptWrite() { _ = c.nc.SetWriteDeadline(past) }
func (c *conn) resumeRead()     { _ = c.nc.SetReadDeadline(time.Time{}) }
func (c *conn) cut() {
	_ = c.tcp.Close()
	c.Wake()
}

// end closes the connection after its goroutine has finished, and takes it off all books.
func (c *conn) end() {
	c.h1.Close()
	c.e.sweeper.remove(c)
	_ = c.nc.Close()
	c.e.tally.open.Add(-1)
	if c.admitted {
		c.e.gate.release(c.client.Peer.Addr())
	}
	c.e.gate.leave()
	c.e.serving.Done()
}

// reset closes the connection so that the client sees that what it got is not whole, however the body was framed.
func (c *conn) reset() {
	if t, ok := c.tcp.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.tcp.Close()
}
