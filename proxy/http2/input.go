package http2

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy/socket"
)

// bufferSize holds the payload of any frame.
const bufferSize = maxFrame

type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, bufferSize)} }}

// input is the read half of a connection. While nothing is buffered and the peer is silent it holds no buffer, so that an idle
// connection costs no more than its goroutine, its socket and its tables.
type input struct {
	conn   net.Conn
	raw    syscall.RawConn       // nil where conn is no plain socket
	readFd func(fd uintptr) bool // made once: one attempt of read(2)
	held   *buffer
	r, w   int // unread bytes are held.b[r:w]
	n      int // result of readFd
	err    error
	one    [1]byte
	// settle is called before every read that may wait: what frames have caused so far must leave or begin by then.
	settle func()
}

func (in *input) init(conn net.Conn, first []byte) {
	in.conn = conn
	if len(first) > 0 {
		in.hold()
		if len(first) > len(in.held.b) {
			in.held = &buffer{make([]byte, len(first))}
		}
		in.w = copy(in.held.b, first)
	}
	if in.raw = rawConn(conn); in.raw != nil {
		in.readFd = in.tryRead
	}
}

func (in *input) hold() {
	if in.held == nil {
		in.held = buffers.Get().(*buffer)
		in.r, in.w = 0, 0
	}
}

// drop gives the buffer back where it holds nothing.
func (in *input) drop() {
	if in.held == nil || in.r < in.w {
		return
	}
	if len(in.held.b) == bufferSize {
		buffers.Put(in.held)
	}
	in.held, in.r, in.w = nil, 0, 0
}

// tryRead is the callback of RawConn.Read: true ends the wait. It takes a buffer only when it is about to read, and gives it back
// when there was nothing to read.
func (in *input) tryRead(fd uintptr) bool {
	in.hold()
	for {
		n, errno := socket.Read(fd, in.held.b[in.w:])
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
			in.drop()
			return false
		}
		in.err = errno
		return true
	}
}

// fill reads more bytes behind those that are unread, waiting for at least one. There must be room behind them.
func (in *input) fill() error {
	in.settle()
	if in.r == in.w {
		in.drop()
	}
	if in.raw == nil {
		return in.readConn()
	}
	if err := in.raw.Read(in.readFd); err != nil {
		return err
	}
	in.w += in.n
	return in.err
}

// trier is a connection that can be read without waiting.
type trier interface{ TryRead(p []byte) int }

// readConn serves connections that are no plain sockets (TLS, pipes in tests). An idle one waits with a single byte, and the
// rest of what has come follows without waiting. An error that comes together with bytes is met again by the next read.
func (in *input) readConn() error {
	to := in.one[:]
	if in.held != nil {
		to = in.held.b[in.w:]
	}
	for {
		n, err := in.conn.Read(to)
		switch {
		case n > 0 && in.held == nil:
			in.hold()
			in.held.b[0] = in.one[0]
			in.w = 1
			if t, ok := in.conn.(trier); ok {
				in.w += t.TryRead(in.held.b[1:])
			}
			return nil
		case n > 0:
			in.w += n
			return nil
		case err != nil:
			return err
		}
	}
}

// Read implements io.Reader for the Framer: what is buffered, else what one read brings.
func (in *input) Read(p []byte) (int, error) {
	b, err := in.some(len(p))
	n := copy(p, b)
	in.r += n
	return n, err
}

// some returns at most n unread bytes, at least one, waiting where there is none. They stay unread.
func (in *input) some(n int) ([]byte, error) {
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	return in.held.b[in.r:min(in.w, in.r+n)], nil
}

// whole returns the next n bytes in one piece, waiting until they are here. They stay unread, and n is at most a frame's size.
func (in *input) whole(n int) ([]byte, error) {
	for in.w-in.r < n {
		if in.r > 0 && in.held != nil {
			in.w = copy(in.held.b, in.held.b[in.r:in.w])
			in.r = 0
		}
		if err := in.fill(); err != nil {
			return nil, midFrame(err)
		}
	}
	if n == 0 {
		return nil, nil
	}
	return in.held.b[in.r : in.r+n], nil
}

// skip discards the next n bytes.
func (in *input) skip(n int) error {
	for n > 0 {
		b, err := in.some(n)
		if err != nil {
			return midFrame(err)
		}
		in.r += len(b)
		n -= len(b)
	}
	return nil
}

// buffered is the number of unread bytes.
func (in *input) buffered() int { return in.w - in.r }

func (in *input) close() {
	in.r, in.w = 0, 0
	in.drop()
}

func midFrame(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
