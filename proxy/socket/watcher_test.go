package socket_test

import (
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/socket"
)

// sleeper counts how often it was woken.
type sleeper struct {
	awake atomic.Bool
	woken chan struct{}
}

func newSleeper() *sleeper { return &sleeper{woken: make(chan struct{}, 100)} }

func (s *sleeper) Asleep() bool { return !s.awake.Load() }

func (s *sleeper) Wake() {
	s.awake.Store(true)
	s.woken <- struct{}{}
}

// within reports whether it is woken while others have time to do it.
func (s *sleeper) within(d time.Duration) bool {
	select {
	case <-s.woken:
		return true
	case <-time.After(d):
		return false
	}
}

const (
	soon  = 10 * time.Second
	never = 50 * time.Millisecond
)

func newWatcher(t *testing.T) *socket.Watcher {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("connections sleep on Linux only")
	}
	w, err := socket.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); w.Run() }()
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return w
}

func rawOf(t *testing.T, c net.Conn) syscall.RawConn {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func write(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestWatcherWakesOnceForEachWatch(t *testing.T) {
	w := newWatcher(t)
	a, b := pair(t)
	raw, buf := rawOf(t, b), make([]byte, 10)
	for range 3 {
		s := newSleeper()
		if err := w.Watch(raw, s); err != nil {
			t.Fatal(err)
		}
		if s.within(never) {
			t.Fatal("woken by nothing")
		}
		write(t, a)
		if !s.within(soon) {
			t.Fatal("not woken")
		}
		write(t, a)
		if s.within(never) {
			t.Fatal("woken twice")
		}
		if _, err := b.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	// What is there already wakes at once.
	write(t, a)
	s := newSleeper()
	if err := w.Watch(raw, s); err != nil || !s.within(soon) {
		t.Fatal("bytes that came before the watch do not wake", err)
	}
}

func TestWatcherWakesAtTheEnd(t *testing.T) {
	w := newWatcher(t)
	a, b := pair(t)
	s := newSleeper()
	if err := w.Watch(rawOf(t, b), s); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	if !s.within(soon) {
		t.Fatal("not woken by the end")
	}
}

func TestWatcherForgets(t *testing.T) {
	w := newWatcher(t)
	a, b := pair(t)
	raw := rawOf(t, b)
	s := newSleeper()
	if err := w.Watch(raw, s); err != nil {
		t.Fatal(err)
	}
	s.awake.Store(true)
	_ = raw.Control(func(fd uintptr) { w.Forget(int(fd), s) })
	write(t, a)
	if s.within(never) {
		t.Fatal("woken after it was forgotten")
	}
	// One that is awake already is not watched.
	if err := w.Watch(raw, s); err != nil || s.within(never) {
		t.Fatal("woken, though awake", err)
	}
	_ = b.Close()
	if err := w.Watch(raw, newSleeper()); err == nil {
		t.Fatal("a closed socket can be watched")
	}
}

// The number of a socket that was closed comes back with another one: who slept at the first is not woken by the second.
func TestWatcherKnowsReusedDescriptors(t *testing.T) {
	w := newWatcher(t)
	for range 20 {
		_, b := pair(t)
		first := newSleeper()
		if err := w.Watch(rawOf(t, b), first); err != nil {
			t.Fatal(err)
		}
		first.awake.Store(true)
		_ = rawOf(t, b).Control(func(fd uintptr) { w.Forget(int(fd), first) })
		_ = b.Close()
		c, d := pair(t)
		second := newSleeper()
		if err := w.Watch(rawOf(t, d), second); err != nil {
			t.Fatal(err)
		}
		write(t, c)
		if !second.within(soon) || first.within(time.Millisecond) {
			t.Fatal("the wrong one was woken")
		}
	}
}
