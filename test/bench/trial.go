package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"podlane.dev/podlane/test/bench/load"
	"podlane.dev/podlane/test/bench/measure"
	"podlane.dev/podlane/test/bench/peers"
	"podlane.dev/podlane/test/bench/report"
)

// trial is one proxy that runs, for one run of one workload.
type trial struct {
	s       *stand
	address netip.AddrPort
	process *peers.Process
	pids    []int // of the proxy
	own     []int // of load and backends
	log     string
	run     int
	rate    float64 // that workloads with a rate offer
}

// shape is a load by requests: everything of its plan that is not of one run.
type shape struct {
	message     load.Message
	connections int
	fresh       bool
	rated       bool
}

// with returns the shape with so many connections.
func (s shape) with(connections int) shape {
	s.connections = connections
	return s
}

// measure makes one run of the shape.
func (s shape) measure(ctx context.Context, t *trial) (report.Sample, error) {
	plan := load.Plan{
		Address: t.address, Sources: sources(1), Connections: s.connections, Message: s.message, Fresh: s.fresh,
		Warmup: t.s.o.warmup, Duration: t.s.o.duration, Seed: uint64(t.run),
	}
	if s.fresh {
		plan.Sources = sources(8) // each has ports of its own
	}
	if s.rated {
		plan.Rate = t.rate
	}
	var proxy, own window
	plan.Begin = func() error { return both(proxy.open(t.pids), own.open(t.own)) }
	plan.End = func() error { return both(proxy.close(t.pids), own.close(t.own)) }
	result, err := load.Run(ctx, t.s.loop, plan)
	if err != nil {
		return report.Sample{}, err
	}
	memory, err := measure.Resident(t.pids)
	if err != nil {
		return report.Sample{}, err
	}
	sample := report.Sample{
		Answers: result.Answers, Elapsed: result.Elapsed, Offered: plan.Rate, Unanswered: result.Unanswered, Errors: result.Errors,
		P50: result.Latency.Quantile(0.50), P99: result.Latency.Quantile(0.99), Max: result.Latency.Max(),
		User: proxy.used.User, System: proxy.used.System, CPU: proxy.used.Total,
		Resident: memory.Resident, Proportional: memory.Proportional, LoadCPU: own.used.Total,
	}
	return sample, nil
}

// window is processor time between two moments.
type window struct{ before, used measure.CPU }

func (w *window) open(pids []int) (err error) {
	w.before, err = measure.Processor(pids)
	return err
}

func (w *window) close(pids []int) error {
	after, err := measure.Processor(pids)
	w.used = after.Sub(w.before)
	return err
}

func both(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// once makes one run of a workload with a fresh process of a proxy.
func (s *stand) once(ctx context.Context, w workload, p peers.Peer, run int) (sample report.Sample, err error) {
	dir, err := os.MkdirTemp(s.dir, p.Name+"-"+w.name+"-")
	if err != nil {
		return sample, err
	}
	if !s.o.keep {
		defer os.RemoveAll(dir)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return sample, err
	}
	address, err := peers.FreeAddress(ctx)
	if err != nil {
		return sample, err
	}
	site := peers.Site{Mode: w.mode, Address: address, Backends: s.backends, Dir: dir, Core: s.cores.proxy}
	if w.logged {
		site.AccessLog = dir + "/access.log"
	}
	process, err := p.Start(ctx, site)
	if err != nil {
		return sample, err
	}
	defer process.Stop()
	if err := verify(ctx, site); err != nil {
		return sample, fmt.Errorf("%s does not do what it should: %w\n%s", p.Name, err, process.Said())
	}
	t := &trial{s: s, address: address, process: process, log: site.AccessLog, run: run, own: []int{os.Getpid()}, rate: s.o.rate}
	if t.pids, err = measure.Tree(process.PID()); err != nil {
		return sample, err
	}
	began := time.Now()
	sample, err = w.measure(ctx, t)
	if err != nil {
		return sample, fmt.Errorf("%s, %s: %w\n%s", p.Name, w.name, err, process.Said())
	}
	sample.Workload, sample.Peer, sample.Run, sample.Began = w.name, p.Name, run, began
	return sample, nil
}
