// Command bench measures Podlane beside nginx, HAProxy, Caddy and net/http/httputil.ReverseProxy: what each costs for the same
// work, one core for the proxy and the other for load and backends. make bench-peers runs it; -help lists what it takes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if err == nil {
		err = run(ctx, o, os.Stdout)
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run makes the runs and writes the report.
func run(ctx context.Context, o *options, out io.Writer) (err error) {
	s, err := newStand(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	results, err := s.runAll(ctx)
	if results == nil || len(results.Samples) == 0 {
		return err
	}
	// What was measured before an interrupt, or before something failed, is shown.
	return errors.Join(err, o.report(results, out))
}
