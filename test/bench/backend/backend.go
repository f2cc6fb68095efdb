// Package backend is the Pod behind every proxy: it answers in whole, prepared responses, so that one core drives load and
// backends faster than any proxy forwards them. It knows the requests of this benchmark and no others: what a proxy sends in
// another form than it should is answered 400, and counted as an error by the load.
package backend

import (
	"bytes"
	"fmt"
	"net/netip"

	"podlane.dev/podlane/test/bench/loop"
)

// The first bytes of the targets. The rest of a target is the request's id, IDSize bytes, with which the answer's body begins,
// so that an answer that belongs to another request is noticed.
const (
	// Small is answered with SmallSize bytes.
	Small = "/s/"
	// Large is answered with LargeSize bytes.
	Large = "/l/"
	// Upload is answered, when its body has come, with the id and the body's length as SumSize digits.
	Upload = "/u/"
	// Socket is switched to WebSocket; then every message is sent back.
	Socket = "/w/"
	// Head is answered with the request's own head.
	Head = "/h/"
)

// Sizes in bytes.
const (
	// IDSize is that of the id in a target.
	IDSize = 8
	// SmallSize is that of a small answer's body.
	SmallSize = 128
	// LargeSize is that of a large answer's body.
	LargeSize = 64 << 10
	// SumSize is that of an upload's length in its answer.
	SumSize = 8
)

// maxHead bounds a request's head.
const maxHead = 8 << 10

// A Server is any number of backends on one loop.
type Server struct {
	loop    *loop.Loop
	scratch []byte // what is read, until the next read
	message [127]byte
	small   []byte // answers, ready but for their id
	large   []byte
	sum     []byte
	bodyAt  int // of small
	largeAt int
	sumAt   int
}

// New returns a server without backends.
func New(l *loop.Loop) *Server {
	s := &Server{loop: l, scratch: make([]byte, 256<<10)}
	s.small, s.bodyAt = answer(SmallSize)
	s.large, s.largeAt = answer(LargeSize)
	s.sum, s.sumAt = answer(IDSize + SumSize)
	return s
}

// answer prepares a response with a body of size bytes, and says where the body begins.
func answer(size int) ([]byte, int) {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Cache-Control: no-store\r\nContent-Length: %d\r\n\r\n", size)
	return append([]byte(head), bytes.Repeat([]byte("x"), size)...), len(head)
}

// Listen adds a backend at an address, whose port may be 0, and returns where it listens. It answers for as long as the loop
// turns.
func (s *Server) Listen(at netip.AddrPort) (netip.AddrPort, error) {
	fd, err := loop.Listen(at)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := loop.Port(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	add := func() error { return s.loop.Add(fd, &listener{s: s, fd: fd}) }
	return netip.AddrPortFrom(at.Addr(), port), s.loop.Do(add)
}

// listener is one backend.
type listener struct {
	s  *Server
	fd int
}

// Ready accepts what has come.
func (l *listener) Ready(loop.Edge) {
	for {
		// What fails here is that of a client that is gone, or of descriptors that ran out: the proxy will tell.
		fd, err := loop.Accept(l.fd)
		if err != nil || fd < 0 {
			return
		}
		c := &conn{s: l.s, fd: fd}
		if err := l.s.loop.Add(fd, c); err != nil {
			l.s.loop.Remove(fd)
		}
	}
}
