package http2

import (
	"runtime"
	"sync"

	"golang.org/x/net/http2"
)

const (
	// outputSize is the size of the buffer that collects frames: two TLS records. While one is written another one fills, and
	// no more: who has DATA for a third waits.
	outputSize = 32 << 10
	// leastRoom is the least room for which a piece of a long body is worth a frame.
	leastRoom = 2 << 10
	// maxControl bounds the frames other than HEADERS and DATA that wait for a peer which does not read.
	maxControl = 64 << 10
)

var outputs = sync.Pool{New: func() any { return &buffer{make([]byte, 0, outputSize)} }}

// output collects the frames of all streams, and of the reader, until the writer takes them. It is guarded by the connection's lock,
// under which nothing waits: the writer calls Write without it.
type output struct {
	held    *buffer // what buf came from; nil while nothing is buffered
	buf     []byte
	control int       // bytes of control frames in buf
	wake    sync.Cond // the writer waits here
	parked  bool      // the writer waits
	started bool      // there is a writer
	retire  bool      // the writer shall end when it has nothing to write
	ended   bool      // nothing will be written any more
	queue   queue     // streams with long DATA that wait for room, or for the connection's window
	blocked int       // streams that wait for room out of turn
	// resize says that the next header block begins with the news that our dynamic table has no entries (RFC 7541 section 4.2).
	resize bool
}

func (o *output) hold() {
	if o.held == nil {
		o.held = outputs.Get().(*buffer)
		o.buf = o.held.b[:0]
	}
}

// room is the number of payload bytes for which a DATA frame has room.
func (o *output) room() int {
	if o.held == nil {
		return outputSize - frameHeader
	}
	return cap(o.held.b) - len(o.buf) - frameHeader
}

// admits reports whether n bytes out of turn, a header block or the end of a message, may come now: they may use as much again as
// the buffer has.
func (o *output) admits(n int) bool { return len(o.buf) == 0 || len(o.buf)+n <= 2*outputSize }

// Write implements io.Writer for the Framer, which writes control frames under the connection's lock.
func (o *output) Write(p []byte) (int, error) {
	o.hold()
	o.buf = append(o.buf, p...)
	o.control += len(p)
	return len(p), nil
}

func appendFrameHeader(dst []byte, h http2.FrameHeader) []byte {
	n, id := h.Length, h.StreamID
	return append(dst, byte(n>>16), byte(n>>8), byte(n), byte(h.Type), byte(h.Flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// data appends a DATA frame.
func (o *output) data(id uint32, p []byte, flags http2.Flags) {
	o.hold()
	o.buf = appendFrameHeader(o.buf, http2.FrameHeader{Type: http2.FrameData, Flags: flags, StreamID: id, Length: uint32(len(p))})
	o.buf = append(o.buf, p...)
}

// headers appends a header block as HEADERS and, where it is long, CONTINUATION frames, between which no other may come.
func (o *output) headers(id uint32, block []byte, flags http2.Flags) {
	o.hold()
	h := http2.FrameHeader{Type: http2.FrameHeaders, Flags: flags, StreamID: id}
	extra := 0
	if o.resize {
		extra = 1
	}
	for first := true; first || len(block) > 0; first = false {
		n := min(len(block), maxFrame-extra)
		h.Length = uint32(n + extra)
		if n == len(block) {
			h.Flags |= http2.FlagHeadersEndHeaders
		}
		o.buf = appendFrameHeader(o.buf, h)
		if extra > 0 {
			o.buf = append(o.buf, sizeUpdate)
			o.resize, extra = false, 0
		}
		o.buf = append(o.buf, block[:n]...)
		block = block[n:]
		h.Type, h.Flags = http2.FrameContinuation, 0
	}
}

// flush sees to it that what is buffered leaves soon. The lock is held.
func (l *link) flush() {
	if l.unparks() {
		l.out.wake.Signal()
	}
}

// unlockAndFlush is flush and then the end of the lock, before the writer wants it.
func (l *link) unlockAndFlush() {
	wake := l.unparks()
	l.mu.Unlock()
	if wake {
		l.out.wake.Signal()
	}
}

// unparks starts the writer where there is none, and reports whether there is one that waits and has to be woken.
func (l *link) unparks() bool {
	o := &l.out
	switch {
	case o.ended, len(o.buf) == 0 && !o.retire && !l.closing && !l.dead:
		return false
	case l.dead && !o.started:
		// Nothing is left to write, and whoever waits for the end of all goroutines may have waited already.
		return false
	case !o.started:
		o.started = true
		l.tasks.Add(1)
		go l.write()
		return false
	}
	parked := o.parked
	o.parked = false
	return parked
}

// write is the writer's goroutine. It ends when the connection has failed, when all is said, and when Sweep found that the connection
// rests.
func (l *link) write() {
	defer l.tasks.Done()
	o := &l.out
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(o.buf) == 0 || l.dead {
			if o.retire || l.dead || l.closing {
				l.endWriter()
				return
			}
			o.parked = true
			o.wake.Wait()
		}
		if l.active > 1 {
			// Streams that are about to answer run first, and their answers leave with this one.
			l.mu.Unlock()
			runtime.Gosched()
			l.mu.Lock()
		}
		l.writeBuffered()
	}
}

// writeBuffered writes what is buffered, without the lock.
func (l *link) writeBuffered() {
	o := &l.out
	held, buf := o.held, o.buf
	if len(buf) == 0 {
		return
	}
	o.held, o.buf, o.control = nil, nil, 0
	l.writes.Add(1)
	l.passRoom()
	l.mu.Unlock()
	err := l.sink.writeAll(buf)
	outputs.Put(held) // a block that outgrew it lies elsewhere
	l.mu.Lock()
	l.writes.Add(1)
	if err != nil {
		l.die(err)
	}
}

// endWriter ends the writer: where the connection closes, it has written the last byte.
func (l *link) endWriter() {
	o := &l.out
	o.started, o.parked, o.retire = false, false, false
	o.ended = l.dead || l.closing
	if l.dead || !l.closing {
		return
	}
	if w, ok := l.nc.(interface{ CloseWrite() error }); ok {
		l.mu.Unlock()
		err := w.CloseWrite()
		l.mu.Lock()
		if err == nil {
			return
		}
	}
	l.die(ErrConnection)
}
