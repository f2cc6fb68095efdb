package proxy_test

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A watched connection is a TCP connection of which the test knows when the engine has read from it, so that what is sent in pieces is
// read in pieces. Polling for that would cost a millisecond a byte.

// watchedListener remembers what it accepted.
type watchedListener struct {
	net.Listener
	accepted *sync.Map
}

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	slot, _ := l.accepted.LoadOrStore(c.RemoteAddr().String(), make(chan *watchedConn, 1))
	w := &watchedConn{TCPConn: c.(*net.TCPConn), read: make(chan struct{}, 1)}
	slot.(chan *watchedConn) <- w
	return w, nil
}

// watchedConn is the engine's end. The engine reads from the socket itself, through SyscallConn.
type watchedConn struct {
	*net.TCPConn
	read chan struct{} // one element behind each read
}

func (c *watchedConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return watchedRaw{raw, c.read}, err
}

type watchedRaw struct {
	syscall.RawConn
	read chan struct{}
}

func (r watchedRaw) Read(try func(fd uintptr) bool) error {
	return r.RawConn.Read(func(fd uintptr) bool {
		done := try(fd)
		if done {
			select {
			case r.read <- struct{}{}:
			default:
			}
		}
		return done
	})
}

// unread is the number of bytes that have arrived and that nobody has read.
func (c *watchedConn) unread() (n int) {
	raw, err := c.TCPConn.SyscallConn()
	if err != nil {
		return 0
	}
	// One that the engine has closed is never read again.
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	return n
}

// watchingClient is the client's end.
type watchingClient struct {
	*net.TCPConn
	other *watchedConn
}

// dialWatched opens a connection on which send knows when the engine has read.
func (b *bench) dialWatched() *watchingClient {
	c := b.dialTo(watchedHTTP)
	key := c.LocalAddr().String()
	slot, _ := b.accepted.LoadOrStore(key, make(chan *watchedConn, 1))
	other := <-slot.(chan *watchedConn)
	b.accepted.Delete(key) // the port may soon be another's
	return &watchingClient{c, other}
}

// awaitRead waits until the engine has read all that was sent.
func (c *watchingClient) awaitRead() bool {
	w := c.other
	late := time.NewTicker(2 * time.Millisecond)
	defer late.Stop()
	for range 5000 {
		if w.unread() == 0 {
			return true
		}
		select {
		case <-w.read:
		case <-late.C: // what is discarded behind a refused request is read in another way
		}
	}
	return false
}
