package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// side is the client's side of one exchange: an http1.Server, or an http2.Stream. See http1.Server for what the methods do.
type side interface {
	OwnsBody(exchange.Body) bool
	BodyFits() bool
	BodyWhole() bool
	BodyDone() bool
	FillBody() error
	MarkBody()
	Rewind()
	BodyBytes() int64
	Buffered() int

	Continue() error
	Interim(*exchange.Exchange) error
	StartResponse(*exchange.Exchange, exchange.Persistence) exchange.Persistence
	Bodyless() bool
	Write([]byte) error
	Flush() error
	Finish(*exchange.Exchange) error
	Begun() bool
	Written() int64
	Discard()
}

// wire is what carries a side: a connection of HTTP/1.1, or a stream of HTTP/2. Interrupts, resumeRead and cut may come from any goroutine.
type wire interface {
	// interruptRead and interruptWrite end a wait of the side's reads or writes, and later ones; resumeRead undoes the former.
	interruptRead()
	interruptWrite()
	resumeRead()
	// reset ends the wire so that the client sees that its answer is not whole. cut ends it whatever it does.
	reset()
	cut()
	// linger lets the client read an answer that came before its request was complete; lingerBriefly is for requests that were refused.
	linger()
	lingerBriefly()
	// leave asks the client to send further requests over another connection.
	leave()
	// tunnel returns the client's end of a tunnel, after the head of the answer was written.
	tunnel() tunnelEnd
}

// call is one exchange under way: the goroutine that serves it, what it waits for, and its connection to a Pod. An HTTP/1.1 connection has
// one, for one exchange after the other; an HTTP/2 connection has one for each stream.
type call struct {
	e *Engine
	// terms are those of the table that was live when the exchange began, or the connection.
	terms *terms
	srv   side
	wire  wire
	fd    int // of the client's socket where its end is the call's, for poll; else -1

	main, upload watch
	// silence is the wait for more of an answer at which the sweeper looked last, and asked when it began or the client was asked for last. They
	// are the sweeper's.
	silence uint64
	asked   int64

	since       atomic.Int64 // when the exchange began, in ms of the sweeper's clock
	pod         atomic.Pointer[pod]
	aborted     atomic.Bool                        // set before pod is closed: no other attempt may follow
	wake        atomic.Pointer[chan struct{}]      // ends a pause; see waker
	consulted   atomic.Pointer[context.CancelFunc] // ends what a filter waits for; see session.Wait
	uploaded    chan error                         // result of the upload goroutine
	uploading   bool
	pulled      atomic.Bool   // the upload has pulled a part of the request body
	bodyRead    atomic.Bool   // the upload has pulled the whole request body
	bodyMissing atomic.Bool   // the client has not sent all of the request body, and somebody reads on who will tell if it never comes
	bodyPause   time.Duration // how long the body may pause that the upload pulls
	podPause    time.Duration // how long the Pod may take nothing
	headWait    time.Duration // how long the answer may take once the upload has ended
	sent        atomic.Bool   // the upload has ended
	body        limitedBody   // wraps request bodies of unknown length
	onPodTook   func()        // podTook, made once
	session     session       // of the present exchange
}

// enter says what the call's own goroutine waits for next, and returns what the sweeper found about the wait before.
func (c *call) enter(p phase, limit time.Duration) mark {
	return c.main.enter(p, c.e.sweeper.now.Load(), limit)
}

// clientTook says that the client has taken a part of what is being written to it.
func (c *call) clientTook() { c.main.extend(c.e.sweeper.now.Load(), c.e.timeouts.Stall) }

// podTook says so of the Pod, for whichever goroutine writes to it.
func (c *call) podTook() {
	w := &c.main
	if c.uploading {
		w = &c.upload
	}
	w.extend(c.e.sweeper.now.Load(), c.podPause)
}

// start gives the call an exchange, whose session it returns.
func (c *call) start(client *exchange.Client) *session {
	c.since.Store(c.e.sweeper.now.Load())
	c.terms = c.e.live.Load().terms
	x := exchange.New()
	x.Timing.Start = time.Now()
	x.Client = *client
	c.session = session{c: c, e: c.e, x: x}
	x.Waiter = &c.session
	return &c.session
}

// abort ends whatever the call does. Any goroutine may call it.
func (c *call) abort() {
	c.aborted.Store(true)
	c.rouse()
	c.endConsultation()
	c.wire.cut()
	if p := c.pod.Load(); p != nil {
		p.abort()
	}
}

// expire marks and interrupts the waits that have lasted too long.
func (c *call) expire(now int64) {
	c.main.expire(now, c)
	c.upload.expire(now, c)
}
