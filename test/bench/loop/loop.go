// Package loop is an event loop on one thread of one core: edge-triggered epoll, and system calls that Go's scheduler does not
// see. The load and the backends run on it, on the same one where there are two cores, because together they have to be faster
// than the fastest proxy on the other core: otherwise the benchmark would measure them. It knows sockets and no protocol.
// Linux 5.11 or newer.
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
	// write says. Edges are told once, so Ready goes on until the kernel has no more: a read that returns less than was asked
	// for says so, unless the peer has ended, which then is the same edge.
	Ready(e Edge)
}

// Edge is what has become of a descriptor.
type Edge uint32

// Ended reports whether the peer has ended the connection, or its sending side: what it sent before is still to be read, and then
// the end.
func (e Edge) Ended() bool { return e&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 }

// A Loop watches descriptors and calls their sources. Do may be called by anyone, the other methods only by what it runs: by
// sources and by functions given to Do.
type Loop struct {
	epoll   int
	sources []Source // by descriptor
	events  []unix.EpollEvent
	tasks   chan task
	stop    chan struct{}
	done    chan struct{}
	err     error // after done
}

// task is a function that Do was given.
type task struct {
	run  func() error
	done chan<- error
}

// batch is how many events one wait returns at most.
const batch = 256

// errStopped is what Do returns when the loop has ended.
var errStopped = errors.New("the event loop has ended")

// Start starts a loop on a core. Its thread does not let go of its right to run Go code while it waits, so that there is one
// more of these, GOMAXPROCS, until Close.
func Start(core int) (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	l := &Loop{epoll: fd, events: make([]unix.EpollEvent, batch), tasks: make(chan task), stop: make(chan struct{}), done: make(chan struct{})}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	go func() {
		defer close(l.done)
		l.err = l.run(core)
	}()
	if err := l.Do(func() error { return nil }); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close ends the loop and returns why it had ended before, nil where it had not. What it watches stays open: it is its owners'.
func (l *Loop) Close() error {
	close(l.stop)
	<-l.done
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - 1)
	return errors.Join(l.err, unix.Close(l.epoll))
}

// Do runs f on the loop's thread, between two turns, and returns what it returns. f may call Turn.
func (l *Loop) Do(f func() error) error {
	done := make(chan error, 1)
	select {
	case l.tasks <- task{f, done}:
		return <-done
	case <-l.done:
		if l.err != nil {
			return l.err
		}
		return errStopped
	}
}

// run turns until the loop is stopped. The thread ends with it.
func (l *Loop) run(core int) error {
	runtime.LockOSThread()
	var only unix.CPUSet
	only.Set(core)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("core %d: sched_setaffinity: %w", core, err)
	}
	// Without it the kernel lets timers fire 50 µs late, which is two requests.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	for {
		select {
		case <-l.stop:
			return nil
		case t := <-l.tasks:
			t.done <- t.run()
		default:
			if err := l.Turn(slice); err != nil {
				return err
			}
		}
	}
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

// Turn calls the sources that are ready, and waits for the first one for at most limit, or less.
func (l *Loop) Turn(limit time.Duration) error {
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
			s.Ready(Edge(l.events[i].Events))
		}
	}
	return nil
}
