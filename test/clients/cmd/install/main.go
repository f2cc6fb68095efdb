// Command install installs the Debian packages of the clients that ../.. runs, where it can: as root, with apt-get. Elsewhere it says
// which tests will be skipped for want of what.
package main

import (
	"fmt"
	"os"

	"podlane.dev/podlane/test/clients/debian"
)

func main() {
	// A machine without a Debian mirror can run all other tests.
	if err := debian.Install(os.Stdout, debian.Clients()); err != nil {
		fmt.Printf("%v\nthe tests of test/clients that need what is missing are skipped\n", err)
	}
}
