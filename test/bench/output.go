package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/test/bench/report"
)

// describe begins the results with what is known before the first run.
func (s *stand) describe() *report.Results {
	r := &report.Results{Absent: s.absent, Machine: report.Machine{
		Began: time.Now(), Kernel: kernel(), Processor: processor(), Go: runtime.Version(), Command: strings.Join(os.Args, " "),
		Cores: fmt.Sprintf("proxy on core %d, load on core %d, backends on core %d", s.cores.proxy, s.cores.load, s.cores.backend),
	}}
	for _, p := range s.peers {
		r.Peers = append(r.Peers, report.Peer{Name: p.Name, Version: p.Describe()})
	}
	return r
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOOS
	}
	return "Linux " + string(bytes.TrimRight(u.Release[:], "\x00"))
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// errBar is what -strict ends with.
var errBar = errors.New("a bar was not met")

// report writes what people read, and the raw numbers.
func (o *options) report(r *report.Results, out io.Writer) error {
	bars := report.Bars(r)
	if err := report.Text(out, r, bars); err != nil {
		return err
	}
	if o.json != "" {
		if err := report.WriteFile(o.json, r, bars); err != nil {
			return err
		}
		fmt.Fprintln(o.progress, "bench: raw numbers in", o.json)
	}
	if o.strict {
		for _, b := range bars {
			if b.Missing == "" && !b.Pass() {
				return errBar
			}
		}
	}
	return nil
}
