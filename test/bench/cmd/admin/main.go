// Command admin measures what it costs to look at Podlane: how long /metrics and the admin pages take with thousands of routes that all have
// traffic, and what a scrape every second takes of a core. make bench-admin runs it; -help lists what it takes. It fails where a median is over
// its budget.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	program string
	routes  int
	runs    int
	window  time.Duration
	args    string
}

// The budgets of medians.
const (
	metricsBudget = 200 * time.Millisecond
	pageBudget    = 100 * time.Millisecond
	scrapeBudget  = 2.0 // percent of a core
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.program, "program", "bin/podlane", "the program")
	flag.IntVar(&o.routes, "routes", 5000, "Ingresses, each with a host and a Service of its own")
	flag.IntVar(&o.runs, "runs", 5, "measurements, of which the median counts")
	flag.DurationVar(&o.window, "window", 10*time.Second, "how long each measurement of CPU lasts")
	flag.StringVar(&o.args, "args", "", "further flags of podlane serve, separated by spaces")
	flag.Parse()
	if err := run(ctx, &o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "admin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options, out io.Writer) (err error) {
	s, err := newStand(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	fmt.Fprintf(os.Stderr, "%d requests to %d routes\n", 3*o.routes, o.routes)
	if err := s.traffic(ctx); err != nil {
		return err
	}
	text, err := s.page(ctx, "/metrics")
	if err != nil {
		return err
	}
	series := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	fmt.Fprintf(out, "%d routes with traffic of three classes: %d series, bound %s\n", o.routes, series, sample(text, "podlane_metrics_series_bound"))
	var over []string
	for _, path := range []string{
		"/metrics", "/debug/routes", "/debug/routes?format=json", "/debug/endpoints", "/debug/endpoints?format=json", "/debug/problems", "/debug/problems?format=json",
	} {
		late, err := s.measurePage(ctx, path, out)
		if err != nil {
			return err
		}
		if late {
			over = append(over, path)
		}
	}
	share, err := s.measureScrapes(ctx, out)
	if err != nil {
		return err
	}
	if share > scrapeBudget {
		over = append(over, "scrapes")
	}
	if len(over) > 0 {
		return fmt.Errorf("over budget: %s", strings.Join(over, ", "))
	}
	return nil
}

// measurePage reads a page several times, and reports whether the median is over its budget.
func (s *stand) measurePage(ctx context.Context, path string, out io.Writer) (late bool, err error) {
	budget := pageBudget
	if path == "/metrics" {
		budget = metricsBudget
	}
	var times []time.Duration
	size := 0
	for range s.options.runs {
		start := time.Now()
		body, err := s.page(ctx, path)
		if err != nil {
			return false, err
		}
		times, size = append(times, time.Since(start).Round(10*time.Microsecond)), len(body)
	}
	median := slices.Sorted(slices.Values(times))[len(times)/2]
	fmt.Fprintf(out, "%-28s %9d bytes  median %9s of %v, budget %s\n", path, size, median, times, budget)
	return median > budget, nil
}

// measureScrapes returns the median of what a scrape every second takes of a core, in percent: the time of the process with it, less that without.
func (s *stand) measureScrapes(ctx context.Context, out io.Writer) (float64, error) {
	var shares []float64
	for i := range s.options.runs {
		fmt.Fprintf(os.Stderr, "CPU of scrapes: run %d of %d, %s\n", i+1, s.options.runs, 2*s.options.window)
		idle, err := s.cpu(ctx, func() error { return nil })
		if err != nil {
			return 0, err
		}
		busy, err := s.cpu(ctx, func() error {
			_, err := s.page(ctx, "/metrics")
			return err
		})
		if err != nil {
			return 0, err
		}
		shares = append(shares, 100*(busy-idle).Seconds()/s.options.window.Seconds())
	}
	median := slices.Sorted(slices.Values(shares))[len(shares)/2]
	fmt.Fprintf(out, "a scrape every second           median %.2f%% of a core of %.2f, budget %.0f%%\n", median, shares, scrapeBudget)
	return median, nil
}
