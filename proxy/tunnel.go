package proxy

import (
	"errors"
	"io"
	"net"
	"sync"

	"podlane.dev/podlane/proxy/exchange"
)

// tunnel joins the two connections after a Pod has accepted an upgrade: bytes pass both ways until one side ends, and the other side is
// then told so. A Pod that switches to another protocol than the client asked for gets no tunnel.
func (s *session) tunnel(pod *pod) {
	x, c := s.x, s.c
	token := x.Response.Fields.Get(exchange.Upgrade)
	// A second field would name a protocol on top of the first (RFC 9110 section 7.8), which nobody asked for.
	if !exchange.EqualFold(token, string(x.Request.Upgrade)) || x.Response.Fields.Count(exchange.Upgrade) > 1 {
		s.lose(pod, failInvalid)
		s.fail(failInvalid)
		return
	}
	s.broken = true
	x.Response.RemoveHopByHop()
	s.chain.filters.FilterResponse(x)
	s.setCookie()
	c.enter(writingClient, s.e.timeouts.Stall)
	c.srv.StartResponse(x, exchange.KeepOpen)
	err := c.srv.Flush()
	if m := c.enter(tunneling, s.chain.limits.quiet); err != nil || m != unmarked {
		s.lose(pod, failClient)
		return
	}
	pod.uncount()
	s.detach()
	c.srv.Discard()
	s.pump(pod)
	c.enter(working, 0)
	s.lose(pod, failClient)
}

// detach gives the record copies of what it reads of the request. The request lies in the codec's buffer, which a tunnel gives back and
// others then fill: with what the client says in the tunnel, or with a request of somebody else.
func (s *session) detach() {
	if !s.observed() {
		return
	}
	q := &s.x.Request
	own := func(b []byte) []byte {
		if b == nil {
			return nil // of what a filter sets, it says that none has
		}
		at := len(s.x.Scratch)
		s.x.Scratch = append(s.x.Scratch, b...)
		return s.x.Scratch[at:]
	}
	q.Method, q.Authority, q.Target = own(q.Method), own(q.Authority), own(q.Target)
	q.RawPath, q.Path, q.Forward, q.Hostname = own(q.RawPath), own(q.Path), own(q.Forward), own(q.Hostname)
	if s.format() != nil {
		q.RawQuery, q.User = own(q.RawQuery), own(q.User)
		q.Fields.Own()
		s.x.Response.Fields.Own()
		return
	}
	var kept [len(logged)][]byte
	for i, id := range logged {
		kept[i] = own(q.Fields.Get(id))
	}
	q.Fields.Reset(nil)
	for i, id := range logged {
		if kept[i] != nil {
			q.Fields.Set(id, kept[i])
		}
	}
}

// logged are the fields that lines of JSON and a trace have of a request.
var logged = [...]exchange.ID{exchange.UserAgent, exchange.Referer, exchange.Tracestate, exchange.Host}

// tunnelEnd is one of the two ends of a tunnel. One goroutine pulls, another writes; any may close it.
type tunnelEnd interface {
	// Pull returns the next bytes, valid until the next call, or io.EOF after the last.
	Pull() ([]byte, error)
	Write(p []byte) (int, error)
	// CloseWrite says that nothing more will be written.
	CloseWrite() error
	Close() error
}

// pump copies both ways. One goroutine more runs while it does.
func (s *session) pump(pod *pod) {
	client, server := s.c.wire.tunnel(), pod.tunnel()
	var both sync.WaitGroup
	both.Go(func() { s.x.BytesIn = s.copyTunnel(server, client) })
	s.x.BytesOut = s.copyTunnel(client, server)
	both.Wait()
}

// copyTunnel copies from src to dst until src ends, then ends dst's direction; when either fails, both are closed, so that the other
// direction ends too. Every byte puts off the tunnel's deadline.
func (s *session) copyTunnel(dst, src tunnelEnd) (n int64) {
	for {
		p, err := src.Pull()
		if err != nil {
			if errors.Is(err, io.EOF) && dst.CloseWrite() == nil {
				return n
			}
			break
		}
		if s.c.main.enter(tunneling, s.e.sweeper.now.Load(), s.chain.limits.quiet) != unmarked {
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

// socketEnd is the end of a tunnel on an HTTP/1.1 connection: what the codec has read ahead comes first.
type socketEnd struct {
	net.Conn
	codec interface{ Pull() ([]byte, error) }
}

// Pull reads through the codec.
func (e socketEnd) Pull() ([]byte, error) { return e.codec.Pull() }

// CloseWrite ends our side, or all of a connection whose sides cannot end one by one.
func (e socketEnd) CloseWrite() error {
	if w, ok := e.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return e.Close()
}

func (c *conn) tunnel() tunnelEnd { return socketEnd{c.nc, c.h1} }
