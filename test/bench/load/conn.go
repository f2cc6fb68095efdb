package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"podlane.dev/podlane/test/bench/loop"
)

// conn is one connection to the proxy: with Fresh, one after the other.
type conn struct {
	g          *generator
	source     netip.Addr
	fd         int // -1 while there is none
	http       *request
	speech     speech // http, or what the connection was switched to
	connecting bool
	switching  bool // the answer that is due is the one to the opening of WebSocket
	ready      bool // the dialogue has been opened
	asked      bool // an answer is due
	due        time.Duration
	waiting    []time.Duration // of a rate: what has become due since
	head, body []byte          // what the socket did not take yet
	partial    []byte          // of an answer that has not come whole
	ending     bool            // the proxy closes it now
}

func newConn(g *generator, index int) *conn {
	return &conn{g: g, fd: -1, source: g.plan.Sources[index%len(g.plan.Sources)]}
}

// connect begins a connection.
func (c *conn) connect() {
	fd, err := loop.Connect(c.source, c.g.plan.Address)
	if err == nil {
		err = c.g.loop.Add(fd, c)
	}
	if err != nil {
		c.g.fail(&c.g.result.Errors.Connect, err)
		return
	}
	if c.http == nil {
		c.http = newRequest(&c.g.plan.Message)
	}
	c.fd, c.connecting, c.ending, c.switching = fd, true, false, c.g.plan.Message.Echo > 0
	c.partial, c.speech = c.partial[:0], c.http
}

// Ready goes on with whatever the connection does.
func (c *conn) Ready(e loop.Edge) {
	if c.connecting && !c.established() {
		return
	}
	if len(c.head)+len(c.body) > 0 && !c.flush() {
		return
	}
	for c.fd >= 0 {
		n, again, err := loop.Read(c.fd, c.g.scratch)
		if again {
			return
		}
		if n <= 0 || err != nil {
			c.ended(err)
			return
		}
		if !c.take(c.g.scratch[:n]) || n < len(c.g.scratch) && !e.Ended() {
			return
		}
	}
}

// established reports whether the connection has come about, and then goes on.
func (c *conn) established() bool {
	if err := loop.Failed(c.fd); err != nil {
		c.drop(&c.g.result.Errors.Connect, fmt.Errorf("connect: %w", err))
		return false
	}
	if !loop.Connected(c.fd) {
		return false
	}
	c.connecting = false
	if c.asked || c.switching {
		c.say()
	} else {
		c.opened()
	}
	return true
}

// opened says that the connection can carry requests.
func (c *conn) opened() {
	if !c.ready {
		c.ready = true
		c.g.opened++
		if c.g.keep {
			c.ask(c.g.clock.now()) // now: a proxy waits less long for a first request than for a second
			return
		}
	}
	c.onward()
}

// idle reports whether the connection can carry a request now.
func (c *conn) idle() bool {
	return c.fd >= 0 && !c.connecting && !c.switching && !c.asked && !c.ending
}

// ask sends the next request, which is due since a moment.
func (c *conn) ask(due time.Duration) {
	if c.asked {
		return
	}
	c.asked, c.due = true, due
	c.g.busy++
	switch {
	case c.fd < 0:
		c.connect()
	case !c.connecting:
		c.say()
	}
}

// say writes the speech's next message.
func (c *conn) say() {
	c.g.id++
	c.head, c.body = c.speech.next(c.g.id)
	c.flush()
}

// expecting reports whether an answer is due.
func (c *conn) expecting() bool { return c.asked || c.switching }

// flush writes what waits, and reports whether the connection can be read from.
func (c *conn) flush() bool {
	for len(c.head)+len(c.body) > 0 {
		n, again, err := loop.Write(c.fd, c.head, c.body)
		if err != nil {
			c.ended(err)
			return false
		}
		if again {
			return true
		}
		inHead := min(n, len(c.head))
		c.head, c.body = c.head[inHead:], c.body[n-inHead:]
	}
	return true
}

// take reads answers, and reports whether more may come on this connection.
func (c *conn) take(in []byte) bool {
	if len(c.partial) > 0 {
		c.partial = append(c.partial, in...)
		in = c.partial
	}
	if !c.expecting() {
		c.drop(&c.g.result.Errors.Length, fmt.Errorf("%w: %d bytes where no answer is due", errLength, len(in)))
		return false
	}
	used, done, err := c.speech.take(in)
	if err != nil {
		c.drop(c.g.result.Errors.kind(err), err)
		return false
	}
	in = in[used:]
	if done && len(in) > 0 {
		c.drop(&c.g.result.Errors.Length, fmt.Errorf("%w: %d bytes behind an answer", errLength, len(in)))
		return false
	}
	if done {
		c.partial = c.partial[:0]
		return c.finished()
	}
	c.partial = append(c.partial[:0], in...)
	return true
}

// kind is the count of an error of a speech.
func (e *Errors) kind(err error) *uint64 {
	switch {
	case errors.Is(err, errStatus):
		return &e.Status
	case errors.Is(err, errMixed):
		return &e.Mixed
	default:
		return &e.Length
	}
}

// finished goes on after an answer, and reports whether more may come on this connection.
func (c *conn) finished() bool {
	if c.switching {
		c.switching, c.speech = false, newEcho(c.g.plan.Message.Echo)
		c.opened()
		return c.fd >= 0
	}
	c.g.answered(c.due)
	c.g.busy--
	c.asked = false
	if c.http.last {
		c.ending = true // the next request is asked when the proxy has closed
		return true
	}
	c.onward()
	return c.fd >= 0
}

// onward asks what is due next.
func (c *conn) onward() {
	switch {
	case c.asked:
		c.say()
	case len(c.waiting) > 0:
		c.g.busy--
		due := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.ask(due)
	case c.g.follow && (c.g.phase == warming || c.g.phase == counting):
		c.ask(c.g.clock.now())
	}
}

// ended handles a connection that the proxy has closed, or that failed.
func (c *conn) ended(err error) {
	if c.expecting() {
		if err == nil {
			err = errors.New("the connection ended where an answer was due")
		}
		c.drop(&c.g.result.Errors.Closed, err)
		return
	}
	c.close()
	switch {
	case c.g.phase == draining && len(c.waiting) == 0:
	case c.g.keep:
		c.g.fail(&c.g.result.Errors.Closed, errors.New("an idle connection was closed"))
	case c.g.plan.Fresh:
		c.onward()
	default:
		c.connect() // the proxy may close between requests
	}
}

// drop counts an error, with which the present request and the connection end.
func (c *conn) drop(kind *uint64, err error) {
	c.g.fail(kind, err)
	if c.asked {
		c.asked = false
		c.g.busy--
	}
	c.close()
	if (c.g.phase != draining || len(c.waiting) > 0) && c.g.result.Errors.Sum() <= maxErrors {
		c.connect()
	}
}

func (c *conn) close() {
	if c.fd >= 0 {
		c.g.loop.Remove(c.fd)
		c.fd, c.head, c.body = -1, nil, nil
	}
}
