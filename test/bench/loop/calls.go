package loop

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls on sockets do not block, so they are made without telling the scheduler: that saves a tenth of a microsecond each,
// and there are four in a request. The wait does block, and tells it, or the garbage collector could not stop the world.

// wait is epoll_pwait2, which is epoll_wait with a timeout in nanoseconds; package unix has no function for it.
func wait(epoll int, events []unix.EpollEvent, limit time.Duration) (int, error) {
	ts := unix.NsecToTimespec(limit.Nanoseconds())
	n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
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
