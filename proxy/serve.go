package proxy

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/socket"
)

// Listener is a socket that the engine serves.
type Listener struct {
	net.Listener
	// Port is the port that clients connect to, where something in front of the socket maps it, as a Service does; 0 means the socket's own.
	Port uint16
	// Handshake, where set, makes an accepted connection an encrypted one and completes the handshake, within a time and
	// number of its own (tls/server.Handshaker does). On error the engine closes the connection.
	Handshake func(net.Conn) (*tls.Conn, error)
	// Credentials, where set, returns what the client showed in a completed Handshake, nil where it was not asked for a certificate.
	Credentials func(*tls.Conn) exchange.Credentials
}

// Serve accepts connections until the listener is closed, by Shutdown or otherwise, and then returns nil: at once where Shutdown came first.
// Several listeners may be served at once.
func (e *Engine) Serve(l *Listener) error {
	e.mu.Lock()
	if e.draining.Load() {
		e.mu.Unlock()
		return l.Close()
	}
	e.listeners[l] = struct{}{}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.listeners, l)
		e.mu.Unlock()
	}()
	for {
		e.gate.wait(func() bool { return e.crowded(l) })
		nc, err := l.Accept()
		if err != nil {
			e.gate.leave()
			if errors.Is(err, net.ErrClosed) || e.draining.Load() {
				return nil
			}
			if !e.survivable(err) {
				return fmt.Errorf("accept on %s: %w", l.Addr(), err)
			}
			continue
		}
		e.start(nc, l)
	}
}

// finish accepts what waits in the kernel's queue and ends listening at once: from then on the kernel refuses. Closing alone
// would leave a longer moment in which connections that clients believe to be open are reset, because Close waits for Accept to return. The
// last two system calls can not be made one, so one connection may arrive between them and be lost: that is what the drain delay
// before Shutdown is for.
func (e *Engine) finish(l *Listener) {
	defer l.Close()
	sc, ok := l.Listener.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	var waiting []int
	_ = raw.Control(func(fd uintptr) {
		// A queue of length 0 holds one connection at most; the kernel drops the first packet of others, and they come again
		// to a closed port.
		_ = unix.Listen(int(fd), 0)
		for {
			nfd, _, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				break
			}
			waiting = append(waiting, nfd)
		}
		_ = unix.Shutdown(int(fd), unix.SHUT_RD)
	})
	for _, nfd := range waiting {
		f := os.NewFile(uintptr(nfd), "")
		nc, err := net.FileConn(f)
		_ = f.Close()
		if err == nil {
			e.gate.enter()
			e.start(nc, l)
		}
	}
}

// start serves an accepted connection that the gate has counted, on a goroutine of its own.
func (e *Engine) start(nc net.Conn, l *Listener) {
	c := e.newConn(nc)
	c.client.Port = cmp.Or(l.Port, c.client.Port)
	c.announced = c.terms.announces(c.client.Peer)
	if !c.announced && !c.admit() {
		_ = nc.Close()
		e.gate.leave()
		return
	}
	e.sweeper.add(c)
	e.serving.Add(1)
	go c.begin(l)
}

// survivable reports whether accepting may go on after err, and makes room for it. Running out of file descriptors closes the
// connections that have been idle longest; it never ends the listener, and never spins.
func (e *Engine) survivable(err error) bool {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		e.shedIdle(shedCount)
		time.Sleep(shedPause)
		return true
	case errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.EPERM), errors.Is(err, unix.EPROTO):
		return true
	}
	return false
}

const (
	shedCount = 64
	shedPause = 10 * time.Millisecond
)

// crowded makes room for clients that wait at l, and reports whether any do: those that have been idle longest give way, some at a
// time.
func (e *Engine) crowded(l *Listener) bool {
	if !queued(l) {
		return false
	}
	e.registry.Shrink(1)
	e.shedIdle(max(int(e.gate.limit/crowdShare), 1))
	return true
}

// crowdShare is the part of all connections that may be closed at a time, every tick, for the sake of others.
const crowdShare = 8

// shedIdle closes up to n idle connections, those first whose last request began longest ago.
func (e *Engine) shedIdle(n int) {
	type candidate struct {
		c     *conn
		since int64
	}
	var found []candidate
	e.sweeper.each(func(c *conn) {
		if h2 := c.h2.Load(); h2 != nil {
			if h2.conn.Idle() {
				found = append(found, candidate{c, c.since.Load()})
			}
			return
		}
		if w := c.main.word.Load(); phaseOf(w) == idle && markOf(w) == unmarked {
			found = append(found, candidate{c, c.since.Load()})
		}
	})
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Compare(a.since, b.since) })
	for _, f := range found {
		if n > 0 && f.c.closeIfIdle() {
			n--
		}
	}
}

// begin serves a new connection.
func (c *conn) begin(l *Listener) {
	c.e.tally.accepted.Inc()
	c.e.tally.open.Add(1)
	c.live(func() bool { return c.open(l) && c.serve(firstByte) })
}

// open does what comes before the first request, and reports whether there may be one.
func (c *conn) open(l *Listener) bool {
	if c.announced && !c.readHeader() {
		return false
	}
	if l.Handshake != nil && !c.secure(l) {
		return false
	}
	if c.protocol == "h2" {
		c.serveStreams()
		return false
	}
	return true
}

// live runs serve on the connection's goroutine, and ends the connection unless that put it to sleep.
func (c *conn) live(serve func() (sleeps bool)) {
	sleeps := false
	defer func() {
		// This comes before c.end, which gives away buffers that an upload may still use.
		if v := recover(); v != nil {
			c.e.panicked(v)
			c.session.wreck()
		}
		if !sleeps {
			c.end()
		}
	}()
	sleeps = serve()
}

func (e *Engine) panicked(v any) {
	e.tally.panics.Inc()
	if e.opts.Panicked != nil {
		e.opts.Panicked(v, debug.Stack())
	}
}

// secure turns c into an encrypted connection, unless its host's TLS passes through to a Pod: then it serves it to its end. It reports
// whether requests may follow.
func (c *conn) secure(l *Listener) bool {
	if c.e.live.Load().through {
		switch ch, generation, ok := c.sniff(); {
		case !ok:
			return false
		case ch != nil:
			c.passThrough(ch, generation)
			return false
		}
	}
	return c.handshake(l)
}

// handshake turns c into an encrypted connection.
func (c *conn) handshake(l *Listener) bool {
	c.enter(firstByte, 0)
	under := socket.New(c.tcp)
	carrier := c.tcp
	if under != nil {
		carrier = under
	}
	if c.h1.Buffered() > 0 {
		// What came behind a header of the PROXY protocol, or was looked at to see whether it passes through.
		if under == nil {
			return false
		}
		under.Unread(c.h1.Take())
	}
	tc, err := l.Handshake(carrier)
	if err != nil || c.enter(working, 0) != unmarked {
		return false
	}
	state := tc.ConnectionState()
	c.client.TLS, c.client.TLSVersion, c.client.CipherSuite, c.client.ServerName = true, state.Version, state.CipherSuite, strings.ToLower(state.ServerName)
	c.client.Resumed = state.DidResume
	if l.Credentials != nil {
		c.client.Credentials = l.Credentials(tc)
	}
	c.client.Proto, c.protocol = "https", state.NegotiatedProtocol
	c.use(socket.NewTLS(tc, under))
	return true
}
