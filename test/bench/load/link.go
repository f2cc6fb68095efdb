package load

import (
	"bytes"
	"fmt"
	"net/netip"

	"podlane.dev/podlane/test/bench/loop"
	"podlane.dev/podlane/test/bench/secure"
)

// dialogue is what is said over a link.
type dialogue interface {
	// established is called when the link has come about.
	established()
	// take reads what has come, and reports whether more may come on this link.
	take(in []byte) bool
	// ended handles a link that the proxy has closed, or that failed.
	ended(err error)
	// drop counts an error, with which the link ends.
	drop(kind *uint64, err error)
}

// link is one connection, and the TLS over it where the plan has that: one after the other for the same dialogue.
type link struct {
	g          *generator
	dialogue   dialogue
	source     netip.Addr
	fd         int // -1 while there is none
	stage      stage
	session    *secure.Session // nil where there is no TLS
	head, tail []byte          // what the socket did not take yet
}

// stage is how far a link has come.
type stage int

const (
	down    stage = iota
	dialing       // TCP is being connected
	shaking       // TLS is
	up
)

func newLink(g *generator, index int, d dialogue) link {
	return link{g: g, dialogue: d, fd: -1, source: g.plan.Sources[index%len(g.plan.Sources)]}
}

// dial begins a connection.
func (l *link) dial() {
	fd, err := loop.Connect(l.source, l.g.plan.Address)
	if err == nil {
		err = l.g.loop.Add(fd, l)
	}
	if err != nil {
		l.g.fail(&l.g.result.Errors.Connect, err)
		return
	}
	l.fd, l.stage = fd, dialing
}

// Ready goes on with whatever the link does.
func (l *link) Ready(e loop.Edge) {
	if l.stage == dialing && !l.connected() {
		return
	}
	if len(l.head)+len(l.tail) > 0 && !l.flush() {
		return
	}
	for l.fd >= 0 {
		n, again, err := loop.Read(l.fd, l.g.scratch)
		if again {
			return
		}
		if n <= 0 || err != nil {
			l.dialogue.ended(err)
			return
		}
		if !l.received(l.g.scratch[:n]) || n < len(l.g.scratch) && !e.Ended() {
			return
		}
	}
}

// connected reports whether TCP has come about, and then goes on.
func (l *link) connected() bool {
	if err := loop.Failed(l.fd); err != nil {
		l.dialogue.drop(&l.g.result.Errors.Connect, fmt.Errorf("connect: %w", err))
		return false
	}
	if !loop.Connected(l.fd) {
		return false
	}
	if l.g.plan.Secure == nil {
		l.stage = up
		l.dialogue.established()
		return true
	}
	l.stage, l.session = shaking, l.g.plan.Secure.Session()
	l.head = l.session.Flight()
	return l.flush()
}

// received hands on what was read, and reports whether more may come.
func (l *link) received(in []byte) bool {
	if l.session == nil {
		return l.dialogue.take(in)
	}
	plain, err := l.session.Take(in)
	if err != nil {
		kind := &l.g.result.Errors.Length
		if l.stage == shaking {
			kind = &l.g.result.Errors.Connect
		}
		l.dialogue.drop(kind, err)
		return false
	}
	if l.stage == shaking && l.session.Up() {
		l.stage, l.head = up, l.session.Flight()
		if !l.flush() {
			return false
		}
		l.dialogue.established()
	}
	if len(plain) == 0 || l.stage != up {
		return l.stage >= shaking
	}
	return l.dialogue.take(plain)
}

// send writes head and tail, and keeps what the socket does not take: the bytes are the link's until then.
func (l *link) send(head, tail []byte) {
	waits := len(l.head)+len(l.tail) > 0
	if waits {
		// A session says what it seals in the buffer that what waits is in.
		l.head, l.tail = append(bytes.Clone(l.head), l.tail...), nil
	}
	if l.session != nil {
		head, tail = l.session.Seal(head, tail), nil
	}
	if waits {
		l.head = append(append(l.head, head...), tail...)
		return
	}
	l.head, l.tail = head, tail
	l.flush()
}

// flush writes what waits, and reports whether the link can be read from.
func (l *link) flush() bool {
	for len(l.head)+len(l.tail) > 0 {
		n, again, err := loop.Write(l.fd, l.head, l.tail)
		if err != nil {
			l.dialogue.ended(err)
			return false
		}
		if again {
			return true
		}
		inHead := min(n, len(l.head))
		l.head, l.tail = l.head[inHead:], l.tail[n-inHead:]
	}
	return true
}

// close ends the connection.
func (l *link) close() {
	if l.fd >= 0 {
		l.g.loop.Remove(l.fd)
		l.fd, l.stage, l.session, l.head, l.tail = -1, down, nil, nil, nil
	}
}
