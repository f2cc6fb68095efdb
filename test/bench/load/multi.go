package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// multi is one connection to the proxy in HTTP/2, with as many requests at a time as it has lanes. What becomes due while one read is worked
// off leaves in one write.
//
// It reads the frames itself: x/net's Framer wants to read from a Reader, which a loop does not have.
type multi struct {
	link
	lanes   []lane
	decoder *hpack.Decoder
	next    uint32 // stream
	ready   bool   // the first connection has come about
	leaving bool   // the proxy wants no more requests on this connection
	out     []byte // frames to be sent
	partial []byte // of a frame that has not come whole
	unspent int    // bytes of DATA for which no window was given back
	status  int    // of the answer whose head is being read
	length  int
}

// lane is one request at a time.
type lane struct {
	asked  bool
	due    time.Duration
	id     uint32
	stream uint32 // 0 while the request has not been sent
	headed bool   // the head of the answer has come
	got    int    // of its body
	begin  [len(ID)]byte
}

const (
	frameHeadSize = 9
	maxFrame      = 16 << 10 // which both sides begin with
	// window is what the proxy may send, on the connection and on each stream, before it is given more: the generator is never what
	// it waits for.
	window    = 1<<31 - 1
	firstWord = 1<<16 - 1 // the window that connections begin with (RFC 9113, section 6.9.2)
)

func newMulti(g *generator, index int) *multi {
	m := &multi{lanes: make([]lane, g.plan.Streams)}
	m.link = newLink(g, index, m)
	return m
}

// connect begins a connection.
func (m *multi) connect() {
	m.next, m.leaving, m.unspent = 1, false, 0
	m.out, m.partial = m.out[:0], m.partial[:0]
	m.decoder = hpack.NewDecoder(4096, m.field)
	m.dial()
}

// established opens the dialogue, and sends what is due.
func (m *multi) established() {
	m.out = append(m.out, http2.ClientPreface...)
	m.out = frame(m.out, http2.FrameSettings, 0, 0, 12)
	m.out = binary.BigEndian.AppendUint16(m.out, uint16(http2.SettingInitialWindowSize))
	m.out = binary.BigEndian.AppendUint32(m.out, window)
	m.out = binary.BigEndian.AppendUint16(m.out, uint16(http2.SettingEnablePush))
	m.out = binary.BigEndian.AppendUint32(m.out, 0)
	m.widen(window - firstWord)
	if !m.ready {
		m.ready = true
		m.g.opened++
	}
	m.onward()
	m.flushFrames()
}

// frame appends a frame's head.
func frame(dst []byte, kind http2.FrameType, flags http2.Flags, stream uint32, size int) []byte {
	dst = append(dst, byte(size>>16), byte(size>>8), byte(size), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(dst, stream)
}

// widen gives the proxy more window on the connection.
func (m *multi) widen(n int) {
	m.out = frame(m.out, http2.FrameWindowUpdate, 0, 0, 4)
	m.out = binary.BigEndian.AppendUint32(m.out, uint32(n))
}

// flushFrames sends what has been gathered.
func (m *multi) flushFrames() {
	if len(m.out) == 0 || m.stage != up {
		return
	}
	out := m.out
	if m.session == nil {
		out = bytes.Clone(out) // the link's until the socket has it
	}
	m.out = m.out[:0]
	m.send(out, nil)
}

// begin sends the first requests.
func (m *multi) begin() {
	if m.stage == down {
		m.connect()
		return
	}
	m.onward()
	m.flushFrames()
}

// overdue calls f for each request that has no answer.
func (m *multi) overdue(f func(due time.Duration)) {
	for i := range m.lanes {
		if m.lanes[i].asked {
			f(m.lanes[i].due)
		}
	}
}

// onward asks on every lane that can.
func (m *multi) onward() {
	for i := range m.lanes {
		m.ask(&m.lanes[i])
	}
}

// ask sends a lane's next request, or the one that an earlier connection did not take.
func (m *multi) ask(l *lane) {
	if m.stage != up || m.leaving || l.stream != 0 {
		return
	}
	if !l.asked {
		if !m.g.follow || m.g.phase != warming && m.g.phase != counting {
			return
		}
		l.asked, l.due = true, m.g.clock.now()
		m.g.busy++
	}
	m.g.id++
	l.id, l.stream, l.headed, l.got = m.g.id, m.next, false, 0
	m.next += 2
	b := m.g.block.other
	if l.stream == 1 {
		b = m.g.block.first
	}
	m.out = frame(m.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, l.stream, len(b))
	at := len(m.out)
	m.out = append(m.out, b...)
	putID(m.out[at+bytes.Index(b, []byte(ID)):], l.id)
}

// take reads frames, and reports whether more may come on this connection.
func (m *multi) take(in []byte) bool {
	if len(m.partial) > 0 {
		m.partial = append(m.partial, in...)
		in = m.partial
	}
	for len(in) >= frameHeadSize {
		size := int(in[0])<<16 | int(in[1])<<8 | int(in[2])
		if size > maxFrame {
			m.drop(&m.g.result.Errors.Length, fmt.Errorf("%w: a frame of %d bytes", errLength, size))
			return false
		}
		if len(in) < frameHeadSize+size {
			break
		}
		f := received{
			kind: http2.FrameType(in[3]), flags: http2.Flags(in[4]), stream: binary.BigEndian.Uint32(in[5:]) & window,
			body: in[frameHeadSize : frameHeadSize+size],
		}
		if err := m.frame(f); err != nil {
			m.drop(m.g.result.Errors.kind(err), err)
			return false
		}
		in = in[frameHeadSize+size:]
	}
	m.partial = append(m.partial[:0], in...)
	if m.leaving && !m.expecting() {
		m.close()
		m.connect()
		return false
	}
	m.flushFrames()
	return m.stage == up
}

// lane is the one with a stream, nil where there is none.
func (m *multi) lane(stream uint32) *lane {
	for i := range m.lanes {
		if l := &m.lanes[i]; l.stream == stream && stream != 0 {
			return l
		}
	}
	return nil
}

// expecting reports whether an answer is due on this connection.
func (m *multi) expecting() bool {
	for i := range m.lanes {
		if m.lanes[i].stream != 0 {
			return true
		}
	}
	return false
}

// failed counts a request that failed, and asks the next one.
func (m *multi) failed(l *lane, err error) {
	m.g.fail(m.g.result.Errors.kind(err), err)
	m.free(l)
	if m.g.result.Errors.Sum() <= maxErrors {
		m.ask(l)
	}
}

// free makes a lane one for the next request.
func (m *multi) free(l *lane) {
	l.asked, l.stream = false, 0
	m.g.busy--
}

// ended handles a connection that the proxy has closed, or that failed.
func (m *multi) ended(err error) {
	if m.expecting() {
		if err == nil {
			err = errors.New("the connection ended where answers were due")
		}
		m.drop(&m.g.result.Errors.Closed, err)
		return
	}
	m.close()
	if m.g.phase != draining || m.waiting() {
		m.connect()
	}
}

// waiting reports whether a request has to be sent again.
func (m *multi) waiting() bool {
	for i := range m.lanes {
		if m.lanes[i].asked {
			return true
		}
	}
	return false
}

// drop counts an error for each request that the connection's end fails, or one.
func (m *multi) drop(kind *uint64, err error) {
	failed := uint64(0)
	for i := range m.lanes {
		if l := &m.lanes[i]; l.stream != 0 {
			m.free(l)
			failed++
		}
	}
	m.g.fail(kind, err)
	*kind += max(failed, 1) - 1
	m.close()
	if (m.g.phase != draining || m.waiting()) && m.g.result.Errors.Sum() <= maxErrors {
		m.connect()
	}
}
