package http1

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy/socket"
)

// writer writes to a connection and tells of every step that the peer lets it take, so that a peer that takes its bytes slowly is told
// from one that takes none: a large write to a slow peer may last longer than any limit for a stall.
type writer struct {
	conn net.Conn
	raw  syscall.RawConn       // nil where conn is no plain socket
	try  func(fd uintptr) bool // made once: one attempt of write(2) or writev(2)
	// progress, where set, is called when a part of a write has been taken.
	progress func()

	limited bool      // the kernel was told of unsent
	vec     [3][]byte // what try writes
	n       int
	err     error
}

// init makes w write to conn; raw is its socket, or nil.
func (w *writer) init(conn net.Conn, raw syscall.RawConn) {
	w.conn, w.raw = conn, raw
	if raw != nil {
		w.try = w.tryWrite
	}
}

// tryWrite is the callback of RawConn.Write: true ends the wait.
func (w *writer) tryWrite(fd uintptr) bool {
	if !w.limited && len(w.vec[0])+len(w.vec[1]) >= unsent {
		w.limited = true
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
	}
	for {
		var n int
		var errno unix.Errno
		if len(w.vec[1]) == 0 {
			n, errno = socket.Write(fd, w.vec[0])
		} else {
			n, errno = socket.Writev(fd, &w.vec)
		}
		w.n, w.err = n, nil
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default:
			w.err = &net.OpError{Op: "write", Net: "tcp", Err: errno}
		}
		return true
	}
}

// writeAll writes the pieces in order. Empty ones may only be at the end.
func (w *writer) writeAll(a, b, c []byte) error {
	if w.raw == nil {
		return w.writeConn(a, b, c)
	}
	w.vec = [3][]byte{a, b, c}
	defer func() { w.vec = [3][]byte{} }()
	for {
		if err := w.raw.Write(w.try); err != nil {
			return err
		}
		if w.err != nil {
			return w.err
		}
		if !w.advance() {
			return nil
		}
		if w.progress != nil {
			w.progress()
		}
	}
}

// unsent is how many bytes the kernel may hold for a peer beyond what is under way to it, on connections with long bodies. Without such
// a limit it holds megabytes for a slow peer, and wakes the writer only when a third of them has gone.
const unsent = 16 << 10

// advance drops what was written and reports whether anything is left.
func (w *writer) advance() bool {
	n := w.n
	for len(w.vec[0]) > 0 {
		if n < len(w.vec[0]) {
			w.vec[0] = w.vec[0][n:]
			return true
		}
		n -= len(w.vec[0])
		w.vec[0], w.vec[1], w.vec[2] = w.vec[1], w.vec[2], nil
	}
	return false
}

// writeConn serves connections that are no plain sockets (TLS, pipes in tests).
func (w *writer) writeConn(pieces ...[]byte) error {
	for i, p := range pieces {
		if len(p) == 0 {
			continue
		}
		if i > 0 && w.progress != nil {
			w.progress()
		}
		if _, err := w.conn.Write(p); err != nil {
			return err
		}
	}
	return nil
}
