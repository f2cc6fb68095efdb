package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frame takes the frame whose header was read.
func (l *link) frame(h http2.FrameHeader) error {
	switch h.Type {
	case http2.FrameData:
		return l.data(h)
	case http2.FrameHeaders:
		return l.headers(h)
	case http2.FrameContinuation:
		return l.continuation(h)
	case http2.FramePriority, http2.FrameRSTStream, http2.FrameSettings, http2.FramePing, http2.FrameGoAway, http2.FrameWindowUpdate:
		return l.control(h)
	case http2.FramePushPromise:
		return errPush
	}
	// RFC 9113 section 4.1: frames of unknown types are ignored.
	if err := l.idleFrame(); err != nil {
		return err
	}
	return l.in.skip(int(h.Length))
}

func (l *link) idleFrame() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guard.idle()
}

// data takes a DATA frame: its bytes go to the stream as they come.
func (l *link) data(h http2.FrameHeader) error {
	if h.StreamID == 0 {
		return errStreamZero
	}
	n, pad := int(h.Length), 0
	if h.Flags.Has(http2.FlagDataPadded) {
		b, err := l.in.whole(min(1, n))
		if err != nil {
			return err
		}
		if n == 0 || int(b[0]) >= n {
			return errPadding
		}
		pad = int(b[0])
		l.in.r++
		n -= 1 + pad
	}
	if err := l.admit(h, n); err != nil {
		if _, ok := err.(*fault); !ok { //nolint:errorlint // admit returns faults bare
			if skip := l.in.skip(n + pad); skip != nil {
				return skip
			}
		}
		return err
	}
	for n > 0 {
		p, err := l.in.some(n)
		if err != nil {
			return midFrame(err)
		}
		if err := l.deliver(h.StreamID, p); err != nil {
			return err
		}
		l.in.r += len(p)
		n -= len(p)
	}
	if err := l.in.skip(pad); err != nil {
		return err
	}
	if h.Flags.Has(http2.FlagDataEndStream) {
		return l.endRemote(h.StreamID)
	}
	return nil
}

// admit judges a DATA frame with n bytes beside its padding, and charges the windows for all of it.
func (l *link) admit(h http2.FrameHeader, n int) error {
	l.mu.Lock()
	defer l.unlockAndFlush()
	all := int(h.Length)
	if all > l.recvWindow {
		return errConnWindow
	}
	l.recvWindow -= all
	if n > 0 || h.Flags.Has(http2.FlagDataEndStream) {
		l.guard.moved(n)
	} else if err := l.guard.idle(); err != nil {
		return err
	}
	s := l.streams.find(h.StreamID)
	l.credit(all - n)
	err := l.admitTo(s, h, n)
	if err != nil {
		l.credit(n)
	}
	return err
}

// admitTo is admit for a stream, or none. The lock is held.
func (l *link) admitTo(s *stream, h http2.FrameHeader, n int) error {
	if s == nil {
		return l.closedFrame(h.StreamID)
	}
	b, all := &s.body, int(h.Length)
	switch {
	case b.done:
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed}
	case s.client != nil && !s.client.final:
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	case all > b.window:
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	case b.declared >= 0 && b.received+int64(n) > b.declared:
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	b.window -= all
	if all > n {
		b.giveBack(all-n, 0)
	}
	return nil
}

// closedFrame judges DATA for a stream that is not open. nil means that it is ignored.
func (l *link) closedFrame(id uint32) error {
	if id > l.maxID || id%2 == 0 {
		return errIdleStream
	}
	switch l.recent.how(id) {
	case byReset:
		return nil
	case ended:
		return errClosedStream
	}
	return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
}

// deliver gives bytes of a DATA frame to its stream, which may have ended meanwhile.
func (l *link) deliver(id uint32, p []byte) error {
	l.mu.Lock()
	defer l.unlockAndFlush()
	if s := l.streams.find(id); s != nil {
		s.body.put(p)
		return nil
	}
	l.credit(len(p))
	return nil
}

// endRemote takes the end of the peer's half of a stream.
func (l *link) endRemote(id uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.streams.find(id)
	if s == nil {
		return nil
	}
	return l.endBody(s)
}

// endBody ends the receiving half of a stream. The lock is held.
func (l *link) endBody(s *stream) error {
	b := &s.body
	if b.declared >= 0 && b.received != b.declared {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	b.end()
	if s.localDone {
		l.close(s, ended)
		l.guard.completed()
	}
	return nil
}

// block is a header block, gathered from HEADERS and CONTINUATION.
type block struct {
	id        uint32
	flags     http2.Flags
	dependsOn uint32
	fragment  []byte // valid until more is read
	gathered  []byte
	frames    int
}

func (b *block) endStream() bool { return b.flags.Has(http2.FlagHeadersEndStream) }

// headers takes a HEADERS frame.
func (l *link) headers(h http2.FrameHeader) error {
	if h.StreamID == 0 {
		return errStreamZero
	}
	if l.in.buffered() < int(h.Length) || !h.Flags.Has(http2.FlagHeadersEndHeaders) {
		l.mu.Lock()
		l.enter(inHead)
		l.lateBlock = true
		l.mu.Unlock()
	}
	p, err := l.in.whole(int(h.Length))
	if err != nil {
		return err
	}
	b := &l.block
	*b = block{id: h.StreamID, flags: h.Flags}
	pad := 0
	if h.Flags.Has(http2.FlagHeadersPadded) {
		if len(p) == 0 {
			return errShort
		}
		pad, p = int(p[0]), p[1:]
	}
	if h.Flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return errShort
		}
		b.dependsOn = binary.BigEndian.Uint32(p) & maxWindow
		p = p[5:]
	}
	if pad > len(p) {
		return errPadding
	}
	p = p[:len(p)-pad]
	if h.Flags.Has(http2.FlagHeadersEndHeaders) {
		b.fragment = p
		err = l.endBlock()
	} else {
		b.gathered = append(b.gathered, p...)
	}
	l.in.r += int(h.Length)
	return err
}

// continuation takes a CONTINUATION frame. The Framer has seen to it that it follows its HEADERS.
func (l *link) continuation(h http2.FrameHeader) error {
	b := &l.block
	b.frames++
	if b.frames > maxContinuations || len(b.gathered)+int(h.Length) > maxBlock {
		return errBlock
	}
	p, err := l.in.whole(int(h.Length))
	if err != nil {
		return err
	}
	b.gathered = append(b.gathered, p...)
	l.in.r += int(h.Length)
	if !h.Flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	b.fragment, b.gathered = b.gathered, nil
	return l.endBlock()
}

// endBlock takes a header block that is complete.
func (l *link) endBlock() error {
	b := &l.block
	err := l.side.section(b)
	b.fragment = nil
	if l.lateBlock {
		l.mu.Lock()
		l.lateBlock = false
		l.rest()
		l.mu.Unlock()
	}
	return err
}

// decode decodes a header block. Its fields go to the function that was set for them.
func (l *link) decode(b *block) error {
	if _, err := l.dec.Write(b.fragment); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if err := l.dec.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	return nil
}

// skipField is where fields go that nobody wants.
func skipField(hpack.HeaderField) {}

// lateBlockFor takes a header block for a stream that is not open any more.
func (l *link) lateBlockFor(b *block) error {
	l.dec.SetEmitFunc(skipField)
	l.dec.SetEmitEnabled(false)
	if err := l.decode(b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.recent.how(b.id) {
	case byReset:
		return l.guard.idle()
	case ended:
		return errClosedStream
	}
	return errStreamID
}
