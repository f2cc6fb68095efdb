package observe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
)

// The limits of an AccessLog where AccessLogOptions does not say.
const (
	DefaultQueueLines = 64 << 10
	DefaultQueueBytes = 64 << 20
)

const (
	// chunkSize is what one write holds at most, but for longer lines: what a pipe of Linux takes at once.
	chunkSize = 64 << 10
	// spareChunks are kept for reuse; what a stalled reader made grow beyond is given back to the collector.
	spareChunks = 16
	// linger is how long the first line of a batch waits for more, so that a busy proxy writes a hundred times a second
	// and not for each request.
	linger = 10 * time.Millisecond
	// maxPooledLine is the capacity up to which a line's buffer is reused.
	maxPooledLine = 16 << 10
)

// AccessLogOptions are the settings of an AccessLog.
type AccessLogOptions struct {
	// Destination is "stdout", "stderr", "off" (or empty), or the path of a file, which is appended to, or of a named pipe.
	Destination string
	// DropQuery leaves the query out of targets and referers: users' secrets end up there.
	DropQuery bool
	// QueueLines and QueueBytes bound what waits for the writer; lines beyond are dropped and counted. 0 is the default.
	QueueLines, QueueBytes int
}

// AccessLogCounts are totals since the log was opened.
type AccessLogCounts struct {
	// Written lines have reached the file.
	Written uint64
	// DroppedQueue lines found the queue full, or the log closed; DroppedWrite lines could not be written.
	DroppedQueue, DroppedWrite uint64
}

// An AccessLog writes Entries as JSON lines. Append encodes on the request's goroutine and copies the line into a queue;
// one goroutine writes what has come together. Whatever happens to the reader of the log, no request waits for it. All
// methods may be called concurrently, and on a nil *AccessLog, which is off.
type AccessLog struct {
	encoder     encoder
	destination string
	maxLines    int
	maxBytes    int
	buffers     sync.Pool // of *[]byte, one line each

	mu     sync.Mutex
	queue  []*chunk // the last one is being filled
	spare  []*chunk
	lines  int // in queue and in the writer's hands
	bytes  int
	closed bool

	some    chan struct{} // capacity 1: the queue is no longer empty
	plenty  chan struct{} // capacity 1: there is enough for a write
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when the writer has ended

	file atomic.Pointer[os.File] // written to; replaced by the writer only
	next atomic.Pointer[os.File] // what Reopen wants it to be

	written, droppedQueue, droppedWrite atomic.Uint64
}

// A chunk is some whole lines that leave in one write.
type chunk struct {
	buf   []byte
	lines int
}

// OpenAccessLog opens the destination of o and starts the writer. The caller closes the log. A file that does not
// exist is made, readable by its owner and group. For "off" it returns nil, which is a log that drops everything.
func OpenAccessLog(o AccessLogOptions) (*AccessLog, error) {
	if o.Destination == "off" || o.Destination == "" {
		return nil, nil
	}
	file, err := openLogFile(o.Destination)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	l := newAccessLog(file, o)
	go l.run()
	return l, nil
}

// newAccessLog returns a log that queues and does not write yet.
func newAccessLog(file *os.File, o AccessLogOptions) *AccessLog {
	if o.QueueLines <= 0 {
		o.QueueLines = DefaultQueueLines
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	l := &AccessLog{
		encoder:     encoder{dropQuery: o.DropQuery},
		destination: o.Destination,
		maxLines:    o.QueueLines,
		maxBytes:    o.QueueBytes,
		buffers:     sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }},
		some:        make(chan struct{}, 1),
		plenty:      make(chan struct{}, 1),
		closing:     make(chan struct{}),
		done:        make(chan struct{}),
	}
	l.file.Store(file)
	return l
}

// Append puts e's line into the queue, or drops it where the queue is full. It never waits for the reader of the log,
// allocates nothing once the proxy has warmed up, and keeps nothing of e.
func (l *AccessLog) Append(e *Entry) {
	if l == nil {
		return
	}
	line := l.begin()
	*line = l.encoder.append(*line, e)
	l.commit(line)
}

// maxFormatted bounds a line in a format: its variables may be as long as the head of a request, each.
const maxFormatted = 64 << 10

// AppendFormat is Append for an exchange that is over and a line in a format of the operator's, with its values escaped.
func (l *AccessLog) AppendFormat(format *expr.Expr, escape expr.Escape, x *exchange.Exchange) {
	if l == nil {
		return
	}
	line := l.begin()
	*line = format.AppendEscaped(*line, x, escape)
	*line = append((*line)[:min(len(*line), maxFormatted)], '\n')
	l.commit(line)
}

// begin returns an empty line to encode into.
func (l *AccessLog) begin() *[]byte {
	line := l.buffers.Get().(*[]byte)
	*line = (*line)[:0]
	return line
}

// commit queues a copy of line and takes the buffer back. To copy half a kilobyte under the lock costs less than to hand a
// buffer from one goroutine to another, and leaves lines beside each other, ready for one write.
func (l *AccessLog) commit(line *[]byte) {
	if !l.enqueue(*line) {
		l.droppedQueue.Add(1)
	}
	if cap(*line) <= maxPooledLine {
		l.buffers.Put(line)
	}
}

// enqueue appends line to the queue, unless that is full or closed.
func (l *AccessLog) enqueue(line []byte) bool {
	l.mu.Lock()
	if l.closed || l.lines >= l.maxLines || l.bytes+len(line) > l.maxBytes {
		l.mu.Unlock()
		return false
	}
	first := len(l.queue) == 0
	full := false
	if first || len(l.queue[len(l.queue)-1].buf)+len(line) > chunkSize {
		full = !first
		l.queue = append(l.queue, l.emptyChunk())
	}
	last := l.queue[len(l.queue)-1]
	last.buf = append(last.buf, line...)
	last.lines++
	l.lines++
	l.bytes += len(line)
	l.mu.Unlock()
	if first {
		signal(l.some)
	}
	if full {
		signal(l.plenty)
	}
	return true
}

// emptyChunk returns a spare chunk or a new one. The caller holds l.mu.
func (l *AccessLog) emptyChunk() *chunk {
	if n := len(l.spare); n > 0 {
		c := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return c
	}
	return &chunk{buf: make([]byte, 0, chunkSize)}
}

// signal wakes the writer if it waits for c, or lets it not wait when it comes to it.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Counts returns the totals.
func (l *AccessLog) Counts() AccessLogCounts {
	if l == nil {
		return AccessLogCounts{}
	}
	return AccessLogCounts{Written: l.written.Load(), DroppedQueue: l.droppedQueue.Load(), DroppedWrite: l.droppedWrite.Load()}
}

// Reopen opens the path of the log again and has the writer continue there, which is what whoever rotates the file asks for
// by SIGUSR1. Lines that are queued go to the new file. It does nothing for stdout and stderr. Where the path cannot be
// opened, the log stays with the old file.
func (l *AccessLog) Reopen() error {
	if l == nil || standardStream(l.destination) != nil {
		return nil
	}
	file, err := openLogFile(l.destination)
	if err != nil {
		return fmt.Errorf("reopen access log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.Join(fmt.Errorf("reopen access log: %w", os.ErrClosed), file.Close())
	}
	if unused := l.next.Swap(file); unused != nil {
		err = unused.Close()
	}
	signal(l.some)
	return err
}

// Close drops lines that come after it, writes those that are queued, and closes the file. When ctx ends before, because
// the reader of the log has stalled, the rest is dropped and counted, and the error says how much it was. Further calls
// wait in the same way.
func (l *AccessLog) Close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	left := l.lines
	l.mu.Unlock()
	// Frees a writer that waits for a pipe; one that waits for a terminal ends with the process.
	return errors.Join(fmt.Errorf("close access log with %d lines unwritten: %w", left, ctx.Err()), l.file.Load().Close())
}
