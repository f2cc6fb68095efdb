//go:build !linux

package socket

import "golang.org/x/sys/unix"

// Read reads from a socket that does not block.
func Read(fd uintptr, p []byte) (int, error) { return unix.Read(int(fd), p) }

// Write writes to a socket that does not block.
func Write(fd uintptr, p []byte) (int, error) { return unix.Write(int(fd), p) }

// Writev writes a part of what vec holds to a socket that does not block.
func Writev(fd uintptr, vec *[3][]byte) (int, error) {
	for _, p := range vec {
		if len(p) > 0 {
			return unix.Write(int(fd), p)
		}
	}
	return 0, nil
}
