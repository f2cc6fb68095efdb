package http2

import (
	"golang.org/x/net/http2"
)

// control takes a frame that carries no message. The Framer has judged its form.
func (l *link) control(h http2.FrameHeader) error {
	f, err := l.fr.ReadFrameForHeader(h)
	if err != nil {
		return midFrame(err)
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return l.settings(f)
	case *http2.PingFrame:
		return l.ping(f)
	case *http2.WindowUpdateFrame:
		return l.update(f)
	case *http2.RSTStreamFrame:
		return l.rst(f)
	case *http2.GoAwayFrame:
		l.side.goAway(f.LastStreamID, f.ErrCode)
	case *http2.PriorityFrame:
		// RFC 9113 section 5.3: deprecated, read and ignored.
		if f.StreamDep == f.StreamID {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	}
	return l.idleFrame()
}

// settings takes the peer's SETTINGS, or its acknowledgement of ours.
func (l *link) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		l.unacked.Store(0)
		return l.idleFrame()
	}
	window := int64(-1)
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			window = int64(s.Val)
		case http2.SettingHeaderTableSize:
			l.mu.Lock()
			l.out.resize = true
			l.mu.Unlock()
		default:
			l.side.setting(s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.unlockAndFlush()
	if err := l.guard.idle(); err != nil {
		return err
	}
	if window >= 0 {
		if err := l.resizeWindows(window); err != nil {
			return err
		}
	}
	if l.mute() {
		return nil
	}
	_ = l.fr.WriteSettingsAck()
	return l.queued()
}

// resizeWindows changes what the peer takes on every stream by the difference to what it took before (RFC 9113 section 6.9.2). The lock
// is held.
func (l *link) resizeWindows(to int64) (err error) {
	delta := to - l.peerWindow
	l.peerWindow = to
	l.streams.each(func(s *stream) {
		s.send.window += delta
		if s.send.window > maxWindow {
			err = errWindowLarge
		}
		if s.send.window > 0 && s.send.wait == forWindow {
			s.resume()
		}
	})
	return err
}

// ping answers a PING.
func (l *link) ping(f *http2.PingFrame) error {
	if f.IsAck() {
		l.side.pong(f.Data)
		return l.idleFrame()
	}
	l.mu.Lock()
	defer l.unlockAndFlush()
	if err := l.guard.idle(); err != nil || l.mute() {
		return err
	}
	_ = l.fr.WritePing(true, f.Data)
	return l.queued()
}

// queued looks after a peer that asks and does not read the answers. The lock is held.
func (l *link) queued() error {
	if l.out.control > maxControl {
		return errControl
	}
	return nil
}

// update takes a WINDOW_UPDATE.
func (l *link) update(f *http2.WindowUpdateFrame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.guard.idle(); err != nil {
		return err
	}
	if f.StreamID == 0 {
		if l.window += int64(f.Increment); l.window > maxWindow {
			return errWindowLarge
		}
		l.passTurn()
		return nil
	}
	s := l.streams.find(f.StreamID)
	if s == nil {
		if f.StreamID > l.maxID || f.StreamID%2 == 0 {
			return errIdleStream
		}
		return nil
	}
	if s.send.window += int64(f.Increment); s.send.window > maxWindow {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	}
	if s.send.wait == forWindow {
		s.resume()
	}
	return nil
}

// rst takes a RST_STREAM.
func (l *link) rst(f *http2.RSTStreamFrame) error {
	l.mu.Lock()
	s := l.streams.find(f.StreamID)
	if s == nil {
		defer l.mu.Unlock()
		if f.StreamID > l.maxID || f.StreamID%2 == 0 {
			return errIdleStream
		}
		return l.guard.idle()
	}
	err := l.guard.reset()
	hook := s.fail(&ResetError{f.ErrCode})
	l.close(s, ended)
	l.mu.Unlock()
	if hook != nil {
		hook()
		s.hooked()
	}
	return err
}
