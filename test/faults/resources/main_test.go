package resources_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// long selects the long forms: the numbers that the design names, instead of what a test run has time for.
var long = flag.Bool("long", false, "run the long forms: 1 GiB bodies, 5,000 slow clients, 50 restarts")

// pick returns the number of the form that is run.
func pick(short, full int) int {
	if *long {
		return full
	}
	return short
}

func TestMain(m *testing.M) {
	flag.Parse()
	if err := warm(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(serving.Main(m))
}

// warm opens what a Go process opens once and keeps, so that no test is blamed for it: the network poller's descriptors.
func warm() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return l.Close()
}

// podlaneProgram is the program in the form that the tests themselves have: with the race detector or without.
func podlaneProgram(t *testing.T) string {
	t.Helper()
	if raceEnabled {
		return serving.RaceProgram(t)
	}
	return serving.Program(t)
}

// noLeaks holds the test to what it found: when everything else of it has ended, as many goroutines and file descriptors are
// left as there were. It must be called before anything is started.
func noLeaks(t *testing.T) {
	t.Helper()
	goroutines, descriptors := runtime.NumGoroutine(), len(openFiles(t))
	t.Cleanup(func() {
		var g, d int
		if !comesTrue(func() bool {
			g, d = runtime.NumGoroutine(), len(openFiles(t))
			return g <= goroutines && d <= descriptors
		}) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Errorf("%d goroutines and %d descriptors before the test, %d and %d after it\n%v\n%s",
				goroutines, descriptors, g, d, openFiles(t), stacks)
		}
	})
}

// openFiles are this process's descriptors.
func openFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasSuffix(target, "/fd") { // the one that lists them is among them
			open = append(open, e.Name()+" "+target)
		}
	}
	return open
}

// patience is how long anything may take that will happen: it only tells a failure from a hang.
const patience = 20 * time.Second

// comesTrue waits until ok.
func comesTrue(ok func() bool) bool {
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// await is comesTrue for what must.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !comesTrue(ok) {
		t.Fatalf("waited in vain for %s", what)
	}
}

// within returns a context that ends with the test, or after d.
func within(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// receive takes what comes from c, which is to come.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}
