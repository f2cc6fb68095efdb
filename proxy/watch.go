package proxy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A connection's waits have deadlines without a timer or a system call each: the goroutine that is about to wait stores
// what it waits for, and until when, in one atomic word (a watch). One sweeper looks at the words of all connections every tick.
// Where one has expired it marks the word and then interrupts the wait with a deadline in the past. The goroutine learns of
// the mark when it stores its next word, so a wait that ended at the same moment is never mistaken for one that did not.

// phase is what a goroutine waits for.
type phase uint8

const (
	working         phase = iota // nothing: no deadline
	firstByte                    // of the first request on a new connection
	idle                         // the next request
	parked                       // the next request, without a goroutine of its own where it can be
	reading                      // the rest of a request's head, or its body
	awaiting                     // the Pod's answer: the client may go away meanwhile
	uploading                    // the same, while the request's body goes to the Pod
	receiving                    // the rest of the Pod's answer: the client may be reset, once the Pod has been silent for a while
	receivingEvents              // the same of an event stream: the client may go away, once the Pod has been silent for a while
	writingClient                // room in the client's socket
	writingPod                   // room in the Pod's socket: the client may go away meanwhile
	tunneling                    // either side of an upgraded connection
	pacing                       // the time at which a paced body may be pulled
	consulting                   // somebody whom a filter asks: the client may go away meanwhile
)

// resting reports whether it is the wait between two requests.
func (p phase) resting() bool { return p == idle || p == parked }

// mark is what the sweeper found.
type mark uint8

const (
	unmarked  mark = iota
	expired        // the time is over
	gone           // the client has gone away
	dismissed      // a connection that carries nothing must end
)

// tick is how often the sweeper looks. Deadlines are this coarse, and a client that goes away is noticed within two ticks.
const tick = 40 * time.Millisecond

// goneAfter is the age from which a request is watched for a client that went away: younger ones are about to end anyway.
const goneAfter = 50 * time.Millisecond

// watch is one goroutine's word: sequence (16 bits), deadline in ms of the engine's clock (40 bits), mark (2), phase (6).
type watch struct{ word atomic.Uint64 }

const (
	phaseBits    = 6
	markBits     = 2
	deadlineBits = 40
	noDeadline   = 1<<deadlineBits - 1
)

func pack(seq uint64, deadline int64, p phase) uint64 {
	return seq<<(64-16) | uint64(deadline)<<(phaseBits+markBits) | uint64(p)
}

func phaseOf(w uint64) phase    { return phase(w & (1<<phaseBits - 1)) }
func markOf(w uint64) mark      { return mark(w >> phaseBits & (1<<markBits - 1)) }
func deadlineOf(w uint64) int64 { return int64(w >> (phaseBits + markBits) & noDeadline) }

// enter says what the goroutine waits for next, and returns the mark of the wait before. limit 0 means for ever.
func (w *watch) enter(p phase, now int64, limit time.Duration) mark {
	deadline := int64(noDeadline)
	if limit > 0 {
		deadline = now + limit.Milliseconds()
	}
	old := w.word.Load()
	fresh := pack(old>>(64-16)+1, deadline, p)
	return markOf(w.word.Swap(fresh))
}

// extend puts the deadline of a wait for room in a socket off: the peer has taken some bytes.
func (w *watch) extend(now int64, limit time.Duration) {
	old := w.word.Load()
	if p := phaseOf(old); limit > 0 && (p == writingClient || p == writingPod) && markOf(old) == unmarked {
		// Where this fails the sweeper was faster, and the wait is over.
		w.word.CompareAndSwap(old, pack(old>>(64-16), now+limit.Milliseconds(), p))
	}
}

// await gives the wait for an answer its deadline, once nothing of the request is left to be sent.
func (w *watch) await(now int64, limit time.Duration) {
	old := w.word.Load()
	if limit > 0 && phaseOf(old) == uploading && markOf(old) == unmarked {
		// Where this fails the wait is over.
		w.word.CompareAndSwap(old, pack(old>>(64-16), now+limit.Milliseconds(), uploading))
	}
}

// past is a deadline that has expired.
var past = time.Unix(1, 0)

// sweeper keeps the set of connections and looks at their words.
type sweeper struct {
	now   atomic.Int64 // ms since the engine began, updated every tick
	idle  atomic.Int64 // connections that waited for a request at the last look
	began time.Time
	stop  chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	conns  []*conn // that have a goroutine
	asleep parking // that have none
	// uneven is up to when some that sleep may have less time than others that sleep longer, because what they may has changed.
	uneven atomic.Int64

	polled []unix.PollFd
	asked  []suspect
}

// suspect is a connection whose client may have gone away, and the word under which it was asked.
type suspect struct {
	c    *call
	word uint64
}

// newSweeper returns a sweeper that nobody runs yet; full reports whether connections run out.
func newSweeper(full func() bool) *sweeper {
	s := &sweeper{began: time.Now(), stop: make(chan struct{}), done: make(chan struct{})}
	s.asleep.shorter = func() bool { return full() || s.now.Load() < s.uneven.Load() }
	return s
}

// change says that the time for which connections may be idle changes; 0 is no end. Those that wait keep theirs.
func (s *sweeper) change(from, to time.Duration) {
	switch from {
	case to:
	case 0:
		s.uneven.Store(math.MaxInt64) // they may wait for ever
	default:
		s.uneven.Store(max(s.uneven.Load(), s.now.Load()+(from+2*tick).Milliseconds()))
	}
}

func (s *sweeper) add(c *conn) {
	s.mu.Lock()
	c.index = len(s.conns)
	s.conns = append(s.conns, c)
	s.mu.Unlock()
}

func (s *sweeper) remove(c *conn) {
	s.mu.Lock()
	s.take(c)
	s.mu.Unlock()
}

// park moves a connection that has a goroutine to those that have none, unpark moves it back.
func (s *sweeper) park(c *conn) {
	s.mu.Lock()
	s.take(c)
	s.asleep.add(c)
	s.mu.Unlock()
}

func (s *sweeper) unpark(c *conn) {
	s.mu.Lock()
	s.asleep.remove(c)
	c.index = len(s.conns)
	s.conns = append(s.conns, c)
	s.mu.Unlock()
}

// take takes c out of conns.
func (s *sweeper) take(c *conn) {
	last := s.conns[len(s.conns)-1]
	s.conns[c.index] = last
	last.index = c.index
	s.conns[len(s.conns)-1] = nil
	s.conns = s.conns[:len(s.conns)-1]
}

// len is the number of open client connections.
func (s *sweeper) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) + s.asleep.len
}

// mostSleep reports whether many connections sleep, and only few do not.
func (s *sweeper) mostSleep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asleep.len >= collectAfter && s.asleep.len >= 9*len(s.conns)
}

// each calls f for every connection, under the set's lock.
func (s *sweeper) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		f(c)
	}
	for c := s.asleep.first; c != nil; c = c.behind {
		f(c)
	}
}

// settle returns when no interrupt is under way that began before.
func (s *sweeper) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

// run sweeps every tick, and calls also each time, until stop is closed.
func (s *sweeper) run(also func()) {
	defer close(s.done)
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			s.now.Store(time.Since(s.began).Milliseconds())
			s.sweep()
			also()
		}
	}
}

func (s *sweeper) sweep() {
	now := s.now.Load()
	s.polled, s.asked = s.polled[:0], s.asked[:0]
	s.idle.Store(s.sweepConns(now))
	if len(s.polled) == 0 {
		return
	}
	// One system call asks for all. A descriptor may be closed, and its number used again, while we ask; then the
	// word has changed, and the answer is dropped.
	if n, err := unix.Poll(s.polled, 0); err != nil || n == 0 {
		return
	}
	for i, p := range s.polled {
		if p.Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0 {
			s.asked[i].c.main.interrupt(s.asked[i].word, gone, s.asked[i].c)
		}
	}
}

// sweepConns interrupts the waits that have lasted too long, notes whose clients may have gone, and returns the number of connections that rest.
func (s *sweeper) sweepConns(now int64) (resting int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asleep.sweep(now)
	resting = int64(s.asleep.len)
	for _, c := range s.conns {
		if h2 := c.h2.Load(); h2 != nil {
			h2.sweep(now)
			continue
		}
		c.expire(now)
		w := c.main.word.Load()
		p := phaseOf(w)
		if p.resting() {
			resting++
		}
		if c.fd >= 0 && markOf(w) == unmarked && c.mayHaveLeft(w, now) {
			s.polled = append(s.polled, unix.PollFd{Fd: int32(c.fd), Events: c.goneEvents(p)})
			s.asked = append(s.asked, suspect{&c.call, w})
		}
	}
	return resting
}

// mayHaveLeft reports whether the kernel is to be asked after c's client, which waits for a Pod under w. Before the answer begins it is asked
// every tick, because most such waits are short. Event streams wait in their middle for as long as they last, and there may be many: each is asked
// for once in Departure, and an answer that flows is not. Only the sweeper calls it.
func (c *call) mayHaveLeft(w uint64, now int64) bool {
	switch phaseOf(w) {
	case awaiting, uploading, writingPod, consulting:
		return now-c.since.Load() >= goneAfter.Milliseconds()
	case receiving, receivingEvents:
		every := c.e.timeouts.Departure.Milliseconds()
		switch {
		case w != c.silence:
			c.silence, c.asked = w, now
		case every > 0 && now-c.asked >= every:
			c.asked = now
			return true
		}
	}
	return false
}

// goneEvents are the events by which c's client is gone, beside a reset, which poll always tells. The end of its sending side is one, unless
// that is allowed, or body is still missing: then whoever reads it will tell. In the middle of an answer it is none (FAULTS.md F7: who has asked for
// it gets it), but of an event stream, which has no end to wait for, and whose clients have nothing to say.
func (c *call) goneEvents(p phase) int16 {
	if c.e.opts.AllowHalfClose || p == receiving || p != awaiting && c.bodyMissing.Load() {
		return 0
	}
	return unix.POLLRDHUP
}

func (w *watch) expire(now int64, c *call) {
	word := w.word.Load()
	if p := phaseOf(word); p != working && markOf(word) == unmarked && now > deadlineOf(word) {
		w.interrupt(word, expired, c)
	}
}

// interrupt marks the word and wakes the goroutine that waits under it.
func (w *watch) interrupt(word uint64, m mark, c *call) {
	p := phaseOf(word)
	pod, consultation := c.pod.Load(), c.consulted.Load()
	if !w.word.CompareAndSwap(word, word|uint64(m)<<phaseBits) {
		return
	}
	switch p {
	case firstByte, idle, parked, reading:
		c.wire.interruptRead()
	case writingClient:
		c.wire.interruptWrite()
	case awaiting, uploading, receiving, receivingEvents:
		if pod != nil {
			pod.interruptRead()
		}
	case writingPod:
		if pod != nil {
			pod.interruptWrite()
		}
	case pacing:
		c.rouse()
	case consulting:
		if consultation != nil {
			(*consultation)()
		}
	case tunneling:
		c.wire.interruptRead()
		c.wire.interruptWrite()
		if pod != nil {
			pod.interruptRead()
			pod.interruptWrite()
		}
	}
}
