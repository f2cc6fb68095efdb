// Package load sends requests to a proxy and checks every answer: its status, its length, and that it belongs to its request.
// It is as cheap as it can be (see loop), measures latency from the moment a request was due, and knows nothing of the
// proxies. It owns the clients' half of the benchmark; who listens is its caller's business.
package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"podlane.dev/podlane/test/bench/loop"
	"podlane.dev/podlane/test/bench/measure"
	"podlane.dev/podlane/test/bench/secure"
)

// A Plan is one load.
type Plan struct {
	// Address is the proxy's.
	Address netip.AddrPort
	// Sources are the clients' addresses, used in turn; at least one.
	Sources []netip.Addr
	// Connections are open at a time.
	Connections int
	// Rate is the requests to be sent a second, at random moments (a Poisson process), whether or not earlier ones
	// were answered. 0 sends the next one on a connection when its answer has come.
	Rate float64
	// Seed makes the moments of a Rate the same in every run.
	Seed uint64
	// Message is what is said on each connection.
	Message Message
	// Secure, where it is set, puts TLS under every connection.
	Secure *secure.Client
	// Streams, where it is above 0, makes it HTTP/2 with so many requests at a time on every connection. There is then neither a Rate nor
	// Fresh, and the message has no body.
	Streams int
	// Fresh makes each request on a connection of its own. The message has to ask for the close.
	Fresh bool
	// Warmup goes before Duration, and is not counted.
	Warmup, Duration time.Duration
	// Patience is how long answers may take after the duration has ended; 0 is 3 seconds.
	Patience time.Duration
	// Begin and End are called when what is counted begins and ends, while the load goes on.
	Begin, End func() error
}

// A Result is what a load saw.
type Result struct {
	// Answers came within the duration, whole and right.
	Answers uint64
	// Total is all answers, from the first request of the warm-up on.
	Total uint64
	// Elapsed is the time between Begin and End.
	Elapsed time.Duration
	// Latency is that of every request that was due within the duration: from when it was due, or, where there is no
	// rate, sent. Requests that were never answered are in it with their age at the end.
	Latency measure.Histogram
	// Unanswered requests were due and had no answer when the load ended: with a rate, more than the proxy can do.
	Unanswered uint64
	// Errors are all failures, from the first request of the warm-up on.
	Errors Errors
}

// Errors are counts of failures by kind.
type Errors struct {
	Connect uint64 `json:"connect,omitempty"` // a connection did not come about
	Closed  uint64 `json:"closed,omitempty"`  // it ended where an answer was due
	Status  uint64 `json:"status,omitempty"`  // another status than expected
	Length  uint64 `json:"length,omitempty"`  // another length than expected, or no valid framing
	Mixed   uint64 `json:"mixed,omitempty"`   // the answer of another request
	Late    uint64 `json:"late,omitempty"`    // no answer within the patience after the end, without a rate
	// First describes the first one.
	First string `json:"first,omitempty"`
}

// Sum is the count of all failures.
func (e Errors) Sum() uint64 {
	return e.Connect + e.Closed + e.Status + e.Length + e.Mixed + e.Late
}

// Add returns the sum of both, with the first description of one.
func (e Errors) Add(f Errors) Errors {
	return Errors{
		Connect: e.Connect + f.Connect, Closed: e.Closed + f.Closed, Status: e.Status + f.Status, Length: e.Length + f.Length,
		Mixed: e.Mixed + f.Mixed, Late: e.Late + f.Late, First: cmp.Or(e.First, f.First),
	}
}

// patience is what a Plan has that says none.
const patience = 3 * time.Second

// maxErrors ends a load that makes no sense.
const maxErrors = 10000

// clock is the generator's time: since it began.
type clock struct{ began time.Time }

func (c clock) now() time.Duration { return time.Since(c.began) }

// phase is what a load does.
type phase int

const (
	opening  phase = iota // connections are made, and what opens their dialogue is said
	warming               // requests are sent and not counted
	holding               // nothing is sent
	counting              // requests are sent and counted
	draining              // answers are waited for
)

// client is one connection of a load, with all that follow it.
type client interface {
	// connect begins a connection.
	connect()
	// begin sends the first requests of a load without a rate.
	begin()
	// overdue calls f for each request that has no answer, with when it was due.
	overdue(f func(due time.Duration))
	// close ends the connection.
	close()
}

// generator is one load that runs.
type generator struct {
	ctx     context.Context // asked at every turn
	plan    Plan
	loop    *loop.Loop
	clock   clock
	scratch []byte
	clients []client
	conns   []*conn // those of clients that have one request at a time
	block   *block  // the message in HTTP/2
	phase   phase
	follow  bool // an answer is followed by the next request
	keep    bool // a connection that ends is an error, even where nothing is due
	opened  int  // connections that are ready for the first request
	busy    int  // requests that are due and not answered
	id      uint32
	random  *rand.Rand
	due     time.Duration // the next arrival of a rate
	turn    int           // the connection that it goes to
	began   time.Duration // of counting
	result  *Result
}

// Run makes a load on a loop, which does nothing else for itself meanwhile. Failures of requests are counted in the Result; the error
// is one of the load itself, or that ctx has ended.
func Run(ctx context.Context, l *loop.Loop, plan Plan) (*Result, error) {
	g := newGenerator(ctx, l, plan)
	err := l.Do(func() error {
		defer g.stop()
		if err := g.prepare(); err != nil {
			return err
		}
		if err := g.open(); err != nil {
			return err
		}
		g.begin()
		if err := g.pass(warming, plan.Warmup); err != nil {
			return err
		}
		if err := g.watched(counting); err != nil {
			return err
		}
		return g.drain()
	})
	return g.result, err
}

func newGenerator(ctx context.Context, l *loop.Loop, plan Plan) *generator {
	return &generator{
		ctx: ctx, plan: plan, loop: l, clock: clock{time.Now()}, scratch: make([]byte, 256<<10), result: &Result{},
		random: rand.New(rand.NewPCG(plan.Seed, 1)),
	}
}

// prepare makes of the message what HTTP/2 sends.
func (g *generator) prepare() (err error) {
	if g.plan.Streams > 0 {
		g.block, err = newBlock(&g.plan.Message)
	}
	return err
}

// stop closes all connections.
func (g *generator) stop() {
	for _, c := range g.clients {
		c.close()
	}
}

// opens is how long all connections may take to come about: ten thousand with TLS, on a busy machine.
const opens = time.Minute

// connecting is how many connections may be in the making at a time: fewer than the shortest listen queue.
const connecting = 64

// open makes all connections, each of which says what opens its dialogue.
func (g *generator) open() error {
	deadline := g.clock.now() + opens
	for g.opened < g.plan.Connections {
		for len(g.clients) < g.plan.Connections && len(g.clients)-g.opened+g.busy < connecting {
			g.add().connect()
		}
		if err := g.turnOver(10 * time.Millisecond); err != nil {
			return err
		}
		if g.clock.now() > deadline {
			return fmt.Errorf("%d of %d connections came about in %v; %s", g.opened, g.plan.Connections, opens, g.result.Errors.First)
		}
	}
	return nil
}

// add makes one more client.
func (g *generator) add() client {
	if g.plan.Streams > 0 {
		g.clients = append(g.clients, newMulti(g, len(g.clients)))
	} else {
		c := newConn(g, len(g.conns))
		g.conns = append(g.conns, c)
		g.clients = append(g.clients, c)
	}
	return g.clients[len(g.clients)-1]
}

// begin sends the first requests, or says when the first one of a rate is due.
func (g *generator) begin() {
	g.phase, g.due, g.follow = warming, g.clock.now(), g.plan.Rate == 0
	if !g.follow {
		return
	}
	for _, c := range g.clients {
		c.begin()
	}
}

// spin is how near the next request of a rate has to be for the loop to look for answers meanwhile, instead of sleeping: a timer and
// a wake-up cost several microseconds, more than most requests have between them, and latencies would be those of the load.
const spin = 100 * time.Microsecond

// pass spends a duration in a phase.
func (g *generator) pass(p phase, length time.Duration) error {
	g.phase = p
	end := g.clock.now() + length
	for now := g.clock.now(); now < end; now = g.clock.now() {
		limit := end - now
		if g.plan.Rate > 0 {
			g.arrive(now)
			limit = min(limit, g.due-g.clock.now())
			if limit < spin {
				limit = 0
			}
		}
		if err := g.turnOver(limit); err != nil {
			return err
		}
	}
	if g.plan.Rate > 0 {
		g.arrive(end) // what became due since the last turn is due all the same
	}
	return nil
}

// watched spends the plan's duration in a phase that the caller is told of.
func (g *generator) watched(p phase) error {
	if err := g.plan.Begin(); err != nil {
		return err
	}
	g.began = g.clock.now()
	err := g.pass(p, g.plan.Duration)
	g.result.Elapsed = g.clock.now() - g.began
	return errors.Join(err, g.plan.End())
}

// drain waits for the answers that are still due.
func (g *generator) drain() error {
	g.phase = draining
	end := g.clock.now() + cmp.Or(g.plan.Patience, patience)
	for g.busy > 0 && g.clock.now() < end {
		if err := g.turnOver(10 * time.Millisecond); err != nil {
			return err
		}
	}
	for _, c := range g.clients {
		c.overdue(g.unanswered)
	}
	return nil
}

// unanswered counts a request that was due and has no answer.
func (g *generator) unanswered(due time.Duration) {
	if g.plan.Rate == 0 {
		g.fail(&g.result.Errors.Late, errors.New("no answer"))
		return
	}
	if due >= g.began {
		g.result.Unanswered++
		g.result.Latency.Record(g.clock.now() - due)
	}
}

// arrive hands out the requests of a rate that have become due.
func (g *generator) arrive(now time.Duration) {
	for ; g.due <= now; g.due += time.Duration(g.random.ExpFloat64() / g.plan.Rate * float64(time.Second)) {
		c := g.conns[g.turn]
		g.turn = (g.turn + 1) % len(g.conns)
		if !c.idle() {
			g.busy++
			c.waiting = append(c.waiting, g.due)
			continue
		}
		c.ask(g.due)
	}
}

// turnOver waits once, and ends a load of which nothing comes.
func (g *generator) turnOver(limit time.Duration) error {
	if err := g.loop.Turn(limit); err != nil {
		return err
	}
	if n := g.result.Errors.Sum(); n > maxErrors {
		return fmt.Errorf("%d errors: %s", n, g.result.Errors.First)
	}
	return g.ctx.Err()
}

// fail counts an error.
func (g *generator) fail(kind *uint64, err error) {
	*kind++
	if g.result.Errors.First == "" {
		g.result.Errors.First = err.Error()
	}
}

// answered counts an answer that has come whole.
func (g *generator) answered(due time.Duration) {
	g.result.Total++
	if g.phase == counting {
		g.result.Answers++
	}
	if g.phase >= counting && due >= g.began {
		g.result.Latency.Record(g.clock.now() - due)
	}
}
