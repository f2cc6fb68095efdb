package report

import (
	"fmt"
	"slices"
)

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
	return fmt.Sprintf("%-9s %s: %.5g%s, bar %s %g%s", b.Verdict(), b.Name, b.Value, b.Unit, sign, b.Limit, b.Unit)
}

// Ours is the peer whose promises the bars are.
const Ours = "podlane"

// Bars judges the results. Ratios are the medians of the runs' ratios.
func Bars(r *Results) []Bar {
	bars := []Bar{
		r.ratioBar("CPU per request, small GET, 64 connections, podlane/nginx", ratioOf{"small-64", Ours, "nginx", Sample.CPUEach}, 1),
		r.ratioBar("CPU per request, small GET, 64 connections, podlane/haproxy", ratioOf{"small-64", Ours, "haproxy", Sample.CPUEach}, 1),
		atLeast(r.ratioBar("CPU per request, small GET, 64 connections, reverseproxy/podlane", ratioOf{"small-64", "reverseproxy", Ours, Sample.CPUEach}, 3.5)),
		r.ratioBar("p99 at 70% of nginx's maximum, 512 connections, podlane/nginx", ratioOf{"rate-512", Ours, "nginx", Sample.P99Millis}, 1),
		r.ratioBar("CPU per request, HTTP/1.1 over TLS, podlane/nginx", ratioOf{"tls-64", Ours, "nginx", Sample.CPUEach}, 0.95),
		r.ratioBar("CPU per request, HTTP/2 over TLS, podlane/nginx", ratioOf{"h2-16x16", Ours, "nginx", Sample.CPUEach}, 0.8),
		r.ratioBar("CPU per request, HTTP/2 over TLS, podlane/haproxy", ratioOf{"h2-16x16", Ours, "haproxy", Sample.CPUEach}, 1),
		r.ratioBar("CPU per full handshake, podlane/nginx", ratioOf{"handshake", Ours, "nginx", Sample.CPUEach}, 1.1),
		r.idleBar("memory of an idle connection", "idle", 5000),
		r.idleBar("memory of an idle connection over TLS", "idle-tls", 15_000),
		r.errorBar(),
	}
	return append(bars, r.modeBars()...)
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

func (r *Results) idleBar(name, workload string, limit float64) Bar {
	b := Bar{Name: name, Limit: limit, Unit: " bytes", Value: r.Of(workload, Ours, Sample.IdleBytes).Median}
	if b.Value == 0 {
		b.Missing = "no runs of podlane at " + workload
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

// enough is how many requests of a mode have to be without errors.
const enough = 100_000

// modeBars count our failures by what the clients spoke, where they asked often enough that none means something.
func (r *Results) modeBars() []Bar {
	var bars []Bar
	var seen []string
	for _, w := range r.Workloads {
		if !slices.Contains(seen, w.Mode) {
			seen = append(seen, w.Mode)
			bars = append(bars, r.modeBar(w.Mode))
		}
	}
	return bars
}

func (r *Results) modeBar(mode string) Bar {
	var answers, failures uint64
	for _, s := range r.Samples {
		of := slices.ContainsFunc(r.Workloads, func(w Workload) bool { return w.Name == s.Workload && w.Mode == mode })
		if of && s.Peer == Ours {
			answers += s.Answers
			failures += s.Errors.Sum()
		}
	}
	b := Bar{Name: fmt.Sprintf("errors of podlane in %s requests, %s", group(fmt.Sprint(answers)), mode), Value: float64(failures)}
	if answers < enough && failures == 0 {
		b.Missing = "0, of fewer than " + group(fmt.Sprint(enough))
	}
	return b
}
