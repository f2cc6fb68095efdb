// Command backend serves the backends of the benchmark at the addresses that it is given, until its standard input ends.
package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"

	"podlane.dev/podlane/test/bench/backend"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

// run prints where each backend listens, one address a line.
func run(addresses []string) error {
	s, err := backend.New()
	if err != nil {
		return err
	}
	for _, text := range addresses {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return err
		}
		at, err = s.Listen(at)
		if err != nil {
			return err
		}
		fmt.Println(at)
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve() }()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return err
	}
}
