package main

import (
	"math"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestCgroupLimit(t *testing.T) {
	for _, tc := range []struct {
		name  string
		self  string
		files map[string]string
		want  int64
	}{
		{"version 2 in a container", "0::/\n", map[string]string{"memory.max": "268435456\n"}, 268435456},
		{"version 2, no limit", "0::/\n", map[string]string{"memory.max": "max\n"}, 0},
		{"version 2, nested, the parent's is less", "0::/pod/container\n", map[string]string{
			"pod/container/memory.max": "max\n", "pod/memory.max": "1000\n",
		}, 1000},
		{"version 2, nested, its own is less", "0::/pod/container\n", map[string]string{
			"pod/container/memory.max": "500\n", "pod/memory.max": "1000\n",
		}, 500},
		{"version 2, path not visible", "0::/kubepods/x\n", map[string]string{"memory.max": "700\n"}, 700},
		{"version 1", "12:cpu,cpuacct:/a\n5:memory:/a\n", map[string]string{
			"memory/a/memory.limit_in_bytes": "900\n", "memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 900},
		{"version 1, no limit", "5:memory:/\n", map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		{"no files", "0::/\n", nil, 0},
		{"nonsense", "x\n\n0:\n", map[string]string{"memory.max": "1\n"}, 0},
		{"nonsense in the file", "0::/\n", map[string]string{"memory.max": "-1k\n"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tc.files {
				write(t, filepath.Join(root, name), text)
			}
			if got := cgroupLimit(root, tc.self); got != tc.want {
				t.Errorf("limit %d, want %d", got, tc.want)
			}
		})
	}
}

func TestSetMemoryLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	root := t.TempDir()
	const limit = math.MaxInt64 / 4 // large, so that the test itself is not slowed down
	write(t, filepath.Join(root, "memory.max"), "2305843009213693951\n")

	t.Setenv("GOMEMLIMIT", "1GiB")
	if _, got := setMemoryLimit(root, "0::/\n"); got != 0 || debug.SetMemoryLimit(-1) != before {
		t.Errorf("with GOMEMLIMIT the limit was set to %d", got)
	}
	t.Setenv("GOMEMLIMIT", "")
	_, got := setMemoryLimit(root, "0::/\n")
	if got < limit/100*79 || got > limit/100*81 || debug.SetMemoryLimit(-1) != got {
		t.Errorf("limit set to %d, live %d, want 80%% of %d", got, debug.SetMemoryLimit(-1), int64(limit))
	}
}
