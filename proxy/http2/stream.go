package http2

import (
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// stream is what both sides' streams are made of: a receiving half, pulled as a body, and a sending half. Each half may be used by a
// goroutine of its own.
type stream struct {
	l    *link
	id   uint32
	next *stream // in its bucket
	body body
	send sending
	// server and client are the Stream or ClientStream that this is part of.
	server *Stream
	client *ClientStream

	// Guarded by the connection's lock.
	open      bool   // in the connection's table
	localDone bool   // we have ended the stream
	broken    error  // why nothing can be sent any more
	gone      func() // called once when the peer or the connection ends the stream early
	calling   bool   // gone runs
}

// begin makes s a new stream of its connection. The lock is held.
func (s *stream) begin(l *link) {
	s.l, s.id = l, 0
	s.body.begin(s, l.streamWindow())
	s.send.begin(l)
	s.open, s.localDone, s.broken, s.gone = false, false, nil, nil
}

// enroll opens s under a number. The lock is held.
func (s *stream) enroll(id uint32) {
	s.id, s.open = id, true
	s.send.window = s.l.peerWindow
	s.l.streams.add(s)
}

// wait is what a sender waits for.
type wait uint8

const (
	noWait    wait = iota
	forWindow      // of its own
	forTurn        // in the queue
	forRoom        // in the buffer, out of turn
)

// sending is the sending half of a stream. What is held back belongs to the goroutine that sends, the rest is guarded by the connection's
// lock.
type sending struct {
	head    []byte // an encoded header block that is not framed yet
	data    []byte // body bytes that are not framed yet
	tail    []byte // an encoded trailer section
	left    int64  // bytes of the declared length still to come; -1 where none was declared
	written int64
	begun   bool // a frame of the message was given to the connection

	window  int64 // what the peer takes
	wait    wait
	queued  bool
	behind  *stream // in the queue
	stopped bool
	// progress, where set, is called under the lock when a part of what is pushed has been taken.
	progress func()
	since    time.Duration // when Sweep first saw it wait for a window; 0 for not yet
	ready    sync.Cond
}

// holdBack is the size up to which body bytes are copied and held back, to leave in one frame and one write with what is before and
// behind them.
const holdBack = 4 << 10

func (o *sending) begin(l *link) {
	head, data, tail := o.head, o.data, o.tail
	if cap(head) > keptText {
		head = nil
	}
	if cap(data) > holdBack {
		data = nil
	}
	if cap(tail) > keptText {
		tail = nil
	}
	*o = sending{head: head[:0], data: data[:0], tail: tail[:0], left: -1}
	o.ready.L = &l.mu
}

// endings is what comes behind the bytes of a push.
type endings uint8

const (
	more         endings = iota // the message goes on
	endStream                   // nothing
	endWithTrail                // the trailer section in sending.tail
)

// push gives what is held back, and then p, to the connection. It waits for windows and for room.
func (s *stream) push(p []byte, end endings) error {
	l := s.l
	l.mu.Lock()
	err := s.pushAll(p, end)
	l.unlockAndFlush()
	return err
}

func (s *stream) pushAll(p []byte, end endings) error {
	o := &s.send
	if len(o.head) > 0 {
		flags := end.flags(len(o.data) + len(p))
		if err := s.pushHead(o.head, flags); err != nil || flags != 0 {
			return err
		}
		o.head = o.head[:0]
	}
	if len(o.data) > 0 {
		flags := end.flags(len(p))
		if err := s.pushData(o.data, flags); err != nil || flags != 0 {
			return err
		}
		o.data = o.data[:0]
	}
	if len(p) > 0 || end == endStream {
		if err := s.pushData(p, end.flags(0)); err != nil {
			return err
		}
	}
	if end == endWithTrail {
		return s.pushHead(o.tail, http2.FlagHeadersEndStream)
	}
	return nil
}

// flags are those of a frame with rest bytes of the message behind it. HEADERS and DATA have the same flag for the end.
func (e endings) flags(rest int) http2.Flags {
	if rest == 0 && e == endStream {
		return http2.FlagDataEndStream
	}
	return 0
}

// sendErr is why nothing more can be sent.
func (s *stream) sendErr() error {
	switch {
	case s.send.stopped:
		return os.ErrDeadlineExceeded
	case s.broken != nil:
		return s.broken
	case s.localDone:
		return ErrEnded
	}
	return nil
}

// pushHead frames a header block. It does not wait behind the DATA of others, but for room. The lock is held.
func (s *stream) pushHead(block []byte, flags http2.Flags) error {
	l := s.l
	for {
		if err := s.sendErr(); err != nil {
			return err
		}
		if s.id == 0 || l.out.admits(len(block)) {
			break
		}
		s.await(forRoom)
	}
	if s.id == 0 {
		// Streams have to begin in the order of their numbers, and wait for nothing in between.
		if err := s.client.number(); err != nil {
			return err
		}
	}
	s.send.begun = true
	l.out.headers(s.id, block, flags)
	l.guard.moved(len(block))
	if flags.Has(http2.FlagHeadersEndStream) {
		l.sent(s)
	}
	return nil
}

// pushData frames body bytes. The lock is held.
func (s *stream) pushData(p []byte, flags http2.Flags) error {
	l, o := s.l, &s.send
	defer l.leaveQueue(s)
	for {
		if err := s.sendErr(); err != nil {
			return err
		}
		n := int64(len(p))
		switch first := l.out.queue.first; {
		case n == 0, n <= holdBack && n <= o.window && n <= l.window:
			// The end of a message, or a short one: it overtakes long ones.
			if l.out.admits(len(p)) {
				l.sendData(s, p, flags)
				return nil
			}
			s.await(forRoom)
			continue
		case o.window <= 0:
			l.leaveQueue(s)
			s.await(forWindow)
			continue
		case first != nil && first != s, l.window <= 0, l.out.room() < leastRoom:
			if !o.queued {
				l.out.queue.push(s)
			}
			s.await(forTurn)
			continue
		}
		n = min(n, maxFrame, o.window, l.window, int64(l.out.room()))
		if n == int64(len(p)) {
			l.sendData(s, p, flags)
			return nil
		}
		l.sendData(s, p[:n], 0)
		p = p[n:]
		if o.progress != nil {
			o.progress()
		}
		if o.queued {
			l.out.queue.remove(s)
			l.out.queue.push(s)
			l.passTurn()
		}
	}
}

// await waits until something has changed. The lock is held.
func (s *stream) await(w wait) {
	l, o := s.l, &s.send
	l.flush()
	o.wait = w
	l.waiting.Add(1)
	if w == forRoom {
		l.out.blocked++
	}
	for o.wait != noWait {
		o.ready.Wait()
	}
	if w == forRoom {
		l.out.blocked--
	}
	l.waiting.Add(-1)
	o.since = 0
}

// resume ends a wait. The lock is held.
func (s *stream) resume() {
	if s.send.wait != noWait {
		s.send.wait = noWait
		s.send.ready.Broadcast()
	}
}

// sendData frames p. The lock is held.
func (l *link) sendData(s *stream, p []byte, flags http2.Flags) {
	l.window -= int64(len(p))
	s.send.window -= int64(len(p))
	s.send.begun = true
	l.out.data(s.id, p, flags)
	l.guard.moved(len(p))
	if flags.Has(http2.FlagDataEndStream) {
		l.sent(s)
	}
}

// passTurn wakes the stream whose turn it is, if there is room for it. The lock is held.
func (l *link) passTurn() {
	if s := l.out.queue.first; s != nil && l.window > 0 && l.out.room() >= leastRoom {
		s.resume()
	}
}

// passRoom wakes the streams that wait for room and for nothing else, and then the one whose turn it is. The lock is held.
func (l *link) passRoom() {
	if l.out.blocked > 0 {
		l.streams.each(func(s *stream) {
			if s.send.wait == forRoom {
				s.resume()
			}
		})
	}
	l.passTurn()
}

func (l *link) leaveQueue(s *stream) {
	if s.send.queued {
		l.out.queue.remove(s)
		l.passTurn()
	}
}

// sent says that our side of the stream has ended. The lock is held.
func (l *link) sent(s *stream) {
	s.localDone = true
	if s.body.done {
		l.close(s, ended)
		l.guard.completed()
	}
}

// fail breaks a stream that is not complete. It returns the hook that is to be called, without the lock, and followed by hooked.
func (s *stream) fail(err error) (hook func()) {
	s.body.fail(err)
	if s.broken == nil {
		s.broken = err
	}
	s.resume()
	hook, s.gone = s.gone, nil
	s.calling = hook != nil
	return hook
}

// hooked says that the hook which fail returned has been called.
func (s *stream) hooked() {
	s.l.mu.Lock()
	s.calling = false
	s.send.ready.Broadcast()
	s.l.mu.Unlock()
}

// interruptRead makes waiting and later reads of the body fail, until resumeRead.
func (s *stream) interruptRead() {
	s.l.mu.Lock()
	s.body.stopped = true
	s.body.ready.Broadcast()
	s.l.mu.Unlock()
}

func (s *stream) resumeRead() {
	s.l.mu.Lock()
	s.body.stopped = false
	s.l.mu.Unlock()
}

// interruptWrite makes waiting and later writes fail.
func (s *stream) interruptWrite() {
	s.l.mu.Lock()
	s.send.stopped = true
	s.resume()
	s.l.mu.Unlock()
}
