package socket

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// NewWatcher returns a watcher that nobody runs yet.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// The runtime polls a descriptor that does not block, and an epoll's can be polled like any other: no thread waits in epoll_wait.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Watcher{file: file, raw: raw, sleepers: map[int32]Sleeper{}}, nil
}

// Watcher wakes those whose sockets have something to read, so that nobody needs a goroutine, and its stack, to wait for it. Its methods may
// be called concurrently.
type Watcher struct {
	file     *os.File
	raw      syscall.RawConn
	mu       sync.Mutex
	sleepers map[int32]Sleeper // by descriptor
	events   [128]unix.EpollEvent
	woken    []Sleeper
}

// Run wakes until the watcher is closed.
func (w *Watcher) Run() {
	n := 0
	look := func(fd uintptr) bool {
		var err error
		for {
			n, err = unix.EpollWait(int(fd), w.events[:], 0)
			if !errors.Is(err, unix.EINTR) {
				return n != 0
			}
		}
	}
	for {
		if err := w.raw.Read(look); err != nil || n < 0 {
			return
		}
		w.mu.Lock()
		for _, e := range w.events[:n] {
			// Where there is none, somebody else has woken it.
			if s := w.sleepers[e.Fd]; s != nil {
				delete(w.sleepers, e.Fd)
				w.woken = append(w.woken, s)
			}
		}
		w.mu.Unlock()
		for _, s := range w.woken {
			s.Wake()
		}
		clear(w.woken)
		w.woken = w.woken[:0]
	}
}

// Watch calls s.Wake once when the socket behind raw has something to read, or has ended, unless Forget comes first. It watches nothing where s is not
// asleep any more. Errors are those of a socket that is closed, and of a kernel without room.
func (w *Watcher) Watch(raw syscall.RawConn, s Sleeper) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		w.mu.Lock()
		if !s.Asleep() {
			w.mu.Unlock()
			return
		}
		w.sleepers[int32(fd)] = s
		w.mu.Unlock()
		if failed = w.arm(int(fd)); failed != nil {
			w.Forget(int(fd), s)
		}
	})
	return errors.Join(err, failed)
}

func (w *Watcher) arm(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(fd)}
	var armed error
	err := w.raw.Control(func(epoll uintptr) {
		// A socket that has slept before is in the set already: its one shot was fired.
		if armed = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_MOD, fd, &event); errors.Is(armed, unix.ENOENT) {
			armed = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, &event)
		}
	})
	return errors.Join(err, armed)
}

// Forget takes back what Watch began. s must not be asleep any more.
func (w *Watcher) Forget(fd int, s Sleeper) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sleepers[int32(fd)] == s {
		delete(w.sleepers, int32(fd))
	}
}

// Close ends Run, and wakes nobody.
func (w *Watcher) Close() error { return w.file.Close() }
