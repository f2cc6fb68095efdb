// Package socket reads and writes TCP sockets without waiting and without the scheduler's bookkeeping, and carries TLS over such a socket.
// It owns no protocol and no buffer.
package socket

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection under a TLS one: its reads can be told not to wait. One goroutine reads, one writes.
type Conn struct {
	net.Conn
	// End, where it is set, is what Read returns at the end of the connection in place of io.EOF. crypto/tls takes io.EOF between two records for
	// the end of what was said, although its peer has not said so.
	End error

	raw syscall.RawConn

	read, write func(fd uintptr) bool // made once
	noWait      bool
	in, out     attempt
	unread      []byte
}

// attempt is what a read or write is about, and what came of it.
type attempt struct {
	p   []byte
	n   int
	err error
}

// New returns nc as a Conn, or nil where nc is no socket.
func New(nc net.Conn) *Conn {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	c := &Conn{Conn: nc, raw: raw}
	c.read, c.write = c.tryRead, c.tryWrite
	return c
}

// Unread makes p, which somebody has read of the connection before, the first that Read returns. p is c's from then on.
func (c *Conn) Unread(p []byte) { c.unread = p }

// wouldBlock is the error of a read that was told not to wait. crypto/tls takes it for one after which reading may go on.
type wouldBlock struct{}

// Error names the error.
func (wouldBlock) Error() string { return "nothing to read" }

// Timeout makes it a net.Error.
func (wouldBlock) Timeout() bool { return true }

// Temporary says that reading may go on.
func (wouldBlock) Temporary() bool { return true }

// Read reads, waiting unless told not to.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		if c.unread = c.unread[n:]; len(c.unread) == 0 {
			c.unread = nil
		}
		return n, nil
	}
	c.in.p = p
	err := c.raw.Read(c.read)
	c.in.p = nil
	if err != nil {
		return 0, err
	}
	return c.in.n, c.in.err
}

func (c *Conn) tryRead(fd uintptr) bool {
	for {
		n, errno := Read(fd, c.in.p)
		c.in.n, c.in.err = n, nil
		switch errno {
		case 0:
			if n == 0 {
				c.in.err = io.EOF
				if c.End != nil {
					c.in.err = c.End
				}
			}
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			if !c.noWait {
				return false
			}
			c.in.err = wouldBlock{}
		default:
			c.in.err = &net.OpError{Op: "read", Net: "tcp", Err: errno}
		}
		return true
	}
}

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		c.out.p = p[done:]
		err := c.raw.Write(c.write)
		c.out.p = nil
		if err == nil {
			err = c.out.err
		}
		if err != nil {
			return done, err
		}
		done += c.out.n
	}
	return done, nil
}

func (c *Conn) tryWrite(fd uintptr) bool {
	for {
		n, errno := Write(fd, c.out.p)
		c.out.n, c.out.err = n, nil
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default:
			c.out.err = &net.OpError{Op: "write", Net: "tcp", Err: errno}
		}
		return true
	}
}

// TLS is a TLS connection over a Conn.
type TLS struct {
	*tls.Conn
	under *Conn
	one   [1]byte
}

// NewTLS returns tc, which must have been made over under; under may be nil.
func NewTLS(tc *tls.Conn, under *Conn) *TLS { return &TLS{Conn: tc, under: under} }

// Quiet reports whether the connection is open and has nothing to read, which costs one system call. A byte that has come is lost. It must not be called
// while another goroutine reads.
func (t *TLS) Quiet() bool {
	if t.under == nil {
		return true
	}
	t.under.noWait = true
	_, err := t.Conn.Read(t.one[:])
	t.under.noWait = false
	return errors.Is(err, wouldBlock{})
}

// TryRead reads what has arrived, without waiting for more, and returns the number of bytes. An error is met again by the next Read. It must not
// be called while another goroutine reads.
func (t *TLS) TryRead(p []byte) int {
	if t.under == nil {
		return 0
	}
	t.under.noWait = true
	n, _ := t.Conn.Read(p)
	t.under.noWait = false
	return n
}
