package upstream

import (
	"testing"
	"time"
)

func TestSlowStart(t *testing.T) {
	for _, a := range []Algorithm{RandomTwo, RoundRobin, LeastConnections, PeakEWMA} {
		inBubble(t, Options{SlowStart: 10 * time.Second}, 3, func(t bubble, p *Pool, _ *pipes) {
			v := p.View(ViewSpec{Algorithm: a})
			observe := func() {
				for _, e := range p.members.Load().inUse {
					v.Observe(e, time.Millisecond)
				}
			}
			observe()
			if got := spread(v, 300); got["u1"] != 100 || got["u2"] != 100 {
				t.Errorf("%v: the first endpoints of a pool start slowly: %v", a, got)
			}
			set(p.registry, pods(4)...)
			observe()
			share := func() int { return spread(v, 4000)["u4"] }
			if n := share(); n < 20 || n > 120 {
				t.Errorf("%v: %d of 1,000 at the start, want about 62", a, n)
			}
			time.Sleep(5 * time.Second)
			observe()
			if n := share(); n < 350 || n > 650 {
				t.Errorf("%v: %d of 1,000 half way", a, n)
			}
			time.Sleep(5 * time.Second)
			observe()
			if n := share(); n < 950 || n > 1050 {
				t.Errorf("%v: %d of 1,000 at the end", a, n)
			}
			if p.members.Load().rampUntil.Load() != 0 {
				t.Errorf("%v: the clock is still asked", a)
			}
			e := byUID(t, p, "u4")
			e.Failed(Refused)
			dial(t, e).Put()
			if n := share(); n > 120 {
				t.Errorf("%v: %d of 1,000 right after an ejection", a, n)
			}
		})
	}
}

func TestSlowStartUnderLoad(t *testing.T) {
	for _, a := range []Algorithm{RandomTwo, LeastConnections} {
		inBubble(t, Options{SlowStart: 100 * time.Second}, 2, func(t bubble, p *Pool, _ *pipes) {
			v := p.View(ViewSpec{Algorithm: a})
			hold := func(n int) {
				for range n {
					if err := v.Next(nil, nil).Reserve(); err != nil {
						t.Fatal(err)
					}
				}
			}
			hold(100)
			set(p.registry, pods(3)...)
			time.Sleep(25 * time.Second)
			hold(50)
			if n := byUID(t, p, "u3").InFlight(); n < 8 || n > 25 {
				t.Errorf("%v: %d of 150 requests are at an endpoint of weight 1/4", a, n)
			}
		})
	}
}
