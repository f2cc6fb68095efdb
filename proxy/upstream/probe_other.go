//go:build !linux

package upstream

import "golang.org/x/sys/unix"

// emptyAndOpen peeks at one byte without waiting.
func emptyAndOpen(fd int) bool {
	var b [1]byte
	for {
		_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return err == unix.EAGAIN
		}
	}
}
