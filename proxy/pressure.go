package proxy

import (
	"sync/atomic"
)

// pressure is how much of the process's memory is in use, in steps.
type pressure int32

// The steps: at the first no connection is kept open, HTTP/2 ones take no new streams, and idle ones to Pods are closed; at the second
// new requests are refused.
const (
	calm pressure = iota
	shrinking
	refusing
)

// The shares of the memory limit at which the steps begin.
const (
	shrinkShare = 0.85
	refuseShare = 0.92
)

// measureEvery is how many ticks of the sweeper lie between two looks at the memory: about a quarter of a second.
const measureEvery = 6

// memory follows the share of the memory limit that is in use.
type memory struct {
	used  func() float64 // nil where there is no limit
	level atomic.Int32
	ticks int
}

// now returns the present step.
func (m *memory) now() pressure { return pressure(m.level.Load()) }

// measureMemory looks at the memory every so often. Only the sweeper calls it.
func (e *Engine) measureMemory() {
	m := &e.memory
	if m.used == nil {
		return
	}
	if m.ticks++; m.ticks < measureEvery {
		return
	}
	m.ticks = 0
	share := m.used()
	level := calm
	switch {
	case share >= refuseShare:
		level = refusing
	case share >= shrinkShare:
		level = shrinking
	}
	before := pressure(m.level.Swap(int32(level)))
	if level >= shrinking {
		e.registry.Shrink(e.registry.Open())
		e.endStreams()
	}
	if level != before && e.opts.Pressured != nil {
		e.opts.Pressured(level.String(), share)
	}
}

// String says what the step means, for a log line.
func (p pressure) String() string {
	switch p {
	case refusing:
		return "refusing new requests, closing connections"
	case shrinking:
		return "closing connections"
	}
	return "calm"
}
