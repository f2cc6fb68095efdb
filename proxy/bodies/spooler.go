package bodies

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// SpoolerOptions are the settings of a Spooler.
type SpoolerOptions struct {
	// Dir is the folder of the files, on a disk: in one of a file system in memory they cost memory. Empty is the system's own for
	// temporary files.
	Dir string
	// MaxBytes is how many bytes all files together may hold (1 GiB), MaxFiles how many there may be at a time (1,000).
	MaxBytes int64
	MaxFiles int
}

// Spooler makes Spools, and bounds what they take from the disk together. It may be used concurrently.
//
// A file has no name from the first moment on, so what a crash leaves is nothing, and nobody else can open it.
type Spooler struct {
	dir                string
	maxBytes, maxFiles int64

	bytes, files    atomic.Int64
	spilled         atomic.Uint64
	refused, failed atomic.Uint64
}

// SpoolerStats say what a Spooler's files take now, and what became of them so far.
type SpoolerStats struct {
	// Bytes and Files are on disk now.
	Bytes, Files int64
	// Spilled counts the bodies for which a file was made, Refused those for which the bounds of the Spooler left no room, and Failed those
	// that the disk failed.
	Spilled, Refused, Failed uint64
}

// NewSpooler returns a Spooler. It touches no disk: Check does.
func NewSpooler(o SpoolerOptions) *Spooler {
	s := &Spooler{dir: o.Dir, maxBytes: o.MaxBytes, maxFiles: int64(o.MaxFiles)}
	if s.dir == "" {
		s.dir = os.TempDir()
	}
	if s.maxBytes <= 0 {
		s.maxBytes = 1 << 30
	}
	if s.maxFiles <= 0 {
		s.maxFiles = 1000
	}
	return s
}

// Check reports why no file can be made and written, before a request depends on it.
func (s *Spooler) Check() error {
	f, err := unlinked(s.dir)
	if err != nil {
		return fmt.Errorf("request bodies can not be spooled: %w", err)
	}
	_, err = f.WriteAt([]byte{0}, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("request bodies can not be spooled to %s: %w", s.dir, err)
	}
	return nil
}

// Stats returns what the files take now, and what became of them so far.
func (s *Spooler) Stats() SpoolerStats {
	return SpoolerStats{
		Bytes: s.bytes.Load(), Files: s.files.Load(),
		Spilled: s.spilled.Load(), Refused: s.refused.Load(), Failed: s.failed.Load(),
	}
}

// ErrSpoolTooLarge says that a body is larger than its SpoolLimits allow: the client's request is refused with 413.
var ErrSpoolTooLarge = errors.New("request body too large to be spooled")

// ErrSpoolFull is the cause in a SpoolError where the bounds of the Spooler left no room.
var ErrSpoolFull = errors.New("no room for another spooled request body")

// SpoolError says that a body could not be kept, which is the proxy's fault and neither the client's nor the Pod's: the answer is 503. It
// wraps ErrSpoolFull, or the disk's own error.
type SpoolError struct{ Err error }

// Error says what failed.
func (e *SpoolError) Error() string { return "spool: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SpoolError) Unwrap() error { return e.Err }

// open makes a file within the bounds.
func (s *Spooler) open() (*os.File, error) {
	if s.files.Add(1) > s.maxFiles {
		s.files.Add(-1)
		return nil, s.full()
	}
	f, err := unlinked(s.dir)
	if err != nil {
		s.files.Add(-1)
		return nil, s.broken(err)
	}
	s.spilled.Add(1)
	return f, nil
}

// reserve takes n bytes of the disk.
func (s *Spooler) reserve(n int64) error {
	if s.bytes.Add(n) > s.maxBytes {
		s.bytes.Add(-n)
		return s.full()
	}
	return nil
}

// close gives a file back, and the bytes that were reserved for it.
func (s *Spooler) close(f *os.File, reserved int64) {
	// Nobody reads the file any more, so there is nothing that an error could mean to anyone.
	_ = f.Close()
	s.files.Add(-1)
	s.bytes.Add(-reserved)
}

func (s *Spooler) full() error {
	s.refused.Add(1)
	return &SpoolError{ErrSpoolFull}
}

func (s *Spooler) broken(err error) error {
	s.failed.Add(1)
	return &SpoolError{err}
}

// created makes a file in dir and takes its name off at once.
func created(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "podlane-spool-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
