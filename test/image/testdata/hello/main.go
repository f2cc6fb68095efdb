// Command hello stands for Podlane where only the image matters: it is built in seconds.
package main

import "os"

var version = "unset"

func main() {
	if _, err := os.Stdout.WriteString("hello " + version + "\n"); err != nil {
		os.Exit(1)
	}
}
