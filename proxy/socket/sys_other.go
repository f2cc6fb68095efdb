//go:build !linux

package socket

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Read reads from a socket that does not block.
func Read(fd uintptr, p []byte) (int, unix.Errno) { return result(unix.Read(int(fd), p)) }

// Write writes to a socket that does not block.
func Write(fd uintptr, p []byte) (int, unix.Errno) { return result(unix.Write(int(fd), p)) }

// Writev writes a part of what vec holds to a socket that does not block.
func Writev(fd uintptr, vec *[3][]byte) (int, unix.Errno) {
	for _, p := range vec {
		if len(p) > 0 {
			return Write(fd, p)
		}
	}
	return 0, 0
}

func result(n int, err error) (int, unix.Errno) {
	if err == nil {
		return n, 0
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return 0, errno
}
