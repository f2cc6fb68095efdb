package loop

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls are made without telling Go's scheduler, because its attention costs more than they do: what it would do is take
// the thread's right to run Go code away, thousands of times a second, and hand it back.

// slice bounds a wait, so that a garbage collection, which has to stop this thread, waits little for it.
const slice = 10 * time.Millisecond

// wait is epoll_pwait2, which is epoll_wait with a timeout in nanoseconds; package unix has no function for it. It waits at
// most for a slice.
func wait(epoll int, events []unix.EpollEvent, limit time.Duration) (int, error) {
	ts := unix.NsecToTimespec(min(limit, slice).Nanoseconds())
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(&ts)), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Read reads from a socket that does not block. again says that nothing has come. n is 0 at the end.
func Read(fd int, p []byte) (n int, again bool, err error) {
	r, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return result(r, e)
}

// Write writes head and then tail, in one call, to a socket that does not block. again says that nothing could be written.
func Write(fd int, head, tail []byte) (n int, again bool, err error) {
	if len(tail) == 0 {
		r, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(head))), uintptr(len(head)),
			unix.MSG_NOSIGNAL, 0, 0)
		return result(r, e)
	}
	vectors := [2]unix.Iovec{{Base: unsafe.SliceData(head)}, {Base: unsafe.SliceData(tail)}}
	vectors[0].SetLen(len(head))
	vectors[1].SetLen(len(tail))
	message := unix.Msghdr{Iov: &vectors[0]}
	message.SetIovlen(len(vectors))
	r, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)), unix.MSG_NOSIGNAL)
	return result(r, e)
}

func result(r uintptr, e unix.Errno) (n int, again bool, err error) {
	switch e {
	case 0:
		return int(r), false, nil
	case unix.EAGAIN, unix.EINTR:
		return 0, true, nil
	default:
		return 0, false, e
	}
}
