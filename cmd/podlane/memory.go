package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
)

// memoryShare is the part of the container's memory that Go's heap may fill before the collector works harder: the rest is
// for what the collector does not count, and for the kernel's socket buffers, which cgroup v2 charges to the Pod.
const memoryShare = 0.8

// setMemoryLimit sets Go's soft memory limit from the container's, unless GOMEMLIMIT says it. It returns the limit in bytes,
// 0 where there is none.
func setMemoryLimit(cgroupRoot, selfCgroup string) int64 {
	if os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	limit := cgroupLimit(cgroupRoot, selfCgroup)
	if limit <= 0 {
		return 0
	}
	limit = int64(float64(limit) * memoryShare)
	debug.SetMemoryLimit(limit)
	return limit
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

// limitMemory sets Go's memory limit in a container, and says so.
func limitMemory(log logr.Logger) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return // not Linux, or not allowed: then there is no limit to know of
	}
	if limit := setMemoryLimit("/sys/fs/cgroup", string(self)); limit > 0 {
		log.Info("memory limit from the container", "bytes", limit)
	}
}
