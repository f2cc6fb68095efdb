package http2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// script is a connection whose peer sends what the test gives, in pieces of a size, and then ends.
type script struct {
	net.Conn
	in    []byte
	piece int

	mu     sync.Mutex
	out    bytes.Buffer
	closed bool
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[:min(s.piece, len(s.in))])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	return s.out.Write(p)
}

// SetDeadline with a time in the past ends writing, as it does for a socket.
func (s *script) SetDeadline(at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = s.closed || !at.IsZero()
	return nil
}

func (s *script) SetReadDeadline(time.Time) error { return nil }
func (s *script) CloseWrite() error               { return nil }
func (s *script) Close() error                    { return nil }

// frames returns frames as bytes, for seeds.
func frames(write func(fr *xhttp2.Framer, block func(fields ...string) []byte)) []byte {
	var b, hbuf bytes.Buffer
	fr := xhttp2.NewFramer(&b, nil)
	fr.AllowIllegalWrites = true
	enc := hpack.NewEncoder(&hbuf)
	write(fr, func(fields ...string) []byte {
		hbuf.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return bytes.Clone(hbuf.Bytes())
	})
	return b.Bytes()
}

// FuzzFrames: whatever a client sends behind its preface, however it is split, nothing crashes or hangs, what we send is HTTP/2, and a
// request that is accepted is one by the rules of the contract.
func FuzzFrames(f *testing.F) {
	f.Add(frames(func(fr *xhttp2.Framer, block func(...string) []byte) {
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block(get...), EndHeaders: true, EndStream: true})
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: block(post...), EndHeaders: true, PadLength: 3})
		_ = fr.WriteDataPadded(3, false, []byte("body"), []byte{0, 0})
		_ = fr.WriteWindowUpdate(3, 100)
		_ = fr.WriteData(3, true, nil)
		_ = fr.WritePing(false, [8]byte{1})
		_ = fr.WriteRSTStream(5, xhttp2.ErrCodeCancel)
	}), uint8(1))
	f.Add(frames(func(fr *xhttp2.Framer, block func(...string) []byte) {
		b := block(with(post, "cookie", "a=b", "cookie", "c=d", "content-length", "3", "te", "trailers")...)
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:5], Priority: xhttp2.PriorityParam{StreamDep: 7}})
		_ = fr.WriteContinuation(1, true, b[5:])
		_ = fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 2}, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 0})
		_ = fr.WriteData(1, false, []byte("abc"))
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block("x-sum", "1"), EndHeaders: true, EndStream: true})
		_ = fr.WriteWindowUpdate(0, 1000)
		_ = fr.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
		_ = fr.WritePriority(9, xhttp2.PriorityParam{})
		_ = fr.WriteRawFrame(0x20, 0xff, 9, []byte("unknown"))
	}), uint8(255))
	start := append([]byte(xhttp2.ClientPreface), frames(func(fr *xhttp2.Framer, _ func(...string) []byte) {
		_ = fr.WriteSettings()
		_ = fr.WriteSettingsAck()
	})...)
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		nc := &script{in: append(bytes.Clone(start), in...), piece: int(piece) + 1}
		c := http2.NewConn(nc, http2.Options{ExtendedConnect: piece%2 == 1}, stopped{})
		_ = c.Serve(nil, func(s *http2.Stream) { fuzzedRequest(t, s) })
		checkFrames(t, nc.out.Bytes())
	})
}

func fuzzedRequest(t *testing.T, s *http2.Stream) {
	t.Helper()
	x := exchange.New()
	defer x.Release()
	err := s.ReadRequest(x)
	var reject *exchange.Reject
	switch {
	case errors.As(err, &reject):
	case err != nil:
		t.Errorf("ReadRequest: %v", err)
	default:
		reject = x.Validate()
	}
	if reject != nil {
		x.Request.Body = nil
		x.Answer(reject.Status, exchange.BadRequest, reject.Detail)
		reply(s, x)
		return
	}
	text := x.Request.Fields.AppendTo(nil)
	if bytes.Count(text, []byte("\r\n")) != bytes.Count(text, []byte("\n")) || bytes.Contains(text, []byte("\r\n\r\n")) ||
		bytes.ContainsAny(x.Request.Target, " \r\n\x00") || bytes.ContainsAny(x.Request.Method, " \r\n\x00") {
		t.Errorf("%q %q %q", x.Request.Method, x.Request.Target, text)
	}
	echo(s, x)
}

// checkFrames reads what was sent as a strict client does.
func checkFrames(t *testing.T, out []byte) {
	t.Helper()
	fr := xhttp2.NewFramer(nil, bytes.NewReader(out))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	ended := map[uint32]bool{}
	for {
		frame, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return
		}
		if err != nil {
			t.Fatalf("we sent %v", err)
		}
		h := frame.Header()
		if (h.Type == xhttp2.FrameData || h.Type == xhttp2.FrameHeaders) && h.StreamID%2 == 1 {
			if ended[h.StreamID] {
				t.Fatalf("%v behind the end of the stream", h)
			}
			ended[h.StreamID] = h.Flags.Has(xhttp2.FlagDataEndStream)
		}
	}
}
