package http1

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy/socket"
)

const (
	// bufferSize holds the head of nearly every message and, behind it, a small body.
	bufferSize = 16 << 10
	// bulkSize is for the rest of long bodies; with a head's buffer it is the 64 KiB that one direction may hold.
	bulkSize = 48 << 10
)

type buffer struct{ b []byte }

var (
	buffers = sync.Pool{New: func() any { return &buffer{make([]byte, bufferSize)} }}
	bulks   = sync.Pool{New: func() any { return &buffer{make([]byte, bulkSize)} }}
)

// input is the read half of a connection. While nothing is buffered and the peer is silent it holds no buffer, so that an
// idle connection costs no more than its goroutine and its socket.
type input struct {
	conn   net.Conn
	yield  bool                  // let others run before the first read of a message
	raw    syscall.RawConn       // nil where conn is no plain socket
	readFd func(fd uintptr) bool // made once: one attempt of read(2)
	held   *buffer               // what buf came from; nil where buf was grown beyond it, or is nil
	buf    []byte
	r, w   int // unread bytes are buf[r:w]
	keep   int // buf[:keep] is a message's head, which must stay until the exchange ends
	bulk   *buffer
	dst    []byte // where readFd reads to; nil means buf[w:]
	n      int
	err    error
	one    [1]byte
}

func (in *input) init(conn net.Conn) {
	in.conn = conn
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	in.raw = raw
	in.readFd = in.tryRead
}

// tryRead is the callback of RawConn.Read: true ends the wait. It takes a buffer only when it is about to read, and gives it back
// when there was nothing to read.
func (in *input) tryRead(fd uintptr) bool {
	dst := in.dst
	if dst == nil {
		in.hold()
		dst = in.buf[in.w:]
	}
	for {
		n, errno := socket.Read(fd, dst)
		in.n, in.err = n, nil
		switch errno {
		case 0:
			if n == 0 {
				in.err = io.EOF
			}
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			if in.dst == nil {
				in.drop()
			}
			return false
		}
		in.err = errno
		return true
	}
}

// hold makes sure that there is a buffer.
func (in *input) hold() {
	if in.buf == nil {
		in.held = buffers.Get().(*buffer)
		in.buf = in.held.b
	}
}

// drop gives the buffer back where it holds nothing.
func (in *input) drop() {
	if in.buf == nil || in.w > 0 || in.keep > 0 {
		return
	}
	if in.held != nil {
		buffers.Put(in.held)
	}
	in.held, in.buf, in.r = nil, nil, 0
}

// fill reads more bytes behind buf[w:], waiting for at least one. The caller has made room. It returns io.EOF when the peer
// has ended its side.
func (in *input) fill() error {
	n, err := in.read(nil)
	in.w += n
	return err
}

// read reads into dst, or behind buf[:w] where dst is nil.
func (in *input) read(dst []byte) (int, error) {
	if in.raw == nil {
		return in.readConn(dst)
	}
	if in.yield && dst == nil && in.w == 0 {
		runtime.Gosched()
	}
	in.dst = dst
	if err := in.raw.Read(in.readFd); err != nil {
		return 0, err
	}
	return in.n, in.err
}

// trier is a connection that can be read without waiting.
type trier interface{ TryRead(p []byte) int }

// readConn serves connections that are no plain sockets (TLS, pipes in tests). An idle one waits with a single byte, and the
// rest of what has come follows without waiting. Bytes that come together with an error (crypto/tls returns io.EOF with
// the last ones where close_notify lies behind them) are returned without it: the next read will meet it again.
func (in *input) readConn(dst []byte) (int, error) {
	if dst == nil && in.buf == nil {
		n, err := in.conn.Read(in.one[:])
		if n == 0 {
			return 0, err
		}
		in.hold()
		in.buf[in.w] = in.one[0]
		if t, ok := in.conn.(trier); ok {
			return 1 + t.TryRead(in.buf[in.w+1:]), nil
		}
		return 1, nil
	}
	if dst == nil {
		dst = in.buf[in.w:]
	}
	n, err := in.conn.Read(dst)
	if n > 0 {
		err = nil
	}
	return n, err
}

// room makes sure that at least n bytes fit behind buf[w:], by moving the unread bytes down to keep, then by growing to at most
// limit bytes in all. It reports whether it could. A buffer that is left behind with a message's head in it is not given to others: the
// Exchange refers to the head until it ends.
func (in *input) room(n, limit int) bool {
	in.hold()
	if len(in.buf)-in.w >= n {
		return true
	}
	if in.r > in.keep {
		in.w = in.keep + copy(in.buf[in.keep:], in.buf[in.r:in.w])
		in.r = in.keep
		if len(in.buf)-in.w >= n {
			return true
		}
	}
	size := min(max(2*len(in.buf), in.w+n), limit)
	if size-in.w < n {
		return false
	}
	grown := make([]byte, size)
	copy(grown, in.buf[:in.w])
	if in.held != nil && in.keep == 0 {
		buffers.Put(in.held)
	}
	in.held, in.buf = nil, grown
	return true
}

// buffered returns the unread bytes.
func (in *input) buffered() []byte { return in.buf[in.r:in.w] }

// pull returns the next bytes of a connection that has switched to another protocol, valid until the next call. While it waits on a
// plain socket it holds no buffer.
func (in *input) pull() ([]byte, error) {
	if in.r == in.w {
		in.keep, in.r, in.w = 0, 0, 0
		in.releaseBulk()
		if in.raw != nil {
			in.drop()
		} else {
			in.hold()
		}
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	p := in.buffered()
	in.r = in.w
	return p, nil
}

// reset ends an exchange: the head may go, bytes of the next message move to the front, and an empty buffer goes back.
func (in *input) reset() {
	in.keep = 0
	in.releaseBulk()
	if in.r == in.w {
		in.r, in.w = 0, 0
		in.drop()
		return
	}
	in.w = copy(in.buf, in.buf[in.r:in.w])
	in.r = 0
}

func (in *input) releaseBulk() {
	if in.bulk != nil {
		bulks.Put(in.bulk)
		in.bulk = nil
	}
}

// close gives all memory back; the connection itself is not closed.
func (in *input) close() {
	in.r, in.w = 0, 0
	in.reset()
}

func midBody(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
