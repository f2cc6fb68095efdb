package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"podlane.dev/podlane/test/bench/loop"
)

// Hold opens the plan's connections, each of which has one request answered, and leaves them idle for the duration: plan.Begin is
// called when that begins, plan.End when it ends. Then each has one more request answered, so that the idle ones are known to
// have lived; these are the Answers. A connection that the proxy closed is an error. Rate and Warmup have no meaning here.
func Hold(ctx context.Context, l *loop.Loop, plan Plan) (*Result, error) {
	g := newGenerator(ctx, l, plan)
	g.keep = true
	err := l.Do(func() error {
		defer g.stop()
		if err := g.open(); err != nil {
			return err
		}
		if err := g.askAll(warming); err != nil {
			return err
		}
		if err := g.watched(holding); err != nil {
			return err
		}
		if err := g.askAll(counting); err != nil {
			return err
		}
		return g.drain()
	})
	return g.result, err
}

// askAll sends one request on every connection, some at a time, and waits for the answers.
func (g *generator) askAll(p phase) error {
	g.phase = p
	deadline := g.clock.now() + 30*time.Second
	asked := 0
	for asked < len(g.conns) || g.busy > 0 {
		for asked < len(g.conns) && g.busy < connecting {
			if c := g.conns[asked]; c.idle() {
				c.ask(g.clock.now())
			} else {
				g.fail(&g.result.Errors.Closed, errors.New("an idle connection was closed"))
			}
			asked++
		}
		if err := g.turnOver(10 * time.Millisecond); err != nil {
			return err
		}
		if g.clock.now() > deadline {
			return fmt.Errorf("%d of %d connections had an answer in 30 seconds; %s", asked-g.busy, len(g.conns), g.result.Errors.First)
		}
	}
	return nil
}
