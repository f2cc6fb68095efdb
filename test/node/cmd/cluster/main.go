// Command cluster runs a real Kubernetes of one node on this machine, with Podlane in it: see package node. It needs root, and Debian or
// the programs runc, nft and busybox.
//
//	cluster up                 bring one up, install the chart and the samples, say how to reach them, and stay until Ctrl-C
//	cluster down               end one that runs elsewhere, and remove what is left of one that was killed
//	cluster enter [COMMAND]    a shell, or a command, where the cluster's users are
//	cluster run -- COMMAND     bring one up for a command, with KUBECONFIG set, and take it down when the command has ended
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"podlane.dev/podlane/test/cluster/sandbox"
)

const usage = `usage: cluster up [-dir DIR] [-http ADDRESS] [-https ADDRESS]
       cluster down [-dir DIR]
       cluster enter [-dir DIR] [COMMAND...]
       cluster run -- COMMAND...
`

func main() {
	var code int
	var err error
	if sandbox.Inside() {
		code, err = inside()
	} else {
		code, err = outside(os.Args[1:])
	}
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// A command line is what the user asked for.
type commandLine struct {
	verb, dir   string
	http, https string
	rest        []string
}

func parse(args []string) (commandLine, error) {
	c := commandLine{}
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	f.StringVar(&c.dir, "dir", filepath.Join(os.TempDir(), "podlane-cluster"), "where the cluster keeps what it has; a short path")
	f.StringVar(&c.http, "http", "127.0.0.1:8080", "where this machine reaches port 80 of Podlane")
	f.StringVar(&c.https, "https", "127.0.0.1:8443", "where this machine reaches port 443 of Podlane")
	if len(args) == 0 {
		f.Usage()
		return c, flag.ErrHelp
	}
	c.verb = args[0]
	if err := f.Parse(args[1:]); err != nil {
		return c, errors.Join(flag.ErrHelp, err)
	}
	c.rest = f.Args()
	var err error
	c.dir, err = filepath.Abs(c.dir)
	return c, err
}

func outside(args []string) (int, error) {
	c, err := parse(args)
	if err != nil {
		return 0, err
	}
	switch {
	case c.verb == "up" && len(c.rest) == 0:
		return up(c)
	case c.verb == "down" && len(c.rest) == 0:
		return 0, down(c.dir)
	case c.verb == "enter":
		return enter(c)
	case c.verb == "run" && len(c.rest) > 0:
		return run(c)
	}
	fmt.Fprint(os.Stderr, usage)
	return 0, fmt.Errorf("cannot follow %q", args)
}
