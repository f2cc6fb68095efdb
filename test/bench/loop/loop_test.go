package loop

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func firstCore(t *testing.T) int {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for core := 0; ; core++ {
		if may.IsSet(core) {
			return core
		}
	}
}

// TestDo: functions run on the loop's thread, which is on its core, until Close.
func TestDo(t *testing.T) {
	before, core := runtime.GOMAXPROCS(0), firstCore(t)
	l, err := Start(core)
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("failed")
	for range 3 {
		var only unix.CPUSet
		err := l.Do(func() error {
			if err := unix.SchedGetaffinity(0, &only); err != nil {
				t.Error(err)
			}
			return failure
		})
		if !errors.Is(err, failure) || only.Count() != 1 || !only.IsSet(core) {
			t.Errorf("Do = %v, on %d cores", err, only.Count())
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Do(func() error { return nil }); !errors.Is(err, errStopped) {
		t.Errorf("Do after Close = %v", err)
	}
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("GOMAXPROCS was %d and is %d", before, after)
	}
}

func TestNoSuchCore(t *testing.T) {
	l, err := Start(1000)
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("Start = %v, %v", l, err)
	}
}

// echo sends back what it reads.
type echo struct {
	l     *Loop
	fd    int
	ended bool
}

func (e *echo) Ready(Edge) {
	var buf [64]byte
	for !e.ended {
		n, again, err := Read(e.fd, buf[:])
		if again {
			return
		}
		if n <= 0 || err != nil {
			e.ended = true
			e.l.Remove(e.fd)
			return
		}
		if _, _, err := Write(e.fd, buf[:n/2], buf[n/2:n]); err != nil {
			return
		}
	}
}

// TestSource: a source is called when bytes come, and when the peer ends.
func TestSource(t *testing.T) {
	l, err := Start(firstCore(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pair[1], true); err != nil {
		t.Fatal(err)
	}
	e := &echo{l: l, fd: pair[1]}
	if err := l.Do(func() error { return l.Add(pair[1], e) }); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := unix.Write(pair[0], []byte("hello")); err != nil {
			t.Fatal(err)
		}
		var got [5]byte
		for n := 0; n < len(got); {
			more, err := unix.Read(pair[0], got[n:])
			if err != nil || more == 0 {
				t.Fatal(more, err)
			}
			n += more
		}
		if string(got[:]) != "hello" {
			t.Errorf("%q came back", got)
		}
	}
	if err := unix.Close(pair[0]); err != nil {
		t.Fatal(err)
	}
	for ended := false; !ended; {
		if err := l.Do(func() error { ended = e.ended; return nil }); err != nil {
			t.Fatal(err)
		}
	}
}
