package http2

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// link is what both sides' connections are made of: the loop that reads frames, the buffer that frames leave by, windows, SETTINGS,
// PING and GOAWAY.
type link struct {
	nc    net.Conn
	o     Options
	side  side
	in    input
	fr    *http2.Framer
	dec   *hpack.Decoder
	tasks sync.WaitGroup // the writer and, on the server's side, streams

	block block // the reader's own
	sink  sink  // the writer's own

	// What Sweep looks at.
	phase   atomic.Uint32 // what the reader waits for, and in the upper bits how often that has changed
	writes  atomic.Uint32 // odd while the writer writes
	unacked atomic.Uint32 // our SETTINGS has not been acknowledged
	waiting atomic.Int32  // streams that wait to send
	sweep   sweep

	mu         sync.Mutex
	out        output
	streams    table
	recent     recent
	guard      guard
	active     int   // streams that somebody works on
	window     int64 // what the peer takes on the connection
	peerWindow int64 // and on a new stream
	recvWindow int   // what the peer may still send on the connection
	owed       int   // bytes pulled, not given back yet
	// pod says that the peer is a Pod: streams are ours, and the connection's window is given back as bytes come, so that only the streams'
	// bound what is held: one slow client must not stop the answers to all others that share a connection.
	pod       bool
	maxID     uint32
	lateBlock bool   // a header block's end has to be waited for
	closing   bool   // the last frame is written or buffered
	dead      bool   // nothing can be read or written any more
	lapsed    *fault // what Sweep ends the connection for
	cause     error  // why the socket failed
}

// side is what the two sides of a connection do differently.
type side interface {
	// section is told of a header block that is complete. It must decode it in any case.
	section(b *block) error
	// pong is told that the peer has answered a PING of ours.
	pong(data [8]byte)
	// goAway is told of the peer's GOAWAY.
	goAway(last uint32, code http2.ErrCode)
	// setting is told of a setting that is of no concern to the link.
	setting(http2.Setting)
	// stepped is told, under the lock, that a stream was closed.
	stepped()
}

func (l *link) init(nc net.Conn, o Options, s side) {
	l.nc, l.o, l.side = nc, o, s
	l.fr = http2.NewFramer(&l.out, &l.in)
	l.fr.SetMaxReadFrameSize(maxFrame)
	l.fr.SetReuseFrames()
	l.dec = hpack.NewDecoder(uint32(l.o.TableSize), nil)
	l.window, l.peerWindow, l.recvWindow = firstWindow, firstWindow, firstWindow
	l.out.wake.L = &l.mu
	l.sink.init(nc, &l.writes)
}

// greet sends our SETTINGS and opens the connection's window. The lock is held.
func (l *link) greet(settings ...http2.Setting) {
	settings = append(settings,
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(l.o.StreamWindow)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(l.o.HeaderList)},
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(l.o.TableSize)},
	)
	_ = l.fr.WriteSettings(settings...)
	l.unacked.Store(1)
	if more := l.o.ConnWindow - firstWindow; more > 0 {
		_ = l.fr.WriteWindowUpdate(0, uint32(more))
		l.recvWindow += more
	}
}

// streamWindow is what the peer may send on a new stream. Before it knows of a smaller one, it takes the protocol's.
func (l *link) streamWindow() int {
	if l.unacked.Load() != 0 {
		return max(l.o.StreamWindow, firstWindow)
	}
	return l.o.StreamWindow
}

// credit gives the connection's window back for n bytes. The lock is held.
func (l *link) credit(n int) {
	l.owed += n
	if l.owed < max(1, min(l.o.ConnWindow/8, firstWindow)) {
		return
	}
	l.recvWindow += l.owed
	l.windowUpdate(0, l.owed)
	l.owed = 0
}

// windowUpdate frames a WINDOW_UPDATE. The lock is held.
func (l *link) windowUpdate(id uint32, n int) {
	if !l.mute() {
		_ = l.fr.WriteWindowUpdate(id, uint32(n))
		l.flush()
	}
}

// mute reports whether nothing may be framed any more.
func (l *link) mute() bool { return l.closing || l.dead }

// reset ends a stream of ours with RST_STREAM. The lock is held.
func (l *link) reset(s *stream, code http2.ErrCode) {
	if !s.open {
		return
	}
	l.close(s, byReset)
	if s.id != 0 { // else the peer knows nothing of it
		l.refuse(s.id, code)
	}
}

// refuse frames a RST_STREAM. The lock is held.
func (l *link) refuse(id uint32, code http2.ErrCode) {
	if !l.mute() {
		_ = l.fr.WriteRSTStream(id, code)
	}
}

// close takes a stream out of the table. The lock is held.
func (l *link) close(s *stream, how closing) {
	if !s.open {
		return
	}
	s.open = false
	l.streams.remove(s)
	l.recent.add(s.id, how)
	l.side.stepped()
}

// die says that the socket has failed, or is not wanted any more. The lock is held.
func (l *link) die(err error) {
	if l.dead {
		return
	}
	if l.closing {
		err = nil // all was said
	}
	l.dead, l.cause = true, err
	// Whoever reads or writes ends at once, without a word on an encrypted connection either.
	_ = l.nc.SetDeadline(past)
	l.out.wake.Signal()
}

// end breaks all streams.
func (l *link) end(err error) {
	for {
		var s *stream
		l.mu.Lock()
		for _, s = range l.streams.buckets {
			if s != nil {
				break
			}
		}
		if s == nil {
			l.mu.Unlock()
			return
		}
		hook := s.fail(err)
		l.close(s, ended)
		l.mu.Unlock()
		if hook != nil {
			hook()
			s.hooked()
		}
	}
}

// farewell sends the last frame, with which our side of the connection ends. The lock is held.
func (l *link) farewell(code http2.ErrCode, detail string) {
	if l.mute() {
		return
	}
	last := l.maxID
	if l.pod {
		last = 0
	}
	_ = l.fr.WriteGoAway(last, code, []byte(detail))
	l.closing = true
	l.enter(lingering)
	l.flush()
}

// run reads frames until the connection ends, and returns why.
func (l *link) run() error {
	for {
		h, err := l.fr.ReadFrameHeader()
		if err == nil {
			err = l.frame(h)
		}
		if err == nil {
			continue
		}
		if s, ok := errors.AsType[http2.StreamError](err); ok {
			err = l.streamFault(s.StreamID, s.Code)
		}
		if err != nil {
			return err
		}
	}
}

// conclude ends the connection after run: what can still be said is said, streams are broken, and what the peer still sends is
// discarded for a moment, so that it reads what was said. It returns why the connection ended, nil where that is as it should be.
func (l *link) conclude(err error) error {
	l.mu.Lock()
	if errors.Is(err, os.ErrDeadlineExceeded) && l.lapsed != nil {
		err = l.lapsed
	}
	code, detail, last := verdict(err)
	switch {
	case l.dead:
		err = l.cause
	case last:
		_ = l.nc.SetReadDeadline(never)
		l.farewell(code, detail)
		if code == http2.ErrCodeNo {
			err = nil
		}
	case l.closing, errors.Is(err, io.EOF):
		err = nil
	}
	if !l.closing {
		l.die(err)
	}
	l.mu.Unlock()
	l.end(ErrConnection)
	l.discard()
	l.kill()
	return err
}

// discard reads on where the last frame was sent, until the peer ends the connection or Sweep finds that it lingers.
func (l *link) discard() {
	l.mu.Lock()
	lingers := l.closing && !l.dead
	l.mu.Unlock()
	for n := 0; lingers && n < maxDiscard; {
		l.in.r = l.in.w
		if l.in.fill() != nil {
			return
		}
		n += l.in.buffered()
	}
}

// maxDiscard bounds what is read behind the last frame.
const maxDiscard = 256 << 10

// verdict returns the GOAWAY that an error deserves; last is false where the peer is gone, or has been told.
func verdict(err error) (code http2.ErrCode, detail string, last bool) {
	if f, ok := errors.AsType[*fault](err); ok {
		return f.code, f.detail, true
	}
	if c, ok := errors.AsType[http2.ConnectionError](err); ok {
		return http2.ErrCode(c), "", true
	}
	if errors.Is(err, http2.ErrFrameTooLarge) {
		return http2.ErrCodeFrameSize, "frame too large", true
	}
	return 0, "", false
}

// streamFault resets a stream that has broken a rule.
func (l *link) streamFault(id uint32, code http2.ErrCode) error {
	l.mu.Lock()
	err := l.guard.reset()
	s := l.streams.find(id)
	var hook func()
	if s != nil {
		hook = s.fail(ErrMalformed)
		l.reset(s, code)
	} else {
		l.refuse(id, code)
	}
	l.mu.Unlock()
	if hook != nil {
		hook()
		s.hooked()
	}
	return err
}
