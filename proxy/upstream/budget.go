package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// budget bounds the retries of one Service: in each second RetryPercent of its requests, but at least RetriesPerSecond.
// Requests pay nothing for it: they are counted by the turns of the Views, which are only added up when a retry asks.
type budget struct {
	again atomic.Uint64 // picks that were not a request's first

	mu    sync.Mutex
	start int64  // of the running window of one second
	base  uint64 // requests at its start
	rate  int64  // requests per second in the time before it
	spent int
}

// AllowRetry takes one retry out of the Service's budget, and reports whether there was one. The engine asks before every
// further attempt but those after a connect error (and HTTP/2's refused streams), of which no Pod has seen anything.
func (p *Pool) AllowRetry() bool {
	o := &p.registry.o
	b := &p.service.budget
	now := p.registry.now()
	requests := p.registry.requests(p.service)
	b.mu.Lock()
	defer b.mu.Unlock()
	// A Pool that was dropped took its count away: the difference may be negative for once.
	since := max(int64(requests-b.base), 0)
	if age := now - b.start; age >= int64(time.Second) {
		b.rate = int64(float64(since) * float64(time.Second) / float64(max(age, 1)))
		since = 0
		b.start, b.base, b.spent = now, requests, 0
	}
	if b.spent >= max(o.RetriesPerSecond, int(max(b.rate, since))*max(o.RetryPercent, 0)/100, 0) {
		return false
	}
	b.spent++
	return true
}

// requests is the number of requests that have been balanced over the Service's Pools so far.
func (r *Registry) requests(s *service) uint64 {
	r.mu.Lock()
	pools := make([]*Pool, 0, 4)
	for _, p := range s.ports {
		pools = append(pools, p)
	}
	r.mu.Unlock()
	var n uint64
	for _, p := range pools {
		p.mu.Lock()
		n += p.retired
		for _, v := range p.views {
			n += v.turn.Load()
		}
		p.mu.Unlock()
	}
	return n - s.budget.again.Load()
}
