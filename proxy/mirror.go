package proxy

import (
	"errors"
	"io"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/subrequest"
)

// mirror sends a copy of the request, which is about to go to a Pod: at once where its body is here, else when the Pod has all of it.
func (s *session) mirror() {
	m, x := s.chain.filters.Forwarding.Mirror, s.x
	if m == nil {
		return
	}
	mirrored := m.Copy(x)
	if mirrored == nil {
		return
	}
	x.Own(mirrored)
	switch {
	case x.Request.Body == nil || !m.Bodies():
		mirrored.Send()
	case s.whole:
		for p, err := x.Request.Body.Next(); err == nil; p, err = x.Request.Body.Next() {
			mirrored.Write(p)
		}
		s.c.srv.Rewind()
		mirrored.Send()
	default:
		x.Request.Body = &mirroredBody{x.Request.Body, mirrored}
	}
}

// mirroredBody is a body that is copied while it is pulled. Whatever is wrong with the copy, the body is passed on.
type mirroredBody struct {
	exchange.Body
	copied *subrequest.Copy
}

// Next returns what the body has, and sends the copy with its end.
func (b *mirroredBody) Next() ([]byte, error) {
	p, err := b.Body.Next()
	b.copied.Write(p)
	if errors.Is(err, io.EOF) {
		b.copied.Send()
	}
	return p, err
}

// Ready reports what the body does.
func (b *mirroredBody) Ready() bool { return exchange.Ready(b.Body) }
