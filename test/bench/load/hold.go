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
		if err := g.settle(); err != nil {
			return err
		}
		if err := g.watched(holding); err != nil {
			return err
		}
		if err := g.askAll(); err != nil {
			return err
		}
		return g.drain()
	})
	return g.result, err
}

// settle waits for the answers that are due.
func (g *generator) settle() error {
	deadline := g.clock.now() + 30*time.Second
	for g.busy > 0 {
		if err := g.turnOver(10 * time.Millisecond); err != nil {
			return err
		}
		if g.clock.now() > deadline {
			return fmt.Errorf("%d answers did not come in 30 seconds; %s", g.busy, g.result.Errors.First)
		}
	}
	return nil
}

// askAll sends one request on every connection, some at a time, and waits for the answers.
func (g *generator) askAll() error {
	g.phase = counting
	for _, c := range g.conns {
		if c.idle() {
			c.ask(g.clock.now())
		} else {
			g.fail(&g.result.Errors.Closed, errors.New("an idle connection was closed"))
		}
		if g.busy < connecting {
			continue
		}
		if err := g.settle(); err != nil {
			return err
		}
	}
	return g.settle()
}
