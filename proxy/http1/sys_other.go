//go:build !linux

package http1

import "golang.org/x/sys/unix"

func sysRead(fd uintptr, p []byte) (int, error) { return unix.Read(int(fd), p) }

func sysWrite(fd uintptr, p []byte) (int, error) { return unix.Write(int(fd), p) }

func sysWritev(fd uintptr, vec *[3][]byte) (int, error) {
	for _, p := range vec {
		if len(p) > 0 {
			return unix.Write(int(fd), p)
		}
	}
	return 0, nil
}
