package soak_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// sample is what the process holds at one moment, after garbage was collected.
type sample struct {
	heap, resident, goroutines, descriptors float64
}

func sampleOf(p *serving.Process) sample {
	p.Collect()
	return sample{
		heap: p.Metric("go_memstats_heap_inuse_bytes"), resident: float64(p.Resident()),
		goroutines: p.Metric("go_goroutines"), descriptors: float64(p.Descriptors()),
	}
}

func (s sample) String() string {
	return fmt.Sprintf("heap %.1f MiB, resident %.1f MiB, %.0f goroutines, %.0f files", s.heap/(1<<20), s.resident/(1<<20), s.goroutines, s.descriptors)
}

// samplesWanted is about how many samples a run takes.
const samplesWanted = 36

// follow samples the process until ctx ends.
func follow(ctx context.Context, p *serving.Process) []sample {
	var all []sample
	for every(ctx, max(*duration/samplesWanted, 100*time.Millisecond)) {
		all = append(all, sampleOf(p))
	}
	return all
}

// mean of some samples.
func mean(all []sample) sample {
	var m sample
	n := float64(len(all))
	for _, s := range all {
		m.heap += s.heap / n
		m.resident += s.resident / n
		m.goroutines += s.goroutines / n
		m.descriptors += s.descriptors / n
	}
	return m
}

// judge compares the last third of the samples with the middle one: what leaks grows, and what the load needs has been there by then.
// The room is for a load that is random.
func judge(t *testing.T, all []sample) {
	t.Helper()
	if len(all) < 6 {
		t.Fatalf("only %d samples", len(all))
	}
	third := len(all) / 3
	middle, last := mean(all[third:2*third]), mean(all[2*third:])
	t.Logf("first third:  %s", mean(all[:third]))
	t.Logf("middle third: %s", middle)
	t.Logf("last third:   %s", last)
	for _, c := range []struct {
		what              string
		middle, last      float64
		room              float64
		meaninglessOnRace bool
	}{
		{"heap", middle.heap, last.heap, 4 << 20, false},
		{"resident memory", middle.resident, last.resident, 8 << 20, true},
		{"goroutines", middle.goroutines, last.goroutines, 50, false},
		{"descriptors", middle.descriptors, last.descriptors, 50, false},
	} {
		if c.meaninglessOnRace && raceEnabled {
			continue // the detector's own memory grows with what was ever touched
		}
		if c.last > c.middle*1.25+c.room {
			t.Errorf("%s grew from %.0f in the middle third to %.0f in the last", c.what, c.middle, c.last)
		}
	}
}

// settle waits until the process has as many goroutines and files as before the load.
func settle(t *testing.T, p *serving.Process, before sample) {
	t.Helper()
	var after sample
	began := time.Now()
	for after = sampleOf(p); after.goroutines > before.goroutines || after.descriptors > before.descriptors; after = sampleOf(p) {
		if time.Since(began) > time.Minute {
			_, stacks, err := p.Page("/debug/pprof/goroutine?debug=1")
			t.Fatalf("left behind: %s; before the load: %s\n%s %v", after, before, strings.TrimSpace(stacks), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("before: %s; %s after the load: %s", before, time.Since(began).Round(100*time.Millisecond), after)
}
