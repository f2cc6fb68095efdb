package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
)

// memoryShare is the part of the container's memory that Go's heap may fill before the collector works harder: the rest is
// for what the collector does not count, and for the kernel's socket buffers, which cgroup v2 charges to the Pod.
const memoryShare = 0.8

// setMemoryLimit sets Go's soft memory limit from the container's, unless GOMEMLIMIT says it. It returns the container's limit, and the
// one that it set, in bytes; 0 where there is none.
func setMemoryLimit(cgroupRoot, selfCgroup string) (container, set int64) {
	container = cgroupLimit(cgroupRoot, selfCgroup)
	if os.Getenv("GOMEMLIMIT") != "" || container <= 0 {
		return container, 0
	}
	set = int64(float64(container) * memoryShare)
	debug.SetMemoryLimit(set)
	return container, set
}

// cgroupLimit returns the least memory limit among the process's control group and its parents, in bytes, or 0 where there
// is none. root is /sys/fs/cgroup, self the text of /proc/self/cgroup.
func cgroupLimit(root, self string) int64 {
	least := int64(math.MaxInt64)
	for line := range strings.Lines(self) {
		// cgroups(7): hierarchy-ID:controllers:path; version 2 has the line 0::path.
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch fields[1] {
		case "":
			least = min(least, limitUpwards(root, fields[2], "memory.max"))
		case "memory":
			least = min(least, limitUpwards(filepath.Join(root, "memory"), fields[2], "memory.limit_in_bytes"))
		}
	}
	// Version 1 writes "no limit" as a number just below 2^63.
	const unlimited = math.MaxInt64 / 2
	if least > unlimited {
		return 0
	}
	return least
}

// limitUpwards reads name in root/group and in every directory above it down to root. In a container the path of the group is often not
// visible, and its limit is that of root.
func limitUpwards(root, group, name string) int64 {
	least := int64(math.MaxInt64)
	for {
		text, err := os.ReadFile(filepath.Join(root, group, name))
		if n, perr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && perr == nil {
			least = min(least, n)
		}
		if group == "/" || group == "." || group == "" {
			return least
		}
		group = filepath.Dir(group)
	}
}

// limitMemory sets Go's memory limit in a container, and says so. It returns what tells the share of the container's memory that is
// in use, nil where there is no limit: then GOMEMLIMIT, where it is set, stands for memoryShare of one.
func limitMemory(log logr.Logger) func() float64 {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		self = nil // not Linux, or not allowed: then there is no limit to know of
	}
	container, set := setMemoryLimit("/sys/fs/cgroup", string(self))
	if set > 0 {
		log.Info("memory limit from the container", "bytes", set)
	}
	if soft := debug.SetMemoryLimit(-1); container <= 0 && soft < math.MaxInt64 {
		container = int64(float64(soft) / memoryShare)
	}
	if container <= 0 {
		return nil
	}
	return func() float64 { return float64(memoryInUse()) / float64(container) }
}

// memoryInUse is what the process holds of the machine's memory as far as Go knows, in bytes: everything that it mapped but what it
// gave back. It costs some microseconds.
func memoryInUse() uint64 {
	samples := [...]metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples[:])
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
