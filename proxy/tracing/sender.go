package tracing

import (
	"context"
	"errors"
	"time"
)

// The bounds of sending one batch.
const (
	maxAttempts  = 4
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// run is the sender's goroutine: it sends what has come together until the Tracer is closed and the queue is empty.
func (t *Tracer) run(ctx context.Context) {
	defer close(t.done)
	defer t.exporter.close()
	defer t.abort()
	delay := time.NewTimer(t.options.Delay)
	defer delay.Stop()
	for open := true; open; {
		open = t.wait(delay)
		for {
			c := t.take()
			if c == nil {
				break
			}
			t.send(ctx, c)
			t.release(c)
		}
	}
}

// wait returns when there is something to send. It reports whether the Tracer is still open.
func (t *Tracer) wait(delay *time.Timer) bool {
	select {
	case <-t.some:
	case <-t.closing:
		return false
	}
	delay.Reset(t.options.Delay)
	select {
	case <-t.plenty:
	case <-delay.C:
	case <-t.closing:
		return false
	}
	return true
}

// send sends c, again where the collector may take it later, and counts what became of its spans.
func (t *Tracer) send(ctx context.Context, c *chunk) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		refused, err := t.exporter.export(ctx, c.buf)
		if err == nil {
			t.sent.Add(uint64(c.spans) - min(refused, uint64(c.spans)))
			if refused > 0 {
				t.lost(errPartial, min(refused, uint64(c.spans)))
			}
			return
		}
		later, again := errors.AsType[*laterError](err)
		if !again || attempt == maxAttempts || !t.pause(max(pause, min(later.after, longestPause))) {
			t.lost(err, uint64(c.spans))
			return
		}
		pause *= 2
	}
}

// errPartial says that the collector has not taken all of a batch.
var errPartial = errors.New("the collector refused a part of the spans")

// pause waits, and reports whether it is worth another try: a Tracer that is being closed has no time for it.
func (t *Tracer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.closing:
		return false
	}
}

// telling is what was told of failures.
type telling struct {
	at   time.Time
	lost uint64
}

// tellEvery is how often failures are told of.
const tellEvery = time.Minute

// lost counts spans that the collector has not taken, and tells of it.
func (t *Tracer) lost(err error, spans uint64) {
	t.failed.Add(spans)
	t.told.lost += spans
	now := time.Now()
	if t.options.Failed == nil || !t.told.at.IsZero() && now.Sub(t.told.at) < tellEvery {
		return
	}
	t.options.Failed(err, t.told.lost)
	t.told = telling{at: now}
}
