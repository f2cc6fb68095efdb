package load

import (
	"errors"
	"fmt"
	"time"
)

// conn is one connection to the proxy with one request at a time: with Fresh, one connection after the other.
type conn struct {
	link
	http      *request
	speech    speech // http, or what the connection was switched to
	switching bool   // the answer that is due is the one to the opening of WebSocket
	ready     bool   // the dialogue has been opened
	asked     bool   // an answer is due
	due       time.Duration
	waiting   []time.Duration // of a rate: what has become due since
	partial   []byte          // of an answer that has not come whole
	ending    bool            // the proxy closes it now
}

func newConn(g *generator, index int) *conn {
	c := &conn{http: newRequest(&g.plan.Message)}
	c.link = newLink(g, index, c)
	return c
}

// connect begins a connection.
func (c *conn) connect() {
	c.ending, c.switching = false, c.g.plan.Message.Echo > 0
	c.partial, c.speech = c.partial[:0], c.http
	c.dial()
}

// established goes on when the connection has come about.
func (c *conn) established() {
	if c.asked || c.switching {
		c.say()
	} else {
		c.opened()
	}
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
	return c.stage == up && !c.switching && !c.asked && !c.ending
}

// ask sends the next request, which is due since a moment.
func (c *conn) ask(due time.Duration) {
	if c.asked {
		return
	}
	c.asked, c.due = true, due
	c.g.busy++
	switch c.stage {
	case down:
		c.connect()
	case up:
		c.say()
	}
}

// begin sends the first request.
func (c *conn) begin() { c.ask(c.g.clock.now()) }

// overdue calls f for each request that has no answer.
func (c *conn) overdue(f func(due time.Duration)) {
	for _, due := range c.waiting {
		f(due)
	}
	if c.asked {
		f(c.due)
	}
}

// say writes the speech's next message.
func (c *conn) say() {
	c.g.id++
	c.send(c.speech.next(c.g.id))
}

// expecting reports whether an answer is due.
func (c *conn) expecting() bool { return c.asked || c.switching }

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
	case errors.Is(err, errClosed):
		return &e.Closed
	default:
		return &e.Length
	}
}

// finished goes on after an answer, and reports whether more may come on this connection.
func (c *conn) finished() bool {
	if c.switching {
		c.switching, c.speech = false, newEcho(c.g.plan.Message.Echo)
		c.opened()
		return c.stage == up
	}
	c.g.answered(c.due)
	c.g.busy--
	c.asked = false
	if c.http.last {
		c.ending = true // the next request is asked when the proxy has closed
		return true
	}
	c.onward()
	return c.stage == up
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
