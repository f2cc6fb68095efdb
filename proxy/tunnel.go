package proxy

import (
	"errors"
	"io"
	"net"
	"sync"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// tunnel joins the two connections after a Pod has accepted an upgrade: bytes pass both ways until one side ends, and the other side is
// then told so. A Pod that switches to another protocol than the client asked for gets no tunnel.
func (s *session) tunnel(pod *podConn) {
	x, c := s.x, s.c
	token := x.Response.Fields.Get(exchange.Upgrade)
	if !exchange.EqualFold(token, string(x.Request.Upgrade)) {
		s.lose(pod, failInvalid)
		s.fail(failInvalid)
		return
	}
	s.broken = true
	x.Response.RemoveHopByHop()
	s.chain.filters.FilterResponse(x)
	c.enter(writingClient, s.e.timeouts.Stall)
	c.srv.StartResponse(x, http1.KeepOpen)
	err := c.srv.Flush()
	if m := c.enter(tunneling, s.e.timeouts.Tunnel); err != nil || m != unmarked {
		s.lose(pod, failClient)
		return
	}
	pod.Uncount()
	s.pump(pod)
	c.enter(working, 0)
	s.lose(pod, failClient)
}

// pump copies both ways. One goroutine more runs while it does.
func (s *session) pump(pod *podConn) {
	var both sync.WaitGroup
	both.Go(func() {
		s.x.BytesIn = s.copyTunnel(pod.Conn.Conn, s.c.nc, s.c.srv.Unread())
	})
	s.x.BytesOut = s.copyTunnel(s.c.nc, pod.Conn.Conn, pod.codec.Unread())
	both.Wait()
}

var tunnelBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// copyTunnel copies from src to dst until src ends, then ends dst's direction; when dst fails, src is closed so that the other
// direction ends too. Every byte puts off the tunnel's deadline.
func (s *session) copyTunnel(dst, src net.Conn, first []byte) (n int64) {
	buf := tunnelBuffers.Get().(*[16 << 10]byte)
	defer tunnelBuffers.Put(buf)
	if len(first) > 0 {
		m, err := dst.Write(first)
		n += int64(m)
		if err != nil {
			_ = src.Close()
			return n
		}
	}
	for {
		m, rerr := src.Read(buf[:])
		if m > 0 {
			if s.c.main.enter(tunneling, s.e.sweeper.now.Load(), s.e.timeouts.Tunnel) != unmarked {
				break
			}
			w, err := dst.Write(buf[:m])
			n += int64(w)
			if err != nil {
				break
			}
		}
		if rerr != nil {
			if errors.Is(rerr, io.EOF) && endWriting(dst) == nil {
				return n
			}
			break
		}
	}
	_ = src.Close()
	_ = dst.Close()
	return n
}

func endWriting(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Close()
}
