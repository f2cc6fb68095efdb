package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is what processes hold, in bytes. What the kernel holds for their sockets is not in it.
type Memory struct {
	// Resident is the sum of what each has in memory.
	Resident int64
	// Proportional counts what several share, as nginx's master and worker do, once in all.
	Proportional int64
}

// Resident returns the memory of processes.
func Resident(pids []int) (Memory, error) {
	var sum Memory
	for _, pid := range pids {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if err != nil {
			return Memory{}, fmt.Errorf("memory: %w", err)
		}
		m, err := parseRollup(string(text))
		if err != nil {
			return Memory{}, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		sum.Resident += m.Resident
		sum.Proportional += m.Proportional
	}
	return sum, nil
}

// parseRollup reads the lines Rss and Pss of /proc/PID/smaps_rollup.
func parseRollup(text string) (Memory, error) {
	var m Memory
	found := 0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		var to *int64
		switch name {
		case "Rss":
			to = &m.Resident
		case "Pss":
			to = &m.Proportional
		default:
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("smaps_rollup: %w", err)
		}
		*to = kb << 10
		found++
	}
	if found != 2 {
		return Memory{}, fmt.Errorf("smaps_rollup has %d of the lines Rss and Pss", found)
	}
	return m, nil
}
