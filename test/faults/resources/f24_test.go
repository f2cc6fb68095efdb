package resources_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// F24: one Service is flooded while its Pod is slow. It holds half of what there is at most, further requests to it are turned away at
// once, and nobody else notices.
func TestF24HotTenant(t *testing.T) {
	noLeaks(t)
	const connections, flood = 400, 600
	release := make(chan struct{})
	hot := newPod(t, func(c *podConn) {
		if c.request() != nil {
			wanted(t, release)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			c.untilClosed()
		}
	})
	r := newRig(t, proxy.Options{MaxConnections: connections})
	r.route("hot.test", hot.addr)
	r.route("cold.test", plainPod(t, "cold").addr)

	quiet := visits(t, r, "quiet")
	hung := make(chan []*client, 1)
	var o outcome
	began := time.Now()
	var turnedAway atomic.Int64 // time in all that a 503 took, in ns
	go func() {
		hung <- crowd(flood, func() *client {
			at := time.Now()
			c := o.get(r.addr, "hot.test")
			if time.Since(began) < patience/2 {
				turnedAway.Add(int64(time.Since(at)))
			}
			return c
		})
	}()
	await(t, "the hot Service to have its share", func() bool { return hot.conns.Load() == connections/2 && o.of("503") == flood-connections/2 })
	mean := time.Duration(turnedAway.Load() / int64(flood-connections/2))
	busy := visits(t, r, "busy")
	t.Logf("F24: the hot Service holds %d of %d connections, %d requests were turned away after %s in the mean; others: quiet %s, busy %s",
		hot.conns.Load(), connections, o.of("503"), mean.Round(time.Millisecond), quantiles(quiet), quantiles(busy))
	// On a machine that does other things, a 99th percentile says little: its order of magnitude says whether others wait for the hot one,
	// which takes for ever.
	if ratio := float64(at(busy, 0.99)) / float64(max(at(quiet, 0.99), 20*time.Millisecond)); ratio > 25 {
		t.Errorf("others' p99 is %.1f times what it was", ratio)
	}
	close(release)
	closeAll(<-hung)
	o.onlyAnswers(t)
	if n := o.of("200"); n != connections/2 {
		t.Errorf("%d requests of the hot Service were answered, want %d", n, connections/2)
	}
}

// visits makes requests of another Service, on kept and on new connections, and returns how long they took. Each must be answered.
func visits(t *testing.T, r *rig, when string) []time.Duration {
	t.Helper()
	const visitors, each = 8, 100
	var mu sync.Mutex
	var times []time.Duration
	var all sync.WaitGroup
	for range visitors {
		all.Go(func() {
			c, err := tryDial(r.addr)
			for i := range each {
				began := time.Now()
				if i%10 == 0 && err == nil {
					c.Close()
					c, err = tryDial(r.addr)
				}
				status := 0
				if err == nil {
					c.send("GET / HTTP/1.1\r\nHost: cold.test\r\n\r\n")
					status, _, err = c.answer()
				}
				if status != http.StatusOK || err != nil {
					t.Errorf("%s: another Service's request: %d %v", when, status, err)
					return
				}
				mu.Lock()
				times = append(times, time.Since(began))
				mu.Unlock()
			}
			c.Close()
		})
	}
	all.Wait()
	return times
}
