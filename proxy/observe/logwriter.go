package observe

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openLogFile opens a destination other than "off" for appending.
func openLogFile(destination string) (*os.File, error) {
	if stream := standardStream(destination); stream != nil {
		return duplicate(stream)
	}
	// O_NONBLOCK is for named pipes: the open fails where nobody reads, instead of waiting until somebody does, and a write
	// that waits can be ended by closing the file.
	return os.OpenFile(destination, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
}

// standardStream returns the stream that a destination names, or nil. The device names are those that container images
// made usual.
func standardStream(destination string) *os.File {
	switch destination {
	case "stdout", "/dev/stdout":
		return os.Stdout
	case "stderr", "/dev/stderr":
		return os.Stderr
	}
	return nil
}

// duplicate returns another descriptor of stream. A Go program that writes to descriptor 1 or 2 when its reader has gone is
// killed by SIGPIPE; on others it gets an error (see os/signal), and the loss of a log must not be the loss of the proxy.
func duplicate(stream *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(stream.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", stream.Name(), err)
	}
	return os.NewFile(uintptr(fd), stream.Name()), nil
}

// run is the writer's goroutine: it writes what has come together until the log is closed and the queue is empty.
func (l *AccessLog) run() {
	w := logWriter{log: l, linger: time.NewTimer(linger)}
	defer close(l.done)
	for {
		open := w.wait()
		w.changeFile()
		for _, c := range w.take() {
			w.write(c)
		}
		if !open {
			w.finish()
			return
		}
	}
}

// logWriter is the state of the writer's goroutine.
type logWriter struct {
	log    *AccessLog
	linger *time.Timer
	taken  []*chunk
	torn   bool // the last write ended within a line
}

// wait returns when there is something to do. It reports whether the log is still open.
func (w *logWriter) wait() bool {
	select {
	case <-w.log.some:
	case <-w.log.closing:
		return false
	}
	w.linger.Reset(linger)
	select {
	case <-w.log.plenty:
	case <-w.linger.C:
	case <-w.log.closing:
	}
	return true
}

// changeFile continues in the file that Reopen has opened, if it has.
func (w *logWriter) changeFile() {
	next := w.log.next.Swap(nil)
	if next == nil {
		return
	}
	old := w.log.file.Swap(next)
	w.torn = false
	// Nothing can be done about a failure, and all that was written has left the process.
	_ = old.Close()
}

// take empties the queue and returns what was in it, valid until the next call.
func (w *logWriter) take() []*chunk {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	clear(w.taken) // or the array would keep what a stalled reader made the queue grow to
	w.taken, w.log.queue = w.log.queue, w.taken[:0]
	// What is said of the lines just taken must not cut the wait for the next ones short.
	select {
	case <-w.log.plenty:
	default:
	}
	return w.taken
}

// write writes c once. What fails is dropped: a full disk does not become emptier by trying again at once.
func (w *logWriter) write(c *chunk) {
	file := w.log.file.Load()
	var written int
	var err error
	if w.torn {
		// The next line must not be read as the rest of the one that was cut off.
		_, err = file.Write([]byte{'\n'})
	}
	if err == nil {
		written, err = file.Write(c.buf)
		w.torn = written > 0 && c.buf[written-1] != '\n'
	}
	lines := c.lines
	if err != nil {
		lines = bytes.Count(c.buf[:written], []byte{'\n'})
	}
	w.log.written.Add(uint64(lines))
	w.log.droppedWrite.Add(uint64(c.lines - lines))
	w.log.release(c)
}

// release gives back the room of a chunk that was written.
func (l *AccessLog) release(c *chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines -= c.lines
	l.bytes -= len(c.buf)
	if len(l.spare) < spareChunks && cap(c.buf) == chunkSize {
		c.buf, c.lines = c.buf[:0], 0
		l.spare = append(l.spare, c)
	}
}

// finish closes the files. Nothing is appended any more.
func (w *logWriter) finish() {
	w.linger.Stop()
	if unused := w.log.next.Swap(nil); unused != nil {
		_ = unused.Close()
	}
	_ = w.log.file.Load().Close()
}
