package http2

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// sink writes to a connection, and tells of every step that the peer lets it take: a peer that takes its bytes slowly is not taken for one
// that takes none.
type sink struct {
	conn  net.Conn
	raw   syscall.RawConn       // nil where conn is no plain socket
	try   func(fd uintptr) bool // made once: one attempt of write(2)
	steps *atomic.Uint32        // grows by two with each step

	tcp     syscall.RawConn // below conn; nil where it is no socket
	limited bool            // the kernel was told of unsent
	buf     []byte          // what try writes
	n       int
	err     error
}

// unsent is how many bytes the kernel may hold for a peer beyond what is under way to it, on connections with long bodies. Without such a
// limit a short answer waits behind megabytes of a long one.
const unsent = 16 << 10

// stepSize is what is written at once to a connection that is no plain socket: one TLS record.
const stepSize = 16 << 10

func (k *sink) init(conn net.Conn, steps *atomic.Uint32) {
	k.conn, k.steps = conn, steps
	if k.raw = rawConn(conn); k.raw != nil {
		k.tcp, k.try = k.raw, k.tryWrite
		return
	}
	if below, ok := conn.(interface{ NetConn() net.Conn }); ok {
		k.tcp = rawConn(below.NetConn())
	}
}

// rawConn returns the socket of a connection, or nil.
func rawConn(conn net.Conn) syscall.RawConn {
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// tryWrite is the callback of RawConn.Write: true ends the wait.
func (k *sink) tryWrite(fd uintptr) bool {
	for {
		k.n, k.err = unix.Write(int(fd), k.buf)
		switch {
		case errors.Is(k.err, unix.EINTR):
			continue
		case errors.Is(k.err, unix.EAGAIN):
			return false
		}
		return true
	}
}

// writeAll writes b.
func (k *sink) writeAll(b []byte) error {
	if len(b) >= unsent && !k.limited && k.tcp != nil {
		k.limited = true
		_ = k.tcp.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
		})
	}
	for {
		n, err := k.step(b)
		if err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		k.steps.Add(2)
	}
}

// step writes what the peer takes at once.
func (k *sink) step(b []byte) (int, error) {
	if k.raw == nil {
		return k.conn.Write(b[:min(len(b), stepSize)])
	}
	k.buf = b
	err := k.raw.Write(k.try)
	k.buf = nil
	if err == nil && k.err != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Err: k.err}
	}
	return max(k.n, 0), err
}
