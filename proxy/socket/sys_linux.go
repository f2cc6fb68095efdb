package socket

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// These calls are on sockets that do not block, so they need none of the bookkeeping by which the scheduler takes a thread's processor
// away during a long call. Sparing it saves more than its own cost: the runtime's monitor thread wakes every 20 µs for as
// long as it finds processors in system calls, and this finds none.

// Read reads from a socket that does not block. At the end it returns 0 bytes and 0, where nothing has come unix.EAGAIN.
func Read(fd uintptr, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Write writes to a socket that does not block. Where there is no room it returns unix.EAGAIN.
func Write(fd uintptr, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Writev writes the pieces of vec, of which any may be empty, to a socket that does not block.
func Writev(fd uintptr, vec *[3][]byte) (int, unix.Errno) {
	var iov [len(vec)]unix.Iovec
	count := 0
	for _, p := range vec {
		if len(p) > 0 {
			iov[count].Base = unsafe.SliceData(p)
			iov[count].SetLen(len(p))
			count++
		}
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&iov)), uintptr(count))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
