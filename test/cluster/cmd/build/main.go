// Command build builds the control plane that the tests need into the cache, and with -node a node's programs too, and says so as it
// goes. make test runs it first, because go test shows nothing of a package's output before the package is done.
package main

import (
	"flag"
	"fmt"
	"os"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/cluster/sandbox"
)

func main() {
	node := flag.Bool("node", false, "build kubelet, containerd and the rest of a node with containers as well")
	flag.Parse()
	if err := sandbox.Possible(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster tests will be skipped:", err)
		return
	}
	_, err := assets.Find(os.Stderr)
	if err == nil && *node {
		_, err = assets.FindNode(os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
