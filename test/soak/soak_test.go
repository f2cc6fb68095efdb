package soak_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// duration is how long the load goes on.
var duration = flag.Duration("duration", 18*time.Second, "how long the load goes on")

func TestMain(m *testing.M) { os.Exit(serving.Main(m)) }

// The hosts. Clients of web must never notice anything; faulty's Pods reset connections as they are told to.
const (
	webHost    = "web.test"
	faultyHost = "faulty.test"
)

// podCount is how many Pods the Service web has at most, and podsLeft how many at least.
const (
	podCount = 6
	podsLeft = 2
)

// TestSoak is the whole of it.
func TestSoak(t *testing.T) {
	program := serving.Program
	if raceEnabled {
		program = serving.RaceProgram
	}
	pods := startPods(t, podCount)
	faulty := startPods(t, 2)
	p := serving.Start(t, serving.Options{
		Program: program(t), Dir: serving.Folder(t, map[string][]string{webHost: pods, faultyHost: faulty}),
		Args: []string{"--profiling", "--upstream-keepalive-timeout=2s", "--lingering-timeout=1s", "--proxy-body-size=0", "--fail-timeout=100ms"},
	})
	before := sampleOf(p)

	ctx, cancel := context.WithTimeout(t.Context(), *duration)
	defer cancel()
	s := &soak{t: t, address: p.HTTP, began: time.Now(), counts: map[string]int{}, failures: map[string]int{}}
	var running sync.WaitGroup
	for _, l := range loads {
		for i := range l.clients {
			running.Go(func() { s.run(ctx, l, fmt.Sprintf("%s.%d", strings.ReplaceAll(l.name, " ", "-"), i)) })
		}
	}
	running.Go(func() { s.churnEndpoints(ctx, p.Dir(), pods) })
	running.Go(func() { s.churnRoutes(ctx, p.Dir()) })
	samples := follow(ctx, p)
	running.Wait()
	p.Alive()

	t.Logf("%s of load: %s", *duration, s)
	if len(s.failures) > 0 {
		t.Errorf("failures: %v\n%s\n%s", s.failures, strings.Join(s.examples, "\n"), errorsOf(p))
	}
	for _, l := range loads {
		if s.counts[l.name] == 0 {
			t.Errorf("no exchange of kind %s was completed", l.name)
		}
	}
	judge(t, samples)
	settle(t, p, before)
}

// errorsOf is what the process counts of its own answers and of connections that it could not make.
func errorsOf(p *serving.Process) string {
	_, text, err := p.Page("/metrics")
	if err != nil {
		return err.Error()
	}
	var found []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "podlane_upstream_connect_errors_total") || strings.HasPrefix(line, "podlane_requests_rejected_total") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return strings.Join(found, "\n")
}

// soak is a load that runs.
type soak struct {
	t       *testing.T
	address string

	mu       sync.Mutex
	counts   map[string]int // exchanges by kind of load
	bytes    int64          // of bodies, both ways
	failures map[string]int
	examples []string
	began    time.Time
}

// maxExamples is how many failures are told of in full.
const maxExamples = 12

// run repeats a load's exchange until ctx ends. What has begun is ended.
func (s *soak) run(ctx context.Context, l loadKind, name string) {
	u := &user{name: name, address: s.address, random: rand.New(rand.NewPCG(uint64(len(name)), uint64(name[len(name)-1])))}
	defer u.close()
	for ctx.Err() == nil {
		n, err := l.exchange(u)
		s.note(l.name, n, err)
		select {
		case <-ctx.Done():
		case <-time.After(l.pause):
		}
	}
}

func (s *soak) note(kind string, n int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += n
	if err == nil {
		s.counts[kind]++
		return
	}
	s.failures[kind]++
	if len(s.examples) < maxExamples || s.failures[kind] == 1 {
		s.examples = append(s.examples, fmt.Sprintf("after %s, %s: %v", time.Since(s.began).Round(time.Millisecond), kind, err))
	}
}

// String lists what was done.
func (s *soak) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(s.counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", s.counts[kind], kind))
	}
	return strings.Join(parts, ", ") + fmt.Sprintf("; %d MiB of bodies", s.bytes>>20)
}

// churnEndpoints gives the Service web other endpoints several times a second. Pods that leave go on serving what they have, as Pods that
// end do for a while.
func (s *soak) churnEndpoints(ctx context.Context, dir string, pods []string) {
	random := rand.New(rand.NewPCG(1, 1))
	for every(ctx, 250*time.Millisecond) {
		some := slices.Clone(pods)
		random.Shuffle(len(some), func(i, k int) { some[i], some[k] = some[k], some[i] })
		serving.Write(s.t, dir, webHost, some[:podsLeft+random.IntN(len(some)-podsLeft+1)]...)
		s.note("endpoint changes", 0, nil)
	}
	serving.Write(s.t, dir, webHost, pods...)
}

// churnRoutes adds and removes routes to hosts that nobody asks for.
func (s *soak) churnRoutes(ctx context.Context, dir string) {
	const hosts = 20
	random, there := rand.New(rand.NewPCG(2, 2)), map[string]bool{}
	for every(ctx, 200*time.Millisecond) {
		host := fmt.Sprintf("extra-%d.test", random.IntN(hosts))
		if there[host] = !there[host]; there[host] {
			serving.Write(s.t, dir, host, "127.0.0.1:9")
		} else {
			serving.Remove(s.t, dir, host)
		}
		s.note("route changes", 0, nil)
	}
	for host := range there {
		if there[host] {
			serving.Remove(s.t, dir, host)
		}
	}
}

// every waits, and reports whether ctx goes on.
func every(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
