package floods_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"time"
)

const (
	// maxLife is how long an attacker's connection may live, maxGrowth what it may cost in memory, and factor how much slower the other
	// client may become in the worst hundredth.
	maxLife   = 5 * time.Second
	maxGrowth = 64 << 20
	factor    = 2
	// floor is a p99 as good as any below it.
	floor = 2 * time.Millisecond
	// tries is how often a test that failed by its times is made again: what is wrong with the engine is so every time.
	tries = 5
)

// outlived is when an attacker gives up.
func outlived() time.Duration {
	if raceEnabled {
		return patience / 2
	}
	return 2 * maxLife
}

// outcome is what an attack did.
type outcome struct {
	before, during times
	growth         int64
	report
}

func (o *outcome) String() string {
	return fmt.Sprintf("p99 %s before, %s during: %.2f (median %s and %s, max %s and %s, %d and %d requests); memory grew by %d KiB; %d connections, closed within %s, by %s",
		micro(o.before.P99), micro(o.during.P99), float64(o.during.P99)/float64(o.before.P99), micro(o.before.Half), micro(o.during.Half),
		micro(o.before.Max), micro(o.during.Max), o.before.N, o.during.N, o.growth>>10, o.Connections, o.Lived.Round(time.Millisecond), words(o.Codes))
}

func micro(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

// late says what took longer than it may, "" where nothing did. What an engine with the race detector in it takes, of time and of memory, is
// the detector's.
func (o *outcome) late() string {
	switch {
	case o.Codes[stillOpen] > 0:
		return "nobody closed the connection"
	case raceEnabled:
		return ""
	case o.during.P99 > factor*max(o.before.P99, floor):
		return fmt.Sprintf("the other client's p99 was %s and became %s", micro(o.before.P99), micro(o.during.P99))
	case o.Lived > maxLife:
		return fmt.Sprintf("a connection lived %s", o.Lived)
	}
	return ""
}

// withstand attacks an engine of its own, and judges what came of it. In the attacker's process it attacks.
func withstand(t *testing.T, a attack) *rig {
	t.Helper()
	if os.Getenv(roleEnv) == roleAttacker {
		a.serveAttacker(t)
		t.SkipNow()
	}
	urge(t)
	r := newRig(t, a.options)
	c, enemy := r.other(), r.attacker()
	start(t, roleBallast, "")
	for try := 1; ; try++ {
		o := r.suffer(c, enemy)
		t.Logf("%s", o)
		if o.Failed != "" {
			t.Errorf("attack: %s", o.Failed)
		}
		if !raceEnabled && o.growth > maxGrowth {
			t.Errorf("memory grew by %d bytes, more than %d", o.growth, maxGrowth)
		}
		if len(o.Untold) > 0 {
			t.Errorf("those that stopped to listen ended by %s; want %s", words(o.Untold), a.code)
		}
		late := o.late()
		if late == "" || t.Failed() {
			break
		}
		if try == tries {
			t.Errorf("in %d tries: %s", tries, late)
			break
		}
	}
	await(t, "no request to be left at the Pod", func() bool { return r.pod.count().Hanging == 0 })
	return r
}

// suffer makes one attack beside the other client.
func (r *rig) suffer(c *other, enemy *program) *outcome {
	r.t.Helper()
	o := new(outcome)
	debug.FreeOSMemory()
	c.measure(span / 4) // what was given back is wanted again
	o.before = c.measure(span)
	held := forgetPeak(r.t)
	c.begin()
	enemy.ask("attack", &o.report)
	o.during = c.end()
	o.growth = memory(r.t, "VmHWM:") - held
	return o
}

// forgetPeak makes the kernel count the peak of this process's memory anew, and returns what it holds now.
func forgetPeak(t *testing.T) int64 {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return memory(t, "VmRSS:")
}

// memory is a line of what the kernel says of this process's memory.
func memory(t *testing.T, name string) (n int64) {
	t.Helper()
	all, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(all, []byte("\n"+name))
	if _, err := fmt.Sscan(string(rest), &n); err != nil {
		t.Fatal(err)
	}
	return n << 10
}
