package main

import (
	"fmt"
	"io"

	"podlane.dev/podlane/test/bench/report"
)

// report writes what people read.
func (o *options) report(r *report.Results, out io.Writer) error {
	for _, w := range r.Workloads {
		for _, p := range r.Peers {
			s := r.Of(w.Name, p.Name, func(s report.Sample) float64 { return s.Each(s.CPU) })
			fmt.Fprintf(out, "%s %s %.2f (%.2f-%.2f)\n", w.Name, p.Name, s.Median, s.Min, s.Max)
		}
	}
	return nil
}
