package floods_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"podlane.dev/podlane/proxy"
)

// attack is what one attacker does, again and again on connections of its own.
type attack struct {
	// settings are what it begins with.
	settings []http2.Setting
	// deaf says that it reads nothing.
	deaf bool
	// connections are attacking at the same time; 1 where it is 0.
	connections int
	// once says that each of them attacks once, because what it does takes its time.
	once bool
	// step is what is done again and again: until writing fails, in every second round only so often that what the proxy discards at the end
	// has room for it. Then the end is waited for.
	step func(c *raw) error
	// few is how often that is; 1500 where it is 0.
	few int
	// code is what the attacker has to be told at the end. One who goes on writing need not be told.
	code string
	// options are those of the engine, for what takes a minute by default.
	options proxy.Options
}

const (
	// maxGrowth is what an attack may cost in memory, and maxLife how long its connection may live: the design says 5 s, which tests print, and
	// give a machine with other work three times as long.
	maxGrowth = 64 << 20
	maxLife   = 15 * time.Second
	// factor is how much slower the other client may become, in the worst hundredth, before a test fails: the design says twice, and the tests
	// leave room for a machine with other work. For the same reason what is below a floor is as good as the floor.
	factor = 5
	floor  = 50 * time.Millisecond
	// rounds are how often an attacker comes back, and tries how often a test that failed by its times is made again.
	rounds = 20
	tries  = 3
	// few and plenty are how often an attacker does what it does.
	few    = 1500
	plenty = 20_000
)

// outcome is what an attack did.
type outcome struct {
	before, during []time.Duration
	growth         int64
	lived          time.Duration // the longest
	codes          map[string]int
	connections    int
	untold         map[string]int // ends of those who stopped to listen, other than by the code
}

func (o *outcome) String() string {
	return fmt.Sprintf("p99 %s before (%d requests), %s during (%d); heap grew by %d KiB; %d connections, none longer than %s; ended by %s",
		at(o.before, 0.99).Round(time.Microsecond), len(o.before), at(o.during, 0.99).Round(time.Microsecond), len(o.during),
		o.growth>>10, o.connections, o.lived.Round(time.Millisecond), words(o.codes))
}

// slow reports whether the other client was slower than it may be.
func (o *outcome) slow() bool { return at(o.during, 0.99) > factor*max(at(o.before, 0.99), floor) }

// withstand attacks an engine of its own, and judges what came of it.
func withstand(t *testing.T, a attack) *rig {
	t.Helper()
	r := newRig(t, a.options)
	c := r.other()
	for try := 1; ; try++ {
		o := r.suffer(c, a)
		t.Logf("%s", o)
		if o.growth > maxGrowth {
			t.Errorf("memory grew by %d bytes, more than %d", o.growth, maxGrowth)
		}
		if len(o.untold) > 0 || o.codes[stillOpen] > 0 {
			t.Errorf("%d connections ended by %s; of those that stopped to listen by %s; want %s", o.connections, words(o.codes), words(o.untold), a.code)
		}
		if !o.slow() || t.Failed() {
			break
		}
		if try == tries {
			t.Errorf("in %d tries: the other client's p99 was %s and became %s", tries, at(o.before, 0.99), at(o.during, 0.99))
			break
		}
	}
	await(t, "no request to be left at the Pod", func() bool { return r.pod.hanging.Load() == 0 })
	return r
}

// suffer makes one attack beside the other client.
func (r *rig) suffer(c *other, a attack) *outcome {
	r.t.Helper()
	none := make(chan struct{})
	close(none)
	o := &outcome{before: c.measure(none), codes: map[string]int{}, untold: map[string]int{}}
	held := heapInUse()
	n := max(a.connections, 1)
	results := make(chan *raw, n*rounds)
	ended := make(chan struct{})
	over := make(chan struct{}, n)
	for range n {
		go func() {
			defer func() { over <- struct{}{} }()
			for round := range rounds {
				dial := r.dial
				if a.deaf {
					dial = r.dialDeaf
				}
				conn, err := dial(a.settings...)
				if err != nil {
					r.t.Errorf("the attacker does not even get in: %v", err)
					return
				}
				conn.listens = round%2 == 0
				steps := plenty
				if conn.listens {
					steps = cmp.Or(a.few, few)
				}
				for range steps {
					if a.step(conn) != nil { // the engine has had enough
						break
					}
				}
				_ = conn.flush()
				if a.deaf {
					conn.outlast(r)
				}
				<-conn.ended
				conn.tc.NetConn().Close()
				results <- conn
				if a.once || conn.code == stillOpen { // its reader has ended
					return
				}
			}
		}()
	}
	grown := make(chan int64, 1)
	go func() {
		var most int64
		for left := n; left > 0; {
			select {
			case <-over:
				left--
			case <-time.After(500 * time.Millisecond):
				most = max(most, heapInUse()-held)
			}
		}
		close(results)
		grown <- max(most, heapInUse()-held)
		close(ended)
	}()
	o.during = c.measure(ended)
	<-ended
	o.growth = <-grown
	for conn := range results {
		conn.mu.Lock()
		o.connections++
		o.codes[conn.code]++
		if conn.listens && a.code != "" && conn.code != a.code {
			o.untold[conn.code]++
		}
		o.lived = max(o.lived, conn.lived)
		conn.mu.Unlock()
	}
	return o
}
