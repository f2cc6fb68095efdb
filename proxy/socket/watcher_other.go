//go:build !linux

package socket

import (
	"errors"
	"syscall"
)

// NewWatcher returns an error: elsewhere than on Linux nobody sleeps, and connections keep their goroutines.
func NewWatcher() (*Watcher, error) { return nil, errors.ErrUnsupported }

// Watcher wakes those whose sockets have something to read.
type Watcher struct{}

// Run returns.
func (*Watcher) Run() {}

// Watch watches nothing.
func (*Watcher) Watch(syscall.RawConn, Sleeper) error { return errors.ErrUnsupported }

// Forget does nothing.
func (*Watcher) Forget(int, Sleeper) {}

// Close does nothing.
func (*Watcher) Close() error { return nil }
