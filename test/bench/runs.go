package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"podlane.dev/podlane/test/bench/measure"
	"podlane.dev/podlane/test/bench/peers"
	"podlane.dev/podlane/test/bench/report"
)

// runAll makes all runs of all workloads. Within a workload the proxies take turns, so that what happens to the machine meanwhile
// happens to all of them. When ctx ends, what has been measured is returned with its error.
func (s *stand) runAll(ctx context.Context) (*report.Results, error) {
	list, err := chosen(s.o.workloads)
	if err != nil {
		return nil, err
	}
	results := s.describe()
	done, total := 0, 0
	for _, w := range list {
		total += w.runs(s.o.runs) * len(s.peers)
	}
	for _, w := range list {
		if err := s.setRate(ctx, w, results); err != nil {
			return results, err
		}
		results.Workloads = append(results.Workloads, report.Workload{Name: w.name, What: w.what, Kind: w.kind, Mode: w.mode.String(), Logged: w.logged})
		for run := 1; run <= w.runs(s.o.runs); run++ {
			for _, p := range inTurn(s.peers, run) {
				sample, err := s.settled(ctx, w, p, run)
				if err != nil {
					return results, err
				}
				done++
				fmt.Fprintf(s.o.progress, "bench: [%d/%d] %s run %d  %s\n", done, total, w.name, run, sample)
				results.Samples = append(results.Samples, sample)
			}
		}
	}
	return results, nil
}

// inTurn returns list beginning with another member each run. Who comes first, second and third is not alike: the same program differed by a fifth.
func inTurn[T any](list []T, run int) []T {
	at := run % max(len(list), 1)
	return slices.Concat(list[at:], list[:at])
}

// settled makes one run, and makes it again while other programs disturb it. The calmest counts; errors count of all.
func (s *stand) settled(ctx context.Context, w workload, p peers.Peer, run int) (report.Sample, error) {
	var best report.Sample
	for attempt := range s.o.retries + 1 {
		if err := s.awaitCalm(ctx); err != nil {
			return best, err
		}
		sample, err := s.once(ctx, w, p, run)
		if err != nil {
			return best, err
		}
		errs := sample.Errors.Add(best.Errors)
		if attempt == 0 || sample.Foreign < best.Foreign {
			best = sample
		}
		best.Errors, best.Attempts = errs, attempt+1
		if 100*best.Foreign <= s.o.calm {
			break
		}
	}
	return best, nil
}

// awaitCalm waits until other programs leave the cores alone, at most for as long as the options say.
func (s *stand) awaitCalm(ctx context.Context) error {
	const look = 500 * time.Millisecond
	for deadline := time.Now().Add(s.o.wait); ctx.Err() == nil && time.Now().Before(deadline); {
		before, err := measure.Cores()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
		after, err := measure.Cores()
		if err != nil {
			return err
		}
		// Nothing of this benchmark runs now, so that what is busy are others.
		if busy := after.Of(before, s.cores.distinct()...); 100*busy.Seconds()/look.Seconds()/float64(len(s.cores.distinct())) <= s.o.calm {
			return nil
		}
	}
	return ctx.Err()
}

// share is the part of nginx's maximum that workloads with a rate offer.
const share = 0.7

// setRate decides what a workload with a rate offers: what the flag says, or a share of nginx's maximum.
func (s *stand) setRate(ctx context.Context, w workload, results *report.Results) error {
	if w.rateOf == "" {
		return nil
	}
	if s.o.rate > 0 {
		s.rates[w.name] = s.o.rate
		return nil
	}
	most := results.Of(w.rateOf, s.reference.Name, report.Sample.PerSecond).Median
	if most == 0 {
		base, err := find(w.rateOf)
		if err != nil {
			return err
		}
		sample, err := s.settled(ctx, base, s.reference, 0)
		if err != nil {
			return err
		}
		most = sample.PerSecond()
	}
	return s.setRateFrom(w, most)
}

// setRateFrom sets the rate of a workload to a share of a maximum.
func (s *stand) setRateFrom(w workload, most float64) error {
	if most == 0 {
		return fmt.Errorf("%s did nothing at %s, of which %s offers a part", s.reference.Name, w.rateOf, w.name)
	}
	s.rates[w.name] = share * most
	fmt.Fprintf(s.o.progress, "bench: %s offers %.0f requests/s: %.0f%% of %s's %.0f\n", w.name, share*most, 100*share, s.reference.Name, most)
	return nil
}
