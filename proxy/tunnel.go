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
	c.srv.Discard()
	pod.codec.Discard()
	s.pump(pod)
	c.enter(working, 0)
	s.lose(pod, failClient)
}

// pump copies both ways. One goroutine more runs while it does.
func (s *session) pump(pod *podConn) {
	var both sync.WaitGroup
	both.Go(func() {
		s.x.BytesIn = s.copyTunnel(pod.Conn.Conn, s.c.nc, s.c.srv)
	})
	s.x.BytesOut = s.copyTunnel(s.c.nc, pod.Conn.Conn, pod.codec)
	both.Wait()
}

// puller is the reading side of a tunnel's end.
type puller interface{ Pull() ([]byte, error) }

// copyTunnel copies what from pulls from src to dst until src ends, then ends dst's direction; when dst fails, src is closed so that the
// other direction ends too. Every byte puts off the tunnel's deadline.
func (s *session) copyTunnel(dst, src net.Conn, from puller) (n int64) {
	for {
		p, err := from.Pull()
		if err != nil {
			if errors.Is(err, io.EOF) && endWriting(dst) == nil {
				return n
			}
			break
		}
		if s.c.main.enter(tunneling, s.e.sweeper.now.Load(), s.e.timeouts.Tunnel) != unmarked {
			break
		}
		w, err := dst.Write(p)
		n += int64(w)
		if err != nil {
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
