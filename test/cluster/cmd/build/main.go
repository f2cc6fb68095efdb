// Command build builds the control plane that the tests need into the cache, and says so as it goes. make test runs it
// first, because go test shows nothing of a package's output before the package is done.
package main

import (
	"fmt"
	"os"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/cluster/sandbox"
)

func main() {
	if err := sandbox.Possible(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster tests will be skipped:", err)
		return
	}
	if _, err := assets.Find(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
