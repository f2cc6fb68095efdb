package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// received is a frame that has come.
type received struct {
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
	body   []byte
}

// errClosed is a request that the proxy ended, and errFrame a frame that it should not have sent.
var (
	errClosed = errors.New("closed")
	errFrame  = errors.New("unexpected frame")
)

// frame works one off. An error is the connection's end.
func (m *multi) frame(f received) error {
	switch f.kind {
	case http2.FrameHeaders, http2.FrameData:
		return m.answer(f)
	case http2.FrameSettings:
		return m.settings(f)
	case http2.FramePing:
		if f.flags&http2.FlagPingAck == 0 {
			m.out = frame(m.out, http2.FramePing, http2.FlagPingAck, 0, len(f.body))
			m.out = append(m.out, f.body...)
		}
		return nil
	case http2.FrameRSTStream:
		if l := m.lane(f.stream); l != nil && len(f.body) == 4 {
			m.failed(l, fmt.Errorf("%w: RST_STREAM %v", errClosed, http2.ErrCode(binary.BigEndian.Uint32(f.body))))
		}
		return nil
	case http2.FrameGoAway:
		return m.goAway(f.body)
	case http2.FrameWindowUpdate, http2.FramePriority:
		return nil
	case http2.FramePushPromise, http2.FrameContinuation:
		return fmt.Errorf("%w: %v", errFrame, f.kind)
	default:
		return nil // of an extension
	}
}

// settings acknowledges the proxy's, which have to allow what the generator does.
func (m *multi) settings(f received) error {
	if f.flags&http2.FlagSettingsAck != 0 {
		return nil
	}
	for b := f.body; len(b) >= 6; b = b[6:] {
		id, value := http2.SettingID(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[2:])
		if id == http2.SettingMaxConcurrentStreams && int(value) < len(m.lanes) || id == http2.SettingHeaderTableSize && value < 4096 {
			return fmt.Errorf("%w: %v is %d", errFrame, id, value)
		}
	}
	m.out = frame(m.out, http2.FrameSettings, http2.FlagSettingsAck, 0, 0)
	return nil
}

// goAway begins the connection's end. What the proxy has not begun is asked on the next one.
func (m *multi) goAway(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("%w: GOAWAY of %d bytes", errFrame, len(b))
	}
	if code := http2.ErrCode(binary.BigEndian.Uint32(b[4:])); code != http2.ErrCodeNo {
		return fmt.Errorf("%w: GOAWAY %v %q", errClosed, code, b[8:])
	}
	m.leaving = true
	last := binary.BigEndian.Uint32(b) & window
	for i := range m.lanes {
		if l := &m.lanes[i]; l.stream > last {
			l.stream = 0
		}
	}
	return nil
}

// answer reads a piece of an answer.
func (m *multi) answer(f received) error {
	body, err := unpadded(f)
	if err != nil {
		return err
	}
	if f.kind == http2.FrameData {
		// All of a frame counts, padding too.
		if m.unspent += len(f.body); m.unspent > window/2 {
			m.widen(m.unspent)
			m.unspent = 0
		}
	}
	l := m.lane(f.stream)
	if f.kind == http2.FrameHeaders {
		if f.flags&http2.FlagHeadersEndHeaders == 0 {
			return fmt.Errorf("%w: a head in several frames", errFrame)
		}
		m.status, m.length = 0, -1
		if _, err := m.decoder.Write(body); err != nil {
			return fmt.Errorf("%w: %w", errFrame, err)
		}
		if err := m.decoder.Close(); err != nil {
			return fmt.Errorf("%w: %w", errFrame, err)
		}
	}
	if l == nil {
		return nil // of a stream that failed
	}
	if f.kind == http2.FrameHeaders {
		err = m.head(l)
	} else {
		err = m.piece(l, body)
	}
	ends := f.flags&http2.FlagDataEndStream != 0
	if err == nil && ends {
		err = m.whole(l)
	}
	if err != nil {
		m.failed(l, err)
		if !ends {
			m.out = frame(m.out, http2.FrameRSTStream, 0, f.stream, 4)
			m.out = binary.BigEndian.AppendUint32(m.out, uint32(http2.ErrCodeCancel))
		}
		return nil
	}
	if ends {
		m.g.answered(l.due)
		m.free(l)
		m.ask(l)
	}
	return nil
}

// unpadded is what a HEADERS or DATA frame carries.
func unpadded(f received) ([]byte, error) {
	b := f.body
	padding := 0
	if f.flags&http2.FlagDataPadded != 0 {
		if len(b) < 1 {
			return nil, fmt.Errorf("%w: padding", errFrame)
		}
		padding, b = int(b[0]), b[1:]
	}
	if f.kind == http2.FrameHeaders && f.flags&http2.FlagHeadersPriority != 0 {
		if len(b) < 5 {
			return nil, fmt.Errorf("%w: priority", errFrame)
		}
		b = b[5:]
	}
	if padding > len(b) {
		return nil, fmt.Errorf("%w: padding", errFrame)
	}
	return b[:len(b)-padding], nil
}

// field notes what is of interest of a head.
func (m *multi) field(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		m.status, _ = strconv.Atoi(f.Value)
	case "content-length":
		m.length, _ = strconv.Atoi(f.Value)
	}
}

// head judges the head of an answer.
func (m *multi) head(l *lane) error {
	want := &m.g.plan.Message
	switch {
	case l.headed:
		return fmt.Errorf("%w: trailers", errLength)
	case m.status != want.Status:
		return fmt.Errorf("%w: %d", errStatus, m.status)
	case m.length != want.Length:
		return fmt.Errorf("%w: content-length %d, not %d", errLength, m.length, want.Length)
	}
	l.headed = true
	return nil
}

// piece judges a piece of its body.
func (m *multi) piece(l *lane, p []byte) error {
	if l.got < len(ID) {
		copy(l.begin[l.got:], p)
	}
	if l.got += len(p); !l.headed || l.got > m.g.plan.Message.Length {
		return fmt.Errorf("%w: %d bytes of body", errLength, l.got)
	}
	return nil
}

// whole judges an answer that has come whole.
func (m *multi) whole(l *lane) error {
	if l.got != m.g.plan.Message.Length {
		return fmt.Errorf("%w: %d bytes of body, not %d", errLength, l.got, m.g.plan.Message.Length)
	}
	var want [len(ID)]byte
	if putID(want[:], l.id); l.begin != want {
		return fmt.Errorf("%w: %q, not %q", errMixed, l.begin, want)
	}
	return nil
}
