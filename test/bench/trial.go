package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"podlane.dev/podlane/test/bench/load"
	"podlane.dev/podlane/test/bench/measure"
	"podlane.dev/podlane/test/bench/peers"
	"podlane.dev/podlane/test/bench/report"
	"podlane.dev/podlane/test/bench/secure"
)

// trial is one proxy that runs, for one run of one workload.
type trial struct {
	s       *stand
	address netip.AddrPort
	secure  *secure.Client // nil without TLS
	pids    []int          // of the proxy
	run     int
	rate    float64 // that a workload with a rate offers
	total   uint64  // answers in all, warm-up included: what an access log has to have
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
	address, err := peers.FreeAddress(ctx)
	if err != nil {
		return sample, err
	}
	site := peers.Site{Mode: w.mode, Certificate: s.certificate, Address: address, Backends: s.backends, Dir: dir, Core: s.cores.proxy}
	if w.logged {
		site.AccessLog = filepath.Join(dir, "access.log")
	}
	process, err := p.Start(ctx, site)
	if err != nil {
		return sample, err
	}
	defer process.Stop()
	t := &trial{s: s, address: address, run: run, rate: s.rates[w.name]}
	if w.mode != peers.Plain {
		if t.secure, err = secure.NewClient(peers.Host, w.mode.Protocol()); err != nil {
			return sample, err
		}
	}
	sample, err = t.measure(ctx, w, site, process.PID())
	switch {
	case ctx.Err() != nil:
		return sample, ctx.Err()
	case err != nil:
		return sample, fmt.Errorf("%s, %s: %w\n%s", p.Name, w.name, err, process.Said())
	}
	sample.Workload, sample.Peer, sample.Run = w.name, p.Name, run
	if w.logged {
		process.Stop() // writes what it still holds
		sample.LogLost, err = missing(site.AccessLog, t.total)
	}
	return sample, err
}

// measure checks that the proxy does what it should, and runs the workload.
func (t *trial) measure(ctx context.Context, w workload, site peers.Site, pid int) (sample report.Sample, err error) {
	if err := verify(ctx, site); err != nil {
		return sample, fmt.Errorf("it does not do what it should: %w", err)
	}
	if t.pids, err = measure.Tree(pid); err != nil {
		return sample, err
	}
	began := time.Now()
	sample, err = w.measure(ctx, t)
	sample.Began = began
	return sample, err
}

// missing is how many of so many requests an access log lacks. It has some more lines, of what verify asked.
func missing(log string, requests uint64) (int64, error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return 0, fmt.Errorf("access log: %w", err)
	}
	return max(int64(requests)-int64(bytes.Count(text, []byte("\n"))), 0), nil
}

// shape is a load by requests: everything of its plan that is not of one run.
type shape struct {
	message     load.Message
	connections int
	streams     int // of each connection, in HTTP/2
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
	w := &window{trial: t}
	plan := load.Plan{
		Address: t.address, Sources: sources(1), Connections: s.connections, Message: s.message, Fresh: s.fresh,
		Secure: t.secure, Streams: s.streams,
		Warmup: t.s.o.warmup, Duration: t.s.o.duration, Seed: uint64(t.run), Begin: w.open, End: w.close,
	}
	if s.fresh {
		plan.Sources = sources(8) // each has ports of its own
	}
	if s.rated {
		plan.Rate = t.rate
	}
	result, err := load.Run(ctx, t.s.loop, plan)
	if err != nil {
		return report.Sample{}, err
	}
	t.total = result.Total
	sample := w.sample(result)
	sample.Offered = plan.Rate
	memory, err := measure.Resident(t.pids)
	sample.Resident, sample.Proportional = memory.Resident, memory.Proportional
	return sample, err
}

// hold measures what idle connections cost: memory, and processor time while nothing happens.
func hold(ctx context.Context, t *trial) (report.Sample, error) {
	message := smallMessage()
	nothing := func() error { return nil }
	// The proxy's code is in memory before the first of them comes, and what it needs once.
	warm, err := load.Run(ctx, t.s.loop, load.Plan{
		Address: t.address, Sources: sources(1), Connections: 16, Message: message, Secure: t.secure, Duration: 500 * time.Millisecond,
		Begin: nothing, End: nothing,
	})
	if err != nil {
		return report.Sample{}, err
	}
	if n := warm.Errors.Sum(); n > 0 {
		return report.Sample{}, fmt.Errorf("%d errors before the first idle connection: %s", n, warm.Errors.First)
	}
	select {
	case <-ctx.Done():
		return report.Sample{}, ctx.Err()
	case <-time.After(t.s.o.quiet):
	}
	before, err := measure.Resident(t.pids)
	if err != nil {
		return report.Sample{}, err
	}
	var after measure.Memory
	w := &window{trial: t}
	result, err := load.Hold(ctx, t.s.loop, load.Plan{
		Address: t.address, Sources: sources(8), Connections: t.s.o.idle, Message: message, Secure: t.secure, Duration: t.s.o.quiet, Begin: w.open,
		End: func() (err error) {
			after, err = measure.Resident(t.pids)
			return errors.Join(err, w.close())
		},
	})
	if err != nil {
		return report.Sample{}, err
	}
	sample := w.sample(result)
	sample.Resident, sample.Proportional = after.Resident, after.Proportional
	sample.Idle = float64(after.Resident-before.Resident) / float64(t.s.o.idle)
	return sample, nil
}

// window is what was used between two moments.
type window struct {
	trial                  *trial
	proxyBefore, ownBefore measure.CPU
	coresBefore            measure.Busy
	proxy, own             measure.CPU
	machine                time.Duration // all that ran on the cores of this benchmark
}

func (w *window) open() (err error) {
	if w.proxyBefore, err = measure.Processor(w.trial.pids); err != nil {
		return err
	}
	if w.ownBefore, err = measure.Processor([]int{os.Getpid()}); err != nil {
		return err
	}
	w.coresBefore, err = measure.Cores()
	return err
}

func (w *window) close() error {
	proxy, err := measure.Processor(w.trial.pids)
	if err != nil {
		return err
	}
	own, err := measure.Processor([]int{os.Getpid()})
	if err != nil {
		return err
	}
	cores, err := measure.Cores()
	w.proxy, w.own = proxy.Sub(w.proxyBefore), own.Sub(w.ownBefore)
	w.machine = cores.Of(w.coresBefore, w.trial.s.cores.distinct()...)
	return err
}

// sample puts a load's result and the window together.
func (w *window) sample(r *load.Result) report.Sample {
	return report.Sample{
		Answers: r.Answers, Elapsed: r.Elapsed, Unanswered: r.Unanswered, Errors: r.Errors,
		P50: r.Latency.Quantile(0.50), P99: r.Latency.Quantile(0.99), Max: r.Latency.Max(),
		CPU: w.proxy.Total, User: w.proxy.User, System: w.proxy.System, LoadCPU: w.own.Total,
		Foreign: w.foreign(r.Elapsed),
	}
}

// foreign is the part of the cores' time that others used. The kernel's count of a core is a sample, and may be a little less
// than what was used.
func (w *window) foreign(elapsed time.Duration) float64 {
	return max((w.machine-w.proxy.Total-w.own.Total).Seconds()/elapsed.Seconds()/float64(len(w.trial.s.cores.distinct())), 0)
}
