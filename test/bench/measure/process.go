// Package measure reads from the operating system what processes cost, and makes few numbers of many: histograms of latencies,
// medians of runs. It starts nothing and judges nothing.
package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is processor time that processes have used since they began, all their threads and what those that ended had used.
type CPU struct {
	// Total is exact. The kernel accounts it to whoever runs, and with it the softirqs that his calls cause: what a write
	// on loopback does in the receiver's socket is the writer's.
	Total time.Duration
	// User and System are samples of the timer interrupt, in ticks of 10 ms: their proportion over some seconds is good.
	User, System time.Duration
}

// Sub returns what was used since before.
func (c CPU) Sub(before CPU) CPU {
	return CPU{Total: c.Total - before.Total, User: c.User - before.User, System: c.System - before.System}
}

// Add returns the sum.
func (c CPU) Add(d CPU) CPU {
	return CPU{Total: c.Total + d.Total, User: c.User + d.User, System: c.System + d.System}
}

// tick is one clock tick of /proc: USER_HZ, which is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// Processor returns what the processes have used, in all.
func Processor(pids []int) (CPU, error) {
	var sum CPU
	for _, pid := range pids {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			return CPU{}, fmt.Errorf("processor time: %w", err)
		}
		s, err := parseStat(stat)
		if err != nil {
			return CPU{}, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		// The clock of another process (clock_getcpuclockid) counts in nanoseconds what stat rounds to ticks.
		var ts unix.Timespec
		const scheduler = 2
		if err := unix.ClockGettime(int32(^pid<<3|scheduler), &ts); err != nil {
			return CPU{}, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum = sum.Add(CPU{
			Total: time.Duration(ts.Nano()), User: time.Duration(s.user) * tick, System: time.Duration(s.system) * tick,
		})
	}
	return sum, nil
}

// stat is what interests of /proc/PID/stat.
type stat struct {
	parent       int
	user, system uint64 // ticks
}

// parseStat reads proc_pid_stat(5). The name in parentheses may itself hold spaces and parentheses.
func parseStat(text []byte) (stat, error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("stat without a name: %q", text)
	}
	fields := strings.Fields(string(text[end+1:])) // from the third field, state, on
	const parent, user, system = 4 - 3, 14 - 3, 15 - 3
	if len(fields) <= system {
		return stat{}, fmt.Errorf("stat with %d fields", len(fields)+2)
	}
	var s stat
	var err error
	if s.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return stat{}, fmt.Errorf("stat: %w", err)
	}
	if s.user, err = strconv.ParseUint(fields[user], 10, 64); err != nil {
		return stat{}, fmt.Errorf("stat: %w", err)
	}
	if s.system, err = strconv.ParseUint(fields[system], 10, 64); err != nil {
		return stat{}, fmt.Errorf("stat: %w", err)
	}
	return s, nil
}

// Tree returns a process and all that descend from it, as nginx's workers do from their master.
func Tree(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process that ends meanwhile has no stat, and no part in this.
		if text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat")); err == nil {
			if s, err := parseStat(text); err == nil {
				children[s.parent] = append(children[s.parent], pid)
			}
		}
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	slices.Sort(tree[1:])
	return tree, nil
}
