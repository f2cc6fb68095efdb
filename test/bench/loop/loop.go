// Package loop is an event loop on one thread: edge-triggered epoll, and system calls that Go's scheduler does not see.
// The load and the backends run on it, because together, on one core, they have to be faster than the fastest proxy on the
// other: otherwise the benchmark would measure them. It knows sockets and no protocol. Linux 5.11 or newer.
package loop

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A Source is a descriptor's owner.
type Source interface {
	// Ready is called on the loop's thread when the descriptor may have become readable or writable. It is a hint: the
	// descriptor of a closed source may have been given to this one within the same batch. What counts is what a read or a
	// write says. Edges are told once, so Ready goes on until the kernel has no more.
	Ready()
}

// A Loop watches descriptors. All methods belong to one goroutine, which Pin has locked to its thread.
type Loop struct {
	epoll   int
	sources []Source // by descriptor
	events  []unix.EpollEvent
}

// batch is how many events one wait returns at most.
const batch = 256

// New returns a loop that watches nothing.
func New() (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &Loop{epoll: fd, events: make([]unix.EpollEvent, batch)}, nil
}

// Close gives the loop's own descriptor back. The sources' descriptors are their owners'.
func (l *Loop) Close() {
	_ = unix.Close(l.epoll)
}

// Add watches fd, which does not block, in both directions for as long as it is open.
func (l *Loop) Add(fd int, s Source) error {
	for fd >= len(l.sources) {
		l.sources = append(l.sources, nil)
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&math.MaxUint32, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	l.sources[fd] = s
	return nil
}

// Remove closes fd and forgets its source.
func (l *Loop) Remove(fd int) {
	l.sources[fd] = nil
	_ = unix.Close(fd)
}

// Wait calls the sources that are ready, and waits for the first one for at most limit.
func (l *Loop) Wait(limit time.Duration) error {
	n, err := wait(l.epoll, l.events, max(limit, 0))
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case errors.Is(err, unix.ENOSYS):
		return errors.New("epoll_pwait2: this kernel is older than Linux 5.11")
	case err != nil:
		return fmt.Errorf("epoll_pwait2: %w", err)
	}
	for i := range n {
		// A source that an earlier event of this batch removed is nil.
		if s := l.sources[l.events[i].Fd]; s != nil {
			s.Ready()
		}
	}
	return nil
}

// Pin locks the calling goroutine to its thread for as long as it runs, and lets the thread's timers fire when they are due
// rather than 50 µs later, which is two requests.
func Pin() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return nil
}
