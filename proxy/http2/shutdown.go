package http2

import (
	"time"

	"golang.org/x/net/http2"
)

// leaving is how far a shutdown has come.
type leaving uint8

const (
	staying leaving = iota
	warned          // GOAWAY with the highest number is out: requests that are under way are still served
	left            // GOAWAY with the last stream's number is out
)

// stepped implements side: streams have become fewer.
func (c *Conn) stepped() {
	c.rest()
	if c.leaving == left && c.streams.len == 0 && c.active == 0 && !c.mute() {
		c.closing = true
		c.enter(lingering)
		c.flush()
	}
}

// pong implements side.
func (c *Conn) pong(data [8]byte) {
	if data == lastCall {
		c.leave()
	}
}

// goAway implements side. A client that goes away closes the connection when it has its answers.
func (c *Conn) goAway(uint32, http2.ErrCode) {}

// setting implements side.
func (c *Conn) setting(http2.Setting) {}

// lastCall is the PING of a shutdown: when it is answered, the client has read the first GOAWAY.
var lastCall = [8]byte{'l', 'a', 's', 't', 'c', 'a', 'l', 'l'}

// Shutdown ends the connection as soon as its streams have ended: it tells the client to open no more, serves what is under way
// meanwhile, and a round trip or a second later takes nothing new.
func (c *Conn) Shutdown() {
	c.mu.Lock()
	defer c.unlockAndFlush()
	if c.leaving != staying || c.mute() {
		return
	}
	c.leaving = warned
	_ = c.fr.WriteGoAway(maxWindow, http2.ErrCodeNo, nil)
	_ = c.fr.WritePing(false, lastCall)
}

// leave is the second step of a shutdown.
func (c *Conn) leave() {
	c.mu.Lock()
	defer c.unlockAndFlush()
	if c.leaving != warned || c.mute() {
		return
	}
	c.leaving = left
	_ = c.fr.WriteGoAway(c.maxID, http2.ErrCodeNo, nil)
	c.stepped()
}

// Idle reports whether no request is being served.
func (c *Conn) Idle() bool { return c.Streams() == 0 }

// Streams is the number of requests that are being served.
func (c *Conn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active
}

// Close ends the connection at once.
func (c *Conn) Close() { c.kill() }

// Sweep keeps the connection's times. One goroutine calls it again and again, with the time on a clock of its choice; the times
// are as precise as the calls are frequent. It never waits. It may call what was given to OnGone.
func (c *Conn) Sweep(now time.Duration) {
	c.sendLate()
	if !c.sweepLink(now) {
		return
	}
	c.mu.Lock()
	if n := min(c.idlest, len(c.free)); n > 0 {
		c.unpark(n)
	}
	c.idlest = len(c.free)
	if c.streams.len == 0 && c.active == 0 && c.out.parked && len(c.out.buf) == 0 {
		c.out.retire = true
	}
	last := false
	if c.leaving == warned {
		last = c.leftAt != 0
		c.leftAt = now
	}
	c.unlockAndFlush()
	if last {
		c.leave()
	}
}
