package bodies

import (
	"os"

	"golang.org/x/sys/unix"
)

// unlinked makes a file without a name in dir. Where the file system can not make one so, the name is taken off at once.
func unlinked(dir string) (*os.File, error) {
	for {
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), dir+"/spool"), nil
		case unix.EINTR:
			continue
		case unix.EOPNOTSUPP, unix.EISDIR:
			return created(dir)
		}
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
}
