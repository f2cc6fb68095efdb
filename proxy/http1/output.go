package http1

import (
	"io"
	"strconv"

	"podlane.dev/podlane/proxy/exchange"
)

// copyLimit is the size up to which body bytes are copied behind the head, so that one write carries both: a copy of this
// size is cheaper than a second element of writev(2).
const copyLimit = 4 << 10

// output is the write half of a connection: it buffers the head of a message and small pieces of its body until Flush, and writes
// larger pieces together with what is buffered by one writev(2), without copying them.
type output struct {
	writer
	held    *buffer
	buf     []byte // bytes not written yet
	chunked bool
	left    int64 // bytes of the declared length still to come; -1 where none was declared
	// written counts body bytes that were handed to the connection or buffered for it.
	written int64
	// begun says that at least one byte of the message went to the connection.
	begun bool
}

func (o *output) hold() {
	if o.held == nil {
		o.held = buffers.Get().(*buffer)
		o.buf = o.held.b[:0]
	}
}

// reset gives the buffer back between messages.
func (o *output) reset() {
	if o.held != nil {
		buffers.Put(o.held)
	}
	o.held, o.buf = nil, nil
	o.written, o.begun, o.chunked, o.left = 0, false, false, 0
}

// frame says how the body that follows ends: by its length, by chunks (length -1), or with the connection.
func (o *output) frame(f framing, length int64) {
	o.chunked = f == byChunks
	o.left = -1
	if f == byLength {
		o.left = length
	}
}

// appendInt appends a decimal number.
func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }

// Write adds body bytes. It returns io.ErrShortWrite for bytes beyond the declared length, of which none is sent.
func (o *output) Write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if o.left >= 0 {
		if int64(len(p)) > o.left {
			return io.ErrShortWrite
		}
		o.left -= int64(len(p))
	}
	o.written += int64(len(p))
	o.hold()
	if o.chunked {
		o.buf = strconv.AppendUint(o.buf, uint64(len(p)), 16)
		o.buf = append(o.buf, "\r\n"...)
	}
	if len(p) <= copyLimit && len(o.buf)+len(p)+maxChunkTail < cap(o.buf) {
		o.buf = append(o.buf, p...)
		if o.chunked {
			o.buf = append(o.buf, "\r\n"...)
		}
		if len(o.buf) > cap(o.buf)-copyLimit {
			return o.Flush()
		}
		return nil
	}
	return o.writeThrough(p)
}

// maxChunkTail is the room that the framing behind and before a piece of body may need.
const maxChunkTail = 32

var crlf = []byte("\r\n")

func (o *output) writeThrough(p []byte) error {
	var end []byte
	if o.chunked {
		end = crlf
	}
	o.begun = true
	var err error
	if len(o.buf) > 0 {
		err = o.writeAll(o.buf, p, end)
	} else {
		err = o.writeAll(p, end, nil)
	}
	o.buf = o.buf[:0]
	return err
}

// Flush writes what is buffered.
func (o *output) Flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	o.begun = true
	err := o.writeAll(o.buf, nil, nil)
	o.buf = o.buf[:0]
	return err
}

// Finish ends the body, with trailers where it is chunked and there are any, and flushes. It returns
// io.ErrUnexpectedEOF, and leaves the message unfinished, where fewer bytes came than were declared.
func (o *output) Finish(trailers *exchange.Fields) error {
	if o.left > 0 {
		return io.ErrUnexpectedEOF
	}
	if o.chunked {
		o.hold()
		o.buf = append(o.buf, "0\r\n"...)
		if trailers != nil {
			o.buf = trailers.AppendTo(o.buf)
		}
		o.buf = append(o.buf, "\r\n"...)
	}
	return o.Flush()
}

// Written is the number of body bytes given to Write since the message began.
func (o *output) Written() int64 { return o.written }

// Begun reports whether any byte of the message went to the connection.
func (o *output) Begun() bool { return o.begun }
