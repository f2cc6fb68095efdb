package proxy_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain fails the package when its tests leave goroutines or descriptors behind.
func TestMain(m *testing.M) {
	before := descriptors()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		// The network poller's own come with the first socket and stay.
		const pollers = 4
		for end := time.Now().Add(10 * time.Second); code == 0 && descriptors() > before+pollers; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				fmt.Printf("%d descriptors before the tests, %d after\n", before, descriptors())
				code = 1
			}
		}
		os.Exit(code)
	}))
}

// descriptors is the number of open files of the process, 0 where the system does not tell.
func descriptors() int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(names)
}
