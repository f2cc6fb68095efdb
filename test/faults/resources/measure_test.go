package resources_test

import (
	"runtime"
	"runtime/debug"
)

// heapInUse is what this process's heap holds after garbage was collected.
func heapInUse() int64 {
	runtime.GC()
	debug.FreeOSMemory() // a second collection, which empties what pools kept through the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
