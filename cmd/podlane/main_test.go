package main

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails where a command leaves a goroutine behind after it has ended.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// controller-runtime filters the watches of its cache with a goroutine that waits for ever where the watch ends while
		// it hands an event on. It is left behind once, at the end of the process.
		goleak.IgnoreTopFunction("k8s.io/apimachinery/pkg/watch.(*filteredWatch).loop"),
	)
}
