package controllers

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// tableRequest is the one request that every kind but endpoints maps to.
type tableRequest struct{}

// publisher is the reconciler that builds and publishes the Table. One worker runs it, on every replica.
type publisher struct {
	mirror    *mirror
	addresses *addresses
	links     *links
	build     BuildFunc
	plane     DataPlane
	observer  Observer
	log       logr.Logger
	// problemsChanged is called whenever the list of Problems differs.
	problemsChanged func()
	brake           *brake

	feed   feed[tableRequest]
	pacer  pacer
	last   *router.Table // what Build returned last
	failed atomic.Bool   // the last Build panicked

	generation atomic.Uint64
	// turn wakes the table when certificates begin or cease to be valid, which is a reason for other Problems.
	turn  *time.Timer
	first chan struct{} // closed by the first Publish
	live  atomic.Pointer[publication]

	mu       sync.Mutex
	problems []ingress.Problem // replaced, never changed
}

// wake records that something the table depends on changed.
func (p *publisher) wake() {
	p.pacer.note()
	p.feed.add(tableRequest{})
}

// Reconcile implements reconcile.TypedReconciler.
func (p *publisher) Reconcile(ctx context.Context, _ tableRequest) (reconcile.Result, error) {
	if !p.pacer.await(ctx) {
		return reconcile.Result{}, nil
	}
	if err := p.links.settle(ctx); err != nil {
		return reconcile.Result{}, err
	}
	first := p.pacer.begin()
	start := time.Now()
	done := false
	defer func() {
		if !done {
			p.pacer.restore(first)
		}
	}()
	if err := p.publish(ctx, first); err != nil {
		return reconcile.Result{}, err
	}
	done = true
	p.pacer.end(time.Since(start))
	return reconcile.Result{}, nil
}

// publish builds a Table from what the mirror holds and makes it live, unless Build panics or nothing changed.
func (p *publisher) publish(ctx context.Context, firstEvent time.Time) error {
	budget := laterFetchBudget
	if p.generation.Load() == 0 {
		budget = firstFetchBudget
	}
	snapshot, err := p.mirror.snapshot(ctx, budget)
	if err != nil {
		return err
	}
	start := time.Now()
	table, problems, err := p.compile(snapshot)
	if err != nil {
		// The same objects would panic again: only another event is a reason to try again.
		p.log.Error(err, "the table could not be built, the last one stays")
		return nil
	}
	cost := time.Since(start)
	p.setProblems(problems)
	p.lookAgain(table)
	if !p.brake.admits(p.last, table) {
		return nil
	}
	if table == p.last {
		p.live.Store(&publication{p.generation.Load(), table, snapshot, problems})
		return nil
	}
	p.brake.follow(table)
	p.addresses.live.Store(true)
	for _, s := range p.plane.Prepare(table) {
		p.addresses.refresh(s)
	}
	p.plane.Publish(table)
	p.last = table
	generation := p.generation.Add(1)
	p.live.Store(&publication{generation, table, snapshot, problems})
	if generation == 1 {
		close(p.first)
	}
	if p.observer.OnPublish != nil {
		p.observer.OnPublish(generation, cost, time.Since(firstEvent))
	}
	return nil
}

// lookAgain has the table built again when what is to be said about its certificates changes by itself.
func (p *publisher) lookAgain(table *router.Table) {
	in := table.CertificatesStand(time.Now())
	if p.turn == nil {
		p.turn = time.AfterFunc(in, p.wake)
		return
	}
	p.turn.Reset(in)
}

// compile calls Build and turns a panic into an error.
func (p *publisher) compile(s ingress.Snapshot) (table *router.Table, problems []ingress.Problem, err error) {
	defer func() {
		cause := recover()
		p.failed.Store(cause != nil)
		if cause == nil {
			return
		}
		err = fmt.Errorf("build panicked: %v\n%s", cause, debug.Stack())
		if p.observer.OnBuildPanic != nil {
			p.observer.OnBuildPanic(cause)
		}
	}()
	table, problems = p.build(s)
	p.mirror.remember()
	return table, problems, nil
}

// setProblems replaces the list and tells whoever counts them if it differs, in whatever order Build found them.
func (p *publisher) setProblems(problems []ingress.Problem) {
	p.mu.Lock()
	same := sameProblems(p.problems, problems) && p.generation.Load() > 0
	p.problems = problems
	p.mu.Unlock()
	if !same {
		p.tellProblems()
	}
}

// tellProblems tells whoever counts Problems that they differ.
func (p *publisher) tellProblems() {
	if p.observer.OnProblems != nil {
		p.observer.OnProblems(p.current())
	}
	p.problemsChanged()
}

// sameProblems compares two lists as sets.
func sameProblems(a, b []ingress.Problem) bool {
	if slices.Equal(a, b) {
		return true
	}
	if len(a) != len(b) {
		return false
	}
	count := make(map[ingress.Problem]int, len(a))
	for _, p := range a {
		count[p]++
	}
	for _, p := range b {
		if count[p]--; count[p] < 0 {
			return false
		}
	}
	return true
}

// current returns the Problems of the last Build, and of what the brake holds. The slice is shared and read-only.
func (p *publisher) current() []ingress.Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held := p.brake.problems(); len(held) > 0 {
		return slices.Concat(held, p.problems)
	}
	return p.problems
}

// ready returns nil once a complete Table is live, else what it waits for. It never turns back.
func (p *publisher) ready() error {
	select {
	case <-p.first:
		return nil
	default:
	}
	if missing := p.mirror.missing(); missing != "" {
		return fmt.Errorf("the first list of objects is not complete: %s", missing)
	}
	if p.failed.Load() {
		return errors.New("the first table could not be built")
	}
	return errors.New("the first table is being built")
}
