package controllers

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// BrakeOptions say what is too much to lose in one step: what an API server that came back without half of its objects would take away, or a command
// that deleted more than was meant. Such a step is always said aloud.
type BrakeOptions struct {
	// Percent of all hosts, or of all ready endpoints, is what one step may remove; 0 is any number.
	Percent int
	// Hold is for how long more than that is held; 0 only says so. Held hosts keep their routes, and held endpoints go on getting requests.
	Hold time.Duration
}

// BrakeKind is what a step removes.
type BrakeKind string

// The kinds of what is removed.
const (
	BrakeHosts     BrakeKind = "hosts"
	BrakeEndpoints BrakeKind = "endpoints"
)

// BrakeKinds returns all of them.
func BrakeKinds() []BrakeKind { return []BrakeKind{BrakeHosts, BrakeEndpoints} }

// BrakeStep is a step that removes too much.
type BrakeStep struct {
	Kind BrakeKind
	// Removed of Of are what the step removes, as far as it was known when it was noticed.
	Removed, Of int
	// Held says that it is held; Ended that it was, and is not any more. With neither it came into effect at once.
	Held, Ended bool
}

const (
	// brakeLeast is what may always go: scaling one Service of a small cluster to zero is no accident.
	brakeLeast = 10
	// brakeWindow is how long what goes counts as one step. A relist is over in a second, but each watch has its own.
	brakeWindow = 10 * time.Second
	// What goes waits for more that goes with it, where steps are held: until nothing went for brakeQuiet, but for brakeGather at most. So a step is
	// judged before its first part comes into effect.
	brakeQuiet  = 500 * time.Millisecond
	brakeGather = 5 * time.Second
)

// gathering is a step of which more may come. The zero value is none.
type gathering struct{ began, last time.Time }

// note notes that a part of the step came.
func (g *gathering) note() {
	now := time.Now()
	if now.Sub(g.last) >= brakeQuiet || now.Sub(g.began) >= brakeGather {
		g.began = now
	}
	g.last = now
}

// left returns for how long more is waited for.
func (g *gathering) left() time.Duration {
	return min(time.Until(g.last.Add(brakeQuiet)), time.Until(g.began.Add(brakeGather)))
}

// brake holds steps that remove too much. Endpoints count that were ready and are gone without a word: a Pod that ends is not ready before it
// goes, so rollouts and scaling never look like that. It is safe for concurrent use.
type brake struct {
	options BrakeOptions
	class   string // the IngressClass that Problems are told of
	log     logr.Logger
	// noticed is told of each step that removes too much, and of the end of each that was held; changed that Problems differ. release has the
	// addresses of a Service handed over anew, and wake a table built.
	noticed func(BrakeStep)
	changed func()
	release func(router.Service)
	wake    func()

	told atomic.Pointer[[]ingress.Problem]

	mu       sync.Mutex
	holds    map[BrakeKind]*brakeHold
	services map[router.Service]*brakedService // those that have a pool
	// ready is how many ready endpoints the cluster says that there are; earlier and lately are the most that there were in the last two halves of
	// a window, the later of which began at began.
	ready, earlier, lately int
	began                  time.Time
	// earlierTable and latelyTable were live when the last two halves of a window began, the later one at tableBegan.
	earlierTable, latelyTable *router.Table
	tableBegan                time.Time
	// waiting is the table with fewer hosts that waits for more of its step, nil for none; hostStep and endpointStep are what is gathered.
	waiting                *router.Table
	hostStep, endpointStep gathering
}

// brakeHold is a step that is held.
type brakeHold struct {
	step    BrakeStep
	until   time.Time
	timer   *time.Timer
	problem ingress.Problem
}

func newBrake(o BrakeOptions, class string) *brake {
	return &brake{options: o, class: class, holds: map[BrakeKind]*brakeHold{}, services: map[router.Service]*brakedService{}}
}

// tooMuch says whether losing n of all is more than one step may do.
func (b *brake) tooMuch(n, of int) bool {
	return b.options.Percent > 0 && n > brakeLeast && n*100 > of*b.options.Percent
}

// begin notices a step that removes too much, and says whether it is held. b.mu is held.
func (b *brake) begin(s BrakeStep) bool {
	s.Held = b.options.Hold > 0
	what := fmt.Sprintf("one step removes %d of %d %s", s.Removed, s.Of, s.Kind)
	b.noticed(s)
	if !s.Held {
		b.log.Error(nil, "too much is removed at once, and --brake-hold is not set: it goes", "step", what)
		return false
	}
	h := &brakeHold{step: s, until: time.Now().Add(b.options.Hold)}
	until := h.until.UTC().Format(time.RFC3339)
	b.log.Error(nil, "too much is removed at once: it stays for now", "step", what, "until", until)
	h.problem = ingress.Problem{
		Object: ingress.Object{Kind: "IngressClass", Name: b.class}, Field: "--brake-hold", Reason: ingress.MassRemoval, Effect: ingress.Kept,
		Message: fmt.Sprintf("%s, which is more than --brake-percent=%d: they stay until %s, unless they come back before; see whether the API server has lost objects", what, b.options.Percent, until),
	}
	h.timer = time.AfterFunc(b.options.Hold, func() { b.expire(s.Kind) })
	b.holds[s.Kind] = h
	b.tell()
	return true
}

// end lets a step go that is held, if one is. b.mu is held.
func (b *brake) end(kind BrakeKind, why string) {
	h := b.holds[kind]
	if h == nil {
		return
	}
	h.timer.Stop()
	delete(b.holds, kind)
	b.log.Info("what was removed at once stays no longer", "what", kind, "why", why)
	h.step.Held, h.step.Ended = false, true
	b.noticed(h.step)
	b.tell()
	if kind != BrakeEndpoints {
		return
	}
	b.earlier, b.lately = b.ready, b.ready
	for s, k := range b.services {
		if k.lost != nil {
			k.lost = nil
			b.release(s)
		}
	}
}

// expire ends a hold whose time is over.
func (b *brake) expire(kind BrakeKind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.holds[kind]; h == nil || time.Now().Before(h.until) {
		return
	}
	if kind == BrakeHosts {
		b.wake() // the table that is built then ends it
		return
	}
	b.end(kind, "the time is over")
}

// tell makes the Problems those of the steps that are held now. b.mu is held.
func (b *brake) tell() {
	var list []ingress.Problem
	for _, kind := range BrakeKinds() {
		if h := b.holds[kind]; h != nil {
			list = append(list, h.problem)
		}
	}
	b.told.Store(&list)
	b.changed()
}

// problems returns a Problem for each step that is held. The slice is read-only.
func (b *brake) problems() []ingress.Problem {
	if list := b.told.Load(); list != nil {
		return *list
	}
	return nil
}

// admits says whether next may replace live, which is nil before the first table. It is compared with what was live when the window began, because
// a relist is seen in parts. A host is removed, too, when it loses every Service that it had.
func (b *brake) admits(live, next *router.Table) bool {
	if live == nil || b.options.Percent == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	gone, of := removedHosts(b.tablesLately(live), next)
	hold := b.holds[BrakeHosts]
	switch {
	case hold == nil && !b.tooMuch(gone, of), gone == 0:
		// The first that are back must not end it for those that are about to be.
		b.end(BrakeHosts, "they are back")
		return !b.awaitsMore(live, next)
	case hold == nil && b.begin(BrakeStep{Kind: BrakeHosts, Removed: gone, Of: of}):
		return false
	case hold != nil && time.Now().Before(hold.until):
		return false
	}
	b.end(BrakeHosts, "the time is over")
	b.earlierTable, b.latelyTable = next, next
	return true
}

// awaitsMore says whether next, which has fewer hosts than live, waits for more of its step. b.mu is held.
func (b *brake) awaitsMore(live, next *router.Table) bool {
	fewer := 0
	if b.options.Hold > 0 {
		fewer, _ = removedHosts(live, next)
	}
	switch {
	case fewer == 0:
		b.waiting = nil
		return false
	case b.waiting != next:
		b.waiting = next
		b.hostStep.note()
	}
	left := b.hostStep.left()
	if left > 0 {
		time.AfterFunc(left, b.wake)
		return true
	}
	b.waiting = nil
	return false
}

// tablesLately returns what a step from live is compared with: the table at the beginning of the window. b.mu is held.
func (b *brake) tablesLately(live *router.Table) *router.Table {
	const half = brakeWindow / 2
	switch passed := time.Since(b.tableBegan); {
	case b.holds[BrakeHosts] != nil: // the step goes on
	case passed >= 2*half:
		b.earlierTable, b.latelyTable, b.tableBegan = live, live, time.Now()
	case passed >= half:
		b.earlierTable, b.latelyTable, b.tableBegan = b.latelyTable, live, b.tableBegan.Add(half)
	}
	return b.earlierTable
}

// removedHosts returns how many hosts of live are not served by next, and of how many. The latter is counted only where it matters.
func removedHosts(live, next *router.Table) (gone, of int) {
	names := map[string]struct{}{}
	for r := range live.RoutesNotIn(next) {
		if !hasService(r) {
			continue
		}
		if h, ok := next.Host(r.ID.Host); !ok || !slices.ContainsFunc(h.Routes(), hasService) {
			names[r.ID.Host] = struct{}{}
		}
	}
	if len(names) > brakeLeast {
		for h := range live.Hosts() {
			if slices.ContainsFunc(h.Routes(), hasService) {
				of++
			}
		}
	}
	return len(names), of
}

// hasService says whether a Service stands behind a Route. A Route that is closed has one: closing routes is never delayed.
func hasService(r *router.Route) bool {
	return slices.ContainsFunc(r.Backends, func(b router.Backend) bool {
		return b.Unavailable != router.ServiceNotFound && b.Unavailable != router.PortNotFound
	})
}
