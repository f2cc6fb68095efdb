package http2_test

import (
	"net"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/http2"
)

// gated is a connection whose reader can be held back with bytes that it has read: one that waits for a processor.
type gated struct {
	net.Conn
	buf          []byte
	arm          chan struct{} // holds the next read back
	held, lapsed chan struct{} // closed when it is, and when the connection's read deadline passes meanwhile
}

func (g *gated) Read(p []byte) (int, error) {
	if len(g.buf) == 0 {
		b := make([]byte, 4096)
		n, err := g.Conn.Read(b)
		if err != nil {
			return 0, err
		}
		g.buf = b[:n]
		select {
		case <-g.arm:
			close(g.held)
			<-g.lapsed
		default:
		}
	}
	return g.TryRead(p), nil
}

// TryRead makes it one that is read like TLS.
func (g *gated) TryRead(p []byte) int {
	n := copy(p, g.buf)
	g.buf = g.buf[n:]
	return n
}

func (g *gated) SetReadDeadline(at time.Time) error {
	err := g.Conn.SetReadDeadline(at)
	select {
	case <-g.held:
		select {
		case <-g.lapsed:
		default:
			close(g.lapsed)
		}
	default:
	}
	return err
}

// TestRequestAtTheEndOfIdleness: a request that has been read when the connection's time is over is answered, or its stream is above the number
// in GOAWAY, so that the client may send it again: it is not taken and dropped.
func TestRequestAtTheEndOfIdleness(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	g := &gated{Conn: b, arm: make(chan struct{}, 1), held: make(chan struct{}), lapsed: make(chan struct{})}
	o := http2.Options{}
	o.Timeouts.Idle = 200 * time.Millisecond
	newServer(t, o, hello).serve(g)
	c := newRaw(t, a)
	c.answer(c.get(get...))
	g.arm <- struct{}{}
	id := c.get(get...)
	c.expect("an answer, or GOAWAY with a lower number", func(e event) bool {
		if e.Type == xhttp2.FrameGoAway {
			t.Logf("%v", e)
		}
		return e.StreamID == id && e.field(":status") == "200"
	})
}
