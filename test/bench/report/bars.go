package report

import "fmt"

// A Bar is a promise that numbers keep or break.
type Bar struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	// Limit is the most that Value may be, or, with AtLeast, the least.
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"atLeast,omitempty"`
	// Missing says why there is no value.
	Missing string `json:"missing,omitempty"`
}

// Pass reports whether the numbers keep the promise. A bar without a value is neither kept nor broken.
func (b Bar) Pass() bool {
	if b.AtLeast {
		return b.Value >= b.Limit
	}
	return b.Value <= b.Limit
}

// Verdict is PASS, FAIL, or that there is nothing to judge.
func (b Bar) Verdict() string {
	switch {
	case b.Missing != "":
		return "no value"
	case b.Pass():
		return "PASS"
	default:
		return "FAIL"
	}
}

// String is the bar's line.
func (b Bar) String() string {
	if b.Missing != "" {
		return fmt.Sprintf("%-9s %s: %s", b.Verdict(), b.Name, b.Missing)
	}
	sign := "≤"
	if b.AtLeast {
		sign = "≥"
	}
	return fmt.Sprintf("%-9s %s: %.4g%s, bar %s %g%s", b.Verdict(), b.Name, b.Value, b.Unit, sign, b.Limit, b.Unit)
}

// Ours is the peer whose promises the bars are.
const Ours = "podlane"

// Bars judges the results. Ratios are the medians of the runs' ratios.
func Bars(r *Results) []Bar {
	return []Bar{
		r.ratioBar("CPU per request, small GET, 64 connections, podlane/nginx", ratioOf{"small-64", Ours, "nginx", Sample.CPUEach}, 1),
		r.ratioBar("CPU per request, small GET, 64 connections, podlane/haproxy", ratioOf{"small-64", Ours, "haproxy", Sample.CPUEach}, 1),
		atLeast(r.ratioBar("CPU per request, small GET, 64 connections, reverseproxy/podlane", ratioOf{"small-64", "reverseproxy", Ours, Sample.CPUEach}, 3.5)),
		r.ratioBar("p99 at 70% of nginx's maximum, 512 connections, podlane/nginx", ratioOf{"rate-512", Ours, "nginx", Sample.P99Millis}, 1),
		r.idleBar(),
		r.errorBar(),
	}
}

// ratioOf is what a ratio is of.
type ratioOf struct {
	workload, peer, to string
	number             func(Sample) float64
}

func (r *Results) ratioBar(name string, of ratioOf, limit float64) Bar {
	b := Bar{Name: name, Limit: limit}
	ratio, ok := r.Ratio(of.workload, of.peer, of.to, of.number)
	if b.Value = ratio.Median; !ok {
		b.Missing = fmt.Sprintf("no runs of %s and %s at %s", of.peer, of.to, of.workload)
	}
	return b
}

func atLeast(b Bar) Bar {
	b.AtLeast = true
	return b
}

func (r *Results) idleBar() Bar {
	b := Bar{Name: "memory of an idle connection", Limit: 5000, Unit: " bytes", Value: r.Of("idle", Ours, Sample.IdleBytes).Median}
	if b.Value == 0 {
		b.Missing = "no runs of podlane at idle"
	}
	return b
}

// errorBar counts all of our failures.
func (r *Results) errorBar() Bar {
	b := Bar{Name: "errors of podlane in all runs", Missing: "no runs of podlane"}
	for _, s := range r.Samples {
		if s.Peer == Ours {
			b.Value += float64(s.Errors.Sum())
			b.Missing = ""
		}
	}
	return b
}
