package main

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// contents is what a folder of manifests says.
type contents struct {
	snapshot  ingress.Snapshot
	addresses map[router.Service]map[string][]router.Address
	// problems are those of reading: files that do not parse, objects that are there twice.
	problems []ingress.Problem
	// locate returns a Problem of Build with the file and line of its object.
	locate func(ingress.Problem) ingress.Problem
}

// broken reports whether a file could not be read: objects may be missing that were there before.
func (c *contents) broken() bool {
	return slices.ContainsFunc(c.problems, func(p ingress.Problem) bool { return p.Reason == ingress.ManifestInvalid })
}

// plane is where a folder makes its Tables live: a front, or a test's fake.
type plane interface {
	Prepare(t *router.Table) []router.Service
	SetAddresses(s router.Service, byPort map[string][]router.Address)
	Publish(t *router.Table)
}

// folder makes what a folder of manifests says live, each time that load is called. load is for one goroutine; the other
// methods may be called concurrently.
type folder struct {
	read   func() (contents, error)
	build  func(ingress.Snapshot) (*router.Table, []ingress.Problem)
	plane  plane
	report *report
	// metrics may be nil; else bounds is told of each Table that they have.
	metrics *observe.Metrics
	bounds  *boundTeller

	live       scene
	addresses  map[router.Service]map[string][]router.Address
	built      []ingress.Problem // of the last Build that went live
	generation uint64

	mu       sync.Mutex
	problems []ingress.Problem
	synced   time.Time
}

// load reads the folder and publishes what it says, unless a file in it is broken and something is live already: then that
// stays until the file is mended. It reports what changed. since is when the change began that load answers to, zero for the
// first. The error says that the folder cannot be read at all.
func (d *folder) load(since time.Time) error {
	start := time.Now()
	first := d.generation == 0
	c, err := d.read()
	if err != nil {
		return err
	}
	if c.broken() && !first {
		d.report.problems(d.setProblems(slices.Concat(c.problems, d.built)))
		d.report.kept()
		return nil
	}
	table, found, err := d.compile(c.snapshot)
	if err != nil {
		return err
	}
	d.built = make([]ingress.Problem, len(found))
	for i := range found {
		d.built[i] = c.locate(found[i])
	}
	d.publish(table, c.addresses)
	before := d.live
	d.live = newScene(table, c.addresses)
	var eventToLive time.Duration
	if !since.IsZero() {
		eventToLive = time.Since(since)
	}
	if d.metrics != nil && table != before.table {
		d.metrics.Published(observe.Publication{
			Generation: d.generation, Routes: table.Len(), Certificates: hostsOf(table), Build: time.Since(start), EventToLive: eventToLive,
		})
		d.bounds.tell()
	}
	previous, problems := d.setProblems(slices.Concat(c.problems, d.built))
	d.mu.Lock()
	d.synced = start
	d.mu.Unlock()
	// What the first load found is part of the report of the start.
	if !first {
		d.report.changed(d.live.changesSince(before), table.Len(), eventToLive)
		d.report.problems(previous, problems)
	}
	return nil
}

// reload is load for what comes after the first.
func (d *folder) reload(since time.Time) {
	if err := d.load(since); err != nil {
		d.report.failed(fmt.Errorf("%w; what is live stays", err))
	}
}

// compile builds, and turns a panic into an error: the live Table stays.
func (d *folder) compile(s ingress.Snapshot) (t *router.Table, problems []ingress.Problem, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the table could not be built, the last one stays, this is a bug: %v\n%s", cause, debug.Stack())
		}
	}()
	t, problems = d.build(s)
	return t, problems, nil
}

// publish makes a Table live with the addresses of all its Services: new ones before it, so that no route answers 503 for
// want of addresses that are known, and those that changed with it.
func (d *folder) publish(t *router.Table, addresses map[router.Service]map[string][]router.Address) {
	set := map[router.Service]struct{}{}
	for _, s := range d.plane.Prepare(t) {
		set[s] = struct{}{}
	}
	for s := range maps.Keys(addresses) {
		if !reflect.DeepEqual(addresses[s], d.addresses[s]) {
			set[s] = struct{}{}
		}
	}
	for s := range maps.Keys(d.addresses) {
		if _, there := addresses[s]; !there {
			set[s] = struct{}{}
		}
	}
	for s := range set {
		d.plane.SetAddresses(s, addresses[s])
	}
	d.addresses = addresses
	if t != d.live.table || d.generation == 0 {
		d.plane.Publish(t)
		d.generation++
	}
}

// setProblems replaces the list, and returns the one before and the new one.
func (d *folder) setProblems(problems []ingress.Problem) (before, now []ingress.Problem) {
	d.mu.Lock()
	before = d.problems
	d.problems = problems
	d.mu.Unlock()
	if d.metrics != nil {
		showProblems(d.metrics, problems)
	}
	return before, problems
}

// current returns the Problems of the last load. The slice is shared and must not be changed.
func (d *folder) current() []ingress.Problem {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.problems
}

// lastSync is when what is live was last what the folder says.
func (d *folder) lastSync() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.synced
}

// ready returns nil once a Table is live.
func (d *folder) ready() error {
	if d.lastSync().IsZero() {
		return errors.New("the manifests have not been read yet")
	}
	return nil
}
