package serving

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Descriptors is how many files the process has open; -1 where it has ended.
func (p *Process) Descriptors() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		return -1
	}
	return len(entries)
}

// Resident is the process's resident memory in bytes.
func (p *Process) Resident() int64 {
	p.t.Helper()
	value, ok := field(p.proc("status"), "VmRSS:")
	kilobytes, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
	if !ok || err != nil {
		p.t.Fatalf("VmRSS: %q %v", value, err)
	}
	return kilobytes << 10
}

// Usage is what a process has cost.
type Usage struct {
	CPU time.Duration
	// Sleeps is how often a thread of it went to sleep: its voluntary context switches.
	Sleeps int64
}

// UsageDuring returns what the process costs during d.
func (p *Process) UsageDuring(d time.Duration) Usage {
	p.t.Helper()
	before := p.usage()
	time.Sleep(d) // this is what is measured, not a wait for something
	after := p.usage()
	return Usage{after.CPU - before.CPU, after.Sleeps - before.Sleeps}
}

func (p *Process) usage() Usage {
	p.t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	var u Usage
	for _, task := range tasks {
		// proc(5): the first number is nanoseconds on a processor.
		cpu, _, _ := strings.Cut(p.proc("task/"+task.Name()+"/schedstat"), " ")
		sleeps, _ := field(p.proc("task/"+task.Name()+"/status"), "voluntary_ctxt_switches:")
		n, err := strconv.ParseInt(cpu, 10, 64)
		m, err2 := strconv.ParseInt(sleeps, 10, 64)
		if err != nil || err2 != nil {
			p.t.Fatal(err, err2)
		}
		u.CPU += time.Duration(n)
		u.Sleeps += m
	}
	return u
}

// proc reads a file of the process in /proc.
func (p *Process) proc(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// field is the value behind a name at the beginning of a line.
func field(text, name string) (string, bool) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// Collect makes the process, which must have been started with --profiling, collect its garbage and shrink its stacks, as it does by
// itself every two minutes at the latest. What pools keep goes with the second of two collections.
func (p *Process) Collect() {
	p.t.Helper()
	if status, _, err := p.Page("/debug/pprof/heap?gc=1"); err != nil || status != http.StatusOK {
		p.t.Fatalf("profile: %d %v", status, err)
	}
}
