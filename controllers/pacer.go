package controllers

import (
	"context"
	"sync"
	"time"
)

// The bounds of the hold-off between two builds under churn.
const (
	minHoldOff = 20 * time.Millisecond
	maxHoldOff = 100 * time.Millisecond
)

// pacer decides when the table is built. The rule:
//
// The window is what the last build took, but at least 20 ms and at most 100 ms. An event that comes when nothing was
// built or pending for a window is acted on at once. Any other waits until no event came for a window, but at most 100 ms
// after the first one that waits, and in any case until the last build ended a window ago.
//
// So a single change is live at once, a burst costs two builds, and under lasting churn each build is followed by a pause, as
// long as itself up to 100 ms. It is safe for concurrent use; its clock is time.Now.
type pacer struct {
	mu sync.Mutex
	// first and last are when the first and the last pending event came; zero means that none is pending.
	first, last time.Time
	// finished is when the last build ended and cost how long it took.
	finished time.Time
	cost     time.Duration
}

// note records an event.
func (p *pacer) note() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	if p.first.IsZero() {
		p.first = p.last
	}
}

// await returns when the rule says that it is time to build, or false if nothing is pending or ctx ended first.
func (p *pacer) await(ctx context.Context) bool {
	for {
		hold, pending := p.hold()
		if !pending {
			return false
		}
		if hold <= 0 {
			return true
		}
		timer := time.NewTimer(hold)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

// hold returns how long to wait from now, and whether an event is pending.
func (p *pacer) hold() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first.IsZero() {
		return 0, false
	}
	window := min(max(p.cost, minHoldOff), maxHoldOff)
	if p.first.Sub(p.finished) >= window {
		return 0, true
	}
	due := p.last.Add(window)
	if latest := p.first.Add(maxHoldOff); latest.Before(due) {
		due = latest
	}
	if earliest := p.finished.Add(window); earliest.After(due) {
		due = earliest
	}
	return time.Until(due), true
}

// begin takes the pending events and returns when the first of them came. Events from now on are of the next build.
func (p *pacer) begin() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.first
	p.first, p.last = time.Time{}, time.Time{}
	return first
}

// end records that the build, which took cost, is over.
func (p *pacer) end(cost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished, p.cost = time.Now(), cost
}

// restore makes the events that began at first pending again, because the build did not come to its end.
func (p *pacer) restore(first time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first.IsZero() {
		p.last = first
	}
	p.first = first
}
