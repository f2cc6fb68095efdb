package upstream

import (
	"testing"
	"time"
)

func TestRetryBudget(t *testing.T) {
	allowed := func(p *Pool, n int) (yes int) {
		for range n {
			if p.AllowRetry() {
				yes++
			}
		}
		return yes
	}
	inBubble(t, Options{}, 3, func(t bubble, p *Pool, _ *pipes) {
		if n := allowed(p, 100); n != 10 {
			t.Errorf("%d of 100 retries of an idle service", n)
		}
		time.Sleep(time.Second)
		if n := allowed(p, 100); n != 10 {
			t.Errorf("%d of 100 in the next second", n)
		}
		a, b := p.View(ViewSpec{}), p.View(ViewSpec{Algorithm: RoundRobin})
		spread(a, 600)
		spread(b, 400)
		if n := allowed(p, 500); n != 190 {
			t.Errorf("%d more retries of 1,000 requests in this second", n)
		}
		b.Release() // what it counted is not lost
		time.Sleep(2 * time.Second)
		if n := allowed(p, 500); n != 100 {
			t.Errorf("%d retries after 1,000 requests in two seconds", n)
		}
		// Further attempts are not requests.
		time.Sleep(time.Second)
		allowed(p, 1)
		var tried Tried
		tried.Add(byUID(t, p, "u1"))
		for range 1000 {
			a.Next(nil, &tried)
		}
		if n := allowed(p, 500); n != 9 {
			t.Errorf("%d retries: attempts count as requests", n)
		}
	})
	inBubble(t, Options{RetryPercent: -1, RetriesPerSecond: -1}, 1, func(t bubble, p *Pool, _ *pipes) {
		spread(p.View(ViewSpec{}), 1000)
		if n := allowed(p, 100); n != 0 {
			t.Errorf("%d retries without a budget", n)
		}
	})
}

func TestRetryBudgetIsTheServices(t *testing.T) {
	inBubble(t, Options{}, 1, func(t bubble, p *Pool, _ *pipes) {
		other := web
		other.Port = "admin"
		q, _ := p.registry.Ensure(other)
		spread(p.View(ViewSpec{}), 100)
		n := 0
		for range 50 {
			if q.AllowRetry() {
				n++
			}
		}
		if n != 20 {
			t.Errorf("%d retries of 100 requests to the other port", n)
		}
	})
}
