package floods_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
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
	// rekeys says that it sends under keys of its own, which it can change.
	rekeys bool
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
	// span is how long attackers come back, who are ended at once.
	span = time.Second
	// few and plenty are how often an attacker does what it does.
	few    = 1500
	plenty = 20_000
)

// report is what an attacker says of its attack.
type report struct {
	Connections int
	Codes       map[string]int // how they were ended
	Untold      map[string]int // ends of those who stopped to listen, other than by the code
	Lived       time.Duration  // the longest, from its first frame to its end
	Failed      string         // what the attacker could not do
}

// serveAttacker is the attacker's process: the test, in its role.
func (a *attack) serveAttacker(t *testing.T) {
	t.Helper()
	obey(map[string]func() any{"attack": func() any { return a.run(t.Context(), os.Getenv(addrEnv)) }})
}

// run attacks.
func (a *attack) run(ctx context.Context, addr string) *report {
	o := &report{Codes: map[string]int{}, Untold: map[string]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	end := time.Now().Add(span)
	for range max(a.connections, 1) {
		all.Go(func() {
			for round := 0; ; round++ {
				conn, err := a.strike(ctx, addr, round)
				mu.Lock()
				if err != nil {
					o.Failed = err.Error()
				} else {
					o.add(a, conn)
				}
				mu.Unlock()
				if err != nil || a.once || conn.code == stillOpen || time.Now().After(end) {
					return
				}
			}
		})
	}
	all.Wait()
	return o
}

// strike is the attack on one connection, to its end. In every second round it stops to listen.
func (a *attack) strike(ctx context.Context, addr string, round int) (*raw, error) {
	to := caller{addr, a.rekeys}
	dial := to.dial
	if a.deaf {
		dial = to.dialDeaf
	}
	conn, err := dial(ctx, a.settings...)
	if err != nil {
		return nil, fmt.Errorf("the attacker does not even get in: %w", err)
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
		conn.outlast()
	}
	<-conn.ended
	return conn, conn.tc.NetConn().Close()
}

// add counts a connection that has ended.
func (o *report) add(a *attack, c *raw) {
	o.Connections++
	o.Codes[c.code]++
	if c.listens && a.code != "" && c.code != a.code {
		o.Untold[c.code]++
	}
	o.Lived = max(o.Lived, c.lived)
}

// attacker starts the process that makes this test's attack.
func (r *rig) attacker() *program {
	r.t.Helper()
	parts := strings.Split(r.t.Name(), "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return start(r.t, roleAttacker, r.addr, "-test.run="+strings.Join(parts, "/"))
}
