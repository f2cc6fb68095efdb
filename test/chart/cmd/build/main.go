// Command build builds Helm and kustomize into the cache, where the tests of the chart look for them. The tests do it
// themselves, but `go test` keeps what they print until they have ended.
package main

import (
	"fmt"
	"os"

	"podlane.dev/podlane/test/chart/render"
)

func main() {
	if _, err := render.Build(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
