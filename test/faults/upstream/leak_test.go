package upstream_test

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// holdings is what a test must give back.
type holdings struct{ goroutines, descriptors int }

func held(t testing.TB) holdings {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return holdings{runtime.NumGoroutine(), len(fds)}
}

// checkLeaks fails the test when, at its end and after everything that it cleans up later than this call, goroutines or descriptors are
// left that were not there before. Call it first.
func checkLeaks(t testing.TB) {
	t.Helper()
	held(t) // the first look opens the descriptors of Go's own poller
	before := held(t)
	t.Cleanup(func() {
		now := held(t)
		for end := time.Now().Add(patience); now.goroutines > before.goroutines || now.descriptors > before.descriptors; now = held(t) {
			if time.Now().After(end) {
				stacks := make([]byte, 64<<10)
				t.Errorf("%+v at the end, %+v at the start\n%s\n%s", now, before,
					strings.Join(descriptors(), "\n"), stacks[:runtime.Stack(stacks, true)])
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

// descriptors says what is open.
func descriptors() []string {
	var all []string
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, f := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil {
			all = append(all, f.Name()+" "+to)
		}
	}
	return all
}
