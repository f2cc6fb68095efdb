package controllers

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// build runs one build of the given cost, and returns how long the pacer held it and how old its first event was.
func build(t *testing.T, p *pacer, cost time.Duration) (held, age time.Duration) {
	t.Helper()
	start := time.Now()
	if !p.await(t.Context()) {
		t.Fatal("nothing is pending")
	}
	held = time.Since(start)
	age = time.Since(p.begin())
	time.Sleep(cost)
	p.end(cost)
	return held, age
}

func TestPacerActsOnTheFirstEventAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		for range 3 {
			p.note()
			if held, age := build(t, &p, time.Millisecond); held != 0 || age != 0 {
				t.Errorf("held %v, event %v old, want at once", held, age)
			}
			time.Sleep(minHoldOff)
		}
		if p.await(t.Context()) {
			t.Error("nothing happened, and yet it is time to build")
		}
	})
}

func TestPacerHoldOff(t *testing.T) {
	tests := []struct {
		name   string
		cost   time.Duration   // of the build before
		events []time.Duration // after its end
		held   time.Duration   // from its end
	}{
		{"one event soon after", time.Millisecond, []time.Duration{5 * time.Millisecond}, 25 * time.Millisecond},
		{"a burst is awaited", time.Millisecond, []time.Duration{5 * time.Millisecond, 15 * time.Millisecond, 30 * time.Millisecond}, 50 * time.Millisecond},
		{"lasting churn is bounded", time.Millisecond, every(10*time.Millisecond, 30), 110 * time.Millisecond},
		{"a slow build has a longer window", 60 * time.Millisecond, []time.Duration{10 * time.Millisecond}, 70 * time.Millisecond},
		{"and the window is bounded", time.Second, []time.Duration{10 * time.Millisecond}, 110 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p pacer
				p.note()
				build(t, &p, tt.cost)
				end := time.Now()
				var events sync.WaitGroup
				events.Go(func() {
					for _, at := range tt.events {
						time.Sleep(time.Until(end.Add(at)))
						p.note()
					}
				})
				defer events.Wait()
				time.Sleep(tt.events[0])
				synctest.Wait()
				if !p.await(t.Context()) {
					t.Fatal("nothing is pending")
				}
				if held := time.Since(end); held != tt.held {
					t.Errorf("built %v after the last build, want %v", held, tt.held)
				}
			})
		})
	}
}

func every(d time.Duration, n int) []time.Duration {
	at := make([]time.Duration, n)
	for i := range at {
		at[i] = d * time.Duration(i+1)
	}
	return at
}

func TestPacerPausesAfterALongBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		p.note()
		if !p.await(t.Context()) {
			t.Fatal("nothing is pending")
		}
		p.begin()
		time.Sleep(10 * time.Millisecond)
		p.note() // during the build
		time.Sleep(490 * time.Millisecond)
		p.end(500 * time.Millisecond)
		if held, age := build(t, &p, 0); held != maxHoldOff || age != 590*time.Millisecond {
			t.Errorf("held %v with an event %v old, want a pause of %v", held, age, maxHoldOff)
		}
	})
}

func TestPacerRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		p.note()
		first := p.begin()
		time.Sleep(time.Second)
		p.restore(first)
		if _, age := build(t, &p, 0); age != time.Second {
			t.Errorf("the event is %v old, want 1s: its time got lost", age)
		}
	})
}

func TestPacerEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		p.note()
		build(t, &p, 0)
		p.note()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.await(ctx) {
			t.Error("a build began after the end")
		}
	})
}
