package http2

import (
	"time"

	"golang.org/x/net/http2"
)

// past and never are deadlines: one that has expired, and none.
var (
	past  = time.Unix(1, 0)
	never time.Time
)

// phases are what the reader of a connection waits for. Each has a time of its own.
type phases uint32

const (
	greeting  phases = iota // the preface and the first SETTINGS
	resting                 // a stream
	busy                    // streams, which have times of their own
	inHead                  // the rest of a header block
	lingering               // the end, after the last frame
)

const phaseBits = 3

// enter says what the reader waits for. The lock is held.
func (l *link) enter(p phases) {
	w := l.phase.Load()
	if now := phases(w & (1<<phaseBits - 1)); now == p || now == lingering {
		return
	}
	l.phase.Store((w>>phaseBits+1)<<phaseBits | uint32(p))
}

// rest enters what is true when no header block is being read. The lock is held.
func (l *link) rest() {
	if l.lateBlock {
		return
	}
	if l.streams.len == 0 && l.active == 0 {
		l.enter(resting)
		return
	}
	l.enter(busy)
}

// timer remembers since when a word has been what it is. Words change with every change of what they stand for, so those who change them
// need no clock, and only the sweeper writes here.
type timer struct {
	word  uint32
	since time.Duration
}

func (t *timer) age(word uint32, now time.Duration) time.Duration {
	if t.word != word {
		t.word, t.since = word, now
	}
	return now - t.since
}

// sweep is what belongs to the goroutine that calls Sweep.
type sweep struct {
	began                  bool
	phase, write, settings timer
	upkeep                 time.Duration
}

// upkeepEvery is how often Sweep looks closer.
const upkeepEvery = time.Second

// sweepLink keeps the times of the connection. Where nothing is due it costs three loads. It reports whether a closer look is due, which
// the side takes.
func (l *link) sweepLink(now time.Duration) (closer bool) {
	w := &l.sweep
	phase, writes := l.phase.Load(), l.writes.Load()
	if !w.began {
		w.began = true
		w.phase, w.write = timer{phase, now}, timer{writes, now}
		w.settings, w.upkeep = timer{1, now}, now
	}
	t := &l.o.Timeouts
	age := w.phase.age(phase, now)
	switch phases(phase & (1<<phaseBits - 1)) {
	case greeting:
		l.lapseAfter(age, t.FirstByte, errFirstByte)
	case resting:
		if writes&1 == 1 {
			w.phase.since = now // the last answer is still being taken
		}
		l.lapseAfter(age, t.Idle, errIdle)
	case inHead:
		l.lapseAfter(age, t.Header, errSlowHead)
	case lingering:
		if age > t.Linger {
			l.kill()
		}
	}
	if writes&1 == 1 && t.Stall > 0 && w.write.age(writes, now) > t.Stall {
		l.kill()
	}
	if unacked := l.unacked.Load(); unacked != 0 {
		l.lapseAfter(w.settings.age(unacked, now), t.SettingsAck, errSettingsAck)
	}
	if now-w.upkeep < upkeepEvery {
		return false
	}
	w.upkeep = now
	if l.waiting.Load() > 0 && t.Stall > 0 {
		l.sweepStreams(now)
	}
	return true
}

// lapseAfter ends the connection where a limit is over, by waking its reader, which then sends why.
func (l *link) lapseAfter(age, limit time.Duration, why *fault) {
	if limit <= 0 || age <= limit {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if why == errIdle && (l.streams.len > 0 || l.active > 0) {
		return // no longer
	}
	if l.lapsed == nil && !l.mute() {
		l.lapsed = why
		_ = l.nc.SetReadDeadline(past)
	}
}

// kill ends the connection at once.
func (l *link) kill() {
	l.mu.Lock()
	l.die(ErrConnection)
	l.mu.Unlock()
}

// sweepStreams resets streams whose windows have stayed shut for too long.
func (l *link) sweepStreams(now time.Duration) {
	now++ // 0 stands for not yet
	for again := true; again; {
		again = false
		var s *stream
		var hook func()
		l.mu.Lock()
		l.streams.each(func(at *stream) {
			switch o := &at.send; {
			case s != nil:
				// The next round looks at it.
			case o.wait != forWindow && (o.wait != forTurn || l.window > 0):
				// Whether there is room is the whole connection's matter.
				o.since = 0
			case o.since == 0:
				o.since = now
			case now-o.since > l.o.Timeouts.Stall:
				s = at
			}
		})
		if s != nil {
			again = true
			hook = s.fail(ErrStalled)
			l.reset(s, http2.ErrCodeCancel)
		}
		l.unlockAndFlush()
		if hook != nil {
			hook()
			s.hooked()
		}
	}
}
