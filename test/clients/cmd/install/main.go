// Command install installs the Debian packages of the clients that ../.. runs, where it can: as root, with apt-get. Elsewhere it says
// which tests will be skipped for want of what.
package main

import (
	"errors"
	"fmt"
	"os"

	"podlane.dev/podlane/test/clients/debian"
)

func main() {
	err := debian.Install(os.Stdout)
	if errors.Is(err, debian.ErrUnable) {
		fmt.Printf("%v: the tests of test/clients that need them are skipped\n", err)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
