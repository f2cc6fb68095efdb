package upstream

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// emptyAndOpen peeks at one byte without waiting. The raw system call spares the scheduler's bookkeeping, which costs more
// than the call itself, and is safe because the call never blocks.
func emptyAndOpen(fd int) bool {
	var b byte
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1,
			unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return errno == unix.EAGAIN
		}
	}
}
