package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// conn is one client connection and the goroutine that serves it.
type conn struct {
	e      *Engine
	nc     net.Conn // the socket, or the TLS connection over it
	tcp    net.Conn // the socket
	fd     int      // of the socket, for poll; -1 where there is none
	srv    *http1.Server
	client exchange.Client
	index  int // in the sweeper's set

	main, upload watch
	since        atomic.Int64 // when the present request began, in ms of the sweeper's clock
	pod          atomic.Pointer[podConn]
	aborted      atomic.Bool // set before pod is closed: no other attempt may follow
	uploaded     chan error  // result of the upload goroutine
	uploading    bool
	bodyRead     atomic.Bool // the upload has pulled the whole request body
	body         limitedBody // wraps request bodies of unknown length
	onPodTook    func()      // podTook, made once
	served       int
	admitted     bool    // counted by its address
	session      session // of the present request
}

func (e *Engine) newConn(nc net.Conn) *conn {
	c := &conn{e: e, tcp: nc, fd: -1}
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
	c.client.Proto = "http"
	c.onPodTook = c.podTook
	c.use(nc)
	return c
}

// use makes nc the connection that the codec reads and writes.
func (c *conn) use(nc net.Conn) {
	c.nc = nc
	c.srv = http1.NewServer(nc, c.e.limits, &c.e.clock)
	c.srv.OnProgress(c.clientTook)
}

// clientTook says that the client has taken a part of what is being written to it.
func (c *conn) clientTook() { c.main.extend(c.e.sweeper.now.Load(), c.e.timeouts.Stall) }

// podTook says so of the Pod, for whichever goroutine writes to it.
func (c *conn) podTook() {
	w := &c.main
	if c.uploading {
		w = &c.upload
	}
	w.extend(c.e.sweeper.now.Load(), c.e.timeouts.Stall)
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// enter says what the connection's own goroutine waits for next, and returns what the sweeper found about the wait before.
func (c *conn) enter(p phase, limit time.Duration) mark {
	return c.main.enter(p, c.e.sweeper.now.Load(), limit)
}

// serve reads and answers requests until the connection ends.
func (c *conn) serve() {
	wait, limit := firstByte, c.e.timeouts.FirstByte
	for {
		c.enter(wait, limit)
		err := c.srv.Await()
		if c.enter(reading, c.e.timeouts.Header) != unmarked || err != nil {
			return
		}
		if !c.exchange() {
			return
		}
		c.srv.Next()
		wait, limit = idle, c.idleLimit()
	}
}

func (c *conn) idleLimit() time.Duration {
	if c.e.gate.full() {
		return idleFull
	}
	return c.e.timeouts.Idle
}

// idleFull replaces Timeouts.Idle when connections are running out.
const idleFull = 5 * time.Second

// exchange serves one request, whose first bytes have come, and reports whether another may follow.
func (c *conn) exchange() bool {
	e := c.e
	e.active.Add(1)
	defer e.active.Add(-1)
	c.since.Store(e.sweeper.now.Load())
	c.served++
	x := exchange.New()
	x.Timing.Start = time.Now()
	x.Client = c.client
	s := &c.session
	*s = session{c: c, e: e, x: x}
	err := c.srv.ReadRequest(x)
	if m := c.enter(working, 0); m != unmarked || err != nil {
		again := c.unreadable(s, m, err)
		x.Release()
		return again
	}
	again := s.run()
	x.Release()
	return again
}

// unreadable ends a connection whose request could not be read: with an answer where the client is owed one.
func (c *conn) unreadable(s *session, m mark, err error) bool {
	var reject *exchange.Reject
	switch {
	case m == expired:
		s.refuse(408, exchange.ClientTimeout, "request not complete in time")
	case errors.As(err, &reject):
		s.refuse(reject.Status, exchange.BadRequest, reject.Detail)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
	}
	return false
}

// newGrace is how long a new connection may be silent while the engine drains: its request may be under way.
const newGrace = time.Second

// closeIfIdle ends a connection that waits for a request of which nothing has come, and reports whether it did. One that is new is
// given a moment.
func (c *conn) closeIfIdle() bool {
	w := c.main.word.Load()
	switch p := phaseOf(w); {
	case markOf(w) != unmarked, p != idle && p != firstByte:
		return false
	case p == firstByte && c.e.sweeper.now.Load()-c.since.Load() < newGrace.Milliseconds():
		return false
	case c.readable():
		return false
	}
	c.main.interrupt(w, expired, c)
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
	c.aborted.Store(true)
	_ = c.tcp.Close()
	if p := c.pod.Load(); p != nil {
		_ = p.Close()
	}
}

// end closes the connection after its goroutine has finished.
func (c *conn) end() {
	c.srv.Close()
	c.e.sweeper.remove(c)
	_ = c.nc.Close()
}

// reset closes the connection so that the client sees that what it got is not whole, however the body was framed.
func (c *conn) reset() {
	if t, ok := c.tcp.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.tcp.Close()
}
