package measure

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Busy is the time that cores have been busy since the machine started, by core, whoever used them. What a hypervisor took
// away is in it.
type Busy map[int]time.Duration

// Cores returns how busy all cores have been, in ticks of 10 ms.
func Cores() (Busy, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("cores: %w", err)
	}
	return parseCores(string(text))
}

// parseCores reads the lines cpu0, cpu1 and so on of proc_stat(5).
func parseCores(text string) (Busy, error) {
	busy := Busy{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, " ")
		number, isCPU := strings.CutPrefix(name, "cpu")
		if !isCPU || number == "" {
			continue
		}
		core, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("/proc/stat: %w", err)
		}
		// user nice system idle iowait irq softirq steal; what follows is contained in user and nice.
		const idle, iowait, count = 3, 4, 8
		fields := strings.Fields(rest)
		if len(fields) < count {
			return nil, fmt.Errorf("/proc/stat: %d fields of core %d", len(fields), core)
		}
		for i, field := range fields[:count] {
			n, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/stat: %w", err)
			}
			if i != idle && i != iowait {
				busy[core] += time.Duration(n) * tick
			}
		}
	}
	if len(busy) == 0 {
		return nil, errors.New("/proc/stat has no cores")
	}
	return busy, nil
}

// Of is how busy some cores were, in all, since before.
func (b Busy) Of(before Busy, cores ...int) time.Duration {
	var sum time.Duration
	for _, core := range cores {
		sum += b[core] - before[core]
	}
	return sum
}
