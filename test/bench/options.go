package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/test/bench/peers"
)

// options are the flags.
type options struct {
	runs             int
	duration, warmup time.Duration
	quiet            time.Duration
	workloads, peers listFlag
	builds           buildsFlag
	rate             float64
	calm             float64
	retries          int
	wait             time.Duration
	idle             int
	cores            cores
	json             string
	strict           bool
	keep             bool
	progress         io.Writer
}

// cores say what runs where.
type cores struct{ proxy, load, backend int }

// listFlag is a flag of names, comma-separated, that may be given several times.
type listFlag []string

// String is the flag's text.
func (l *listFlag) String() string { return strings.Join(*l, ",") }

// Set adds names.
func (l *listFlag) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		if name != "" {
			*l = append(*l, name)
		}
	}
	return nil
}

// buildsFlag are executables of Podlane under names of their own.
type buildsFlag []peers.Peer

// String is the flag's text.
func (b *buildsFlag) String() string {
	var names []string
	for _, p := range *b {
		names = append(names, p.Name+"="+p.Program)
	}
	return strings.Join(names, ",")
}

// Set adds one.
func (b *buildsFlag) Set(text string) error {
	name, path, ok := strings.Cut(text, "=")
	if !ok || name == "" || path == "" {
		return errors.New("write NAME=PATH")
	}
	*b = append(*b, peers.Podlane(name, path))
	return nil
}

// parse reads the flags, and says on help what they are.
func parse(args []string, help io.Writer) (*options, error) {
	o := &options{progress: help}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(help)
	f.Usage = func() {
		fmt.Fprint(help, "Measures Podlane beside nginx, HAProxy, Caddy and httputil.ReverseProxy, each on one core, with load and backends on\n"+
			"another. What is not installed is left out. Runs of the proxies take turns.\n\nWorkloads:\n\n")
		for _, w := range workloads() {
			fmt.Fprintf(help, "  %-16s %s\n", w.name, w.what)
		}
		fmt.Fprint(help, "\nFlags:\n\n")
		f.PrintDefaults()
	}
	f.IntVar(&o.runs, "runs", 11, "how often each proxy does each workload; those of idle connections at most 3 times")
	f.DurationVar(&o.duration, "duration", 2*time.Second, "how long each run is measured")
	f.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "how long each run goes on before it is measured")
	f.DurationVar(&o.quiet, "quiet", 10*time.Second, "how long connections are idle before memory is measured")
	f.Var(&o.workloads, "only", "`workloads` to run, comma-separated (default all)")
	f.Var(&o.peers, "peers", "`proxies` to run, comma-separated: nginx, haproxy, caddy, reverseproxy, podlane, and the names of -podlane\n"+
		"(default all that are installed)")
	f.Var(&o.builds, "podlane", "another executable of Podlane to run beside this tree's, as `NAME=PATH`; may be repeated")
	f.Float64Var(&o.rate, "rate", 0, "requests/s of workloads with a rate (default 70% of nginx's maximum with 512 connections)")
	f.Float64Var(&o.calm, "calm", 5, "percent of the cores that other programs may use before a run is made again")
	f.IntVar(&o.retries, "retries", 2, "how often; the calmest counts")
	f.DurationVar(&o.wait, "wait", 0, "how long each run may wait for other programs to use less than that")
	f.IntVar(&o.idle, "idle", 10000, "idle connections of the workloads idle and idle-tls")
	f.IntVar(&o.cores.proxy, "proxy-core", -1, "core of the proxies (default the last one)")
	f.IntVar(&o.cores.load, "load-core", -1, "core of the load (default the first one)")
	f.IntVar(&o.cores.backend, "backend-core", -1, "core of the backends (default a third one where there is one, else the load's)")
	f.StringVar(&o.json, "json", "dist/bench-peers.json", "`file` for the raw numbers; empty for none")
	f.BoolVar(&o.strict, "strict", false, "exit 1 when a bar fails")
	f.BoolVar(&o.keep, "keep", false, "keep the folder with the proxies' files and logs")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	return o, o.check(f.Args())
}

func (o *options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is no flag", rest[0])
	case o.runs < 1:
		return errors.New("-runs: at least 1")
	case o.duration <= 0 || o.warmup < 0 || o.quiet < 0:
		return errors.New("-duration, -warmup and -quiet are times to wait")
	case o.calm < 0 || o.retries < 0 || o.wait < 0:
		return errors.New("-calm, -retries and -wait: 0 or more")
	case o.idle < 1 || o.idle > 14000:
		return errors.New("-idle: from 1 to 14000, which is what the proxies are told to hold")
	case o.rate < 0:
		return errors.New("-rate: requests a second")
	}
	_, err := chosen(o.workloads)
	return err
}

// maxCores is how many a unix.CPUSet can hold.
const maxCores = 1024

// resolve chooses the cores that no flag chose.
func (c *cores) resolve() error {
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	var list []int
	for i := range maxCores {
		if may.IsSet(i) {
			list = append(list, i)
		}
	}
	for _, core := range []int{c.proxy, c.load, c.backend} {
		if core >= 0 && !may.IsSet(core) {
			return fmt.Errorf("core %d: this process may use %v of %d", core, list, runtime.NumCPU())
		}
	}
	if c.proxy < 0 {
		c.proxy = list[len(list)-1]
	}
	if c.load < 0 {
		c.load = list[0]
	}
	if c.backend < 0 {
		c.backend = c.load
		if len(list) > 2 {
			c.backend = list[1]
		}
	}
	return nil
}

// distinct are the cores in use, each once.
func (c cores) distinct() []int {
	list := []int{c.proxy, c.load, c.backend}
	slices.Sort(list)
	return slices.Compact(list)
}
