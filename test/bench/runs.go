package main

import (
	"context"
	"fmt"

	"podlane.dev/podlane/test/bench/report"
)

// runAll makes all runs of all workloads. Within a workload the proxies take turns, so that what happens to the machine meanwhile
// happens to all of them.
func (s *stand) runAll(ctx context.Context) (*report.Results, error) {
	list, err := chosen(s.o.workloads)
	if err != nil {
		return nil, err
	}
	results := &report.Results{}
	for _, p := range s.peers {
		results.Peers = append(results.Peers, report.Peer{Name: p.Name, Version: p.Describe()})
	}
	done, total := 0, len(list)*s.o.runs*len(s.peers)
	for _, w := range list {
		results.Workloads = append(results.Workloads, report.Workload{Name: w.name, What: w.what})
		for run := 1; run <= s.o.runs; run++ {
			for _, p := range s.peers {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				sample, err := s.once(ctx, w, p, run)
				if err != nil {
					return nil, err
				}
				done++
				fmt.Fprintf(s.o.progress, "bench: [%d/%d] %s run %d  %s\n", done, total, w.name, run, sample)
				results.Samples = append(results.Samples, sample)
			}
		}
	}
	return results, nil
}
