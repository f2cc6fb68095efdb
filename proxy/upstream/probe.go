package upstream

import "syscall"

// probe looks at a socket without reading from it. Its closure is made once for each connection, so that a look costs one
// system call and no allocation.
//
// It goes through RawConn.Control and not RawConn.Read: Read waits for a reader that is under way, and fails when an old
// read deadline has passed, which says nothing about the connection.
type probe struct {
	raw  syscall.RawConn
	look func(fd uintptr)
	ok   bool
}

func newProbe(raw syscall.RawConn) *probe {
	p := &probe{raw: raw}
	p.look = func(fd uintptr) { p.ok = emptyAndOpen(int(fd)) }
	return p
}

// quiet reports whether the connection is open and has nothing to read.
func (p *probe) quiet() bool {
	p.ok = false
	return p.raw.Control(p.look) == nil && p.ok
}
