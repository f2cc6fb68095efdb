// Package report turns the samples of a benchmark into what people read, and into a file that programs read. It measures nothing.
package report

import (
	"fmt"
	"strings"
	"time"

	"podlane.dev/podlane/test/bench/load"
	"podlane.dev/podlane/test/bench/measure"
)

// A Sample is what one run gave.
type Sample struct {
	Workload string    `json:"workload"`
	Peer     string    `json:"peer"`
	Run      int       `json:"run"`
	Began    time.Time `json:"began"`
	// Answers came within Elapsed, whole and right.
	Answers uint64        `json:"answers"`
	Elapsed time.Duration `json:"elapsedNs"`
	// CPU is what the proxy used meanwhile; User and System are its parts as far as the kernel knows them.
	CPU    time.Duration `json:"cpuNs"`
	User   time.Duration `json:"userNs"`
	System time.Duration `json:"systemNs"`
	// LoadCPU is what load and backends used meanwhile.
	LoadCPU time.Duration `json:"loadCpuNs"`
	// Latencies.
	P50 time.Duration `json:"p50Ns"`
	P99 time.Duration `json:"p99Ns"`
	Max time.Duration `json:"maxNs"`
	// Offered is the requests/s of a load with a rate, 0 else; Unanswered those that were due and never answered.
	Offered    float64 `json:"offered,omitempty"`
	Unanswered uint64  `json:"unanswered,omitempty"`
	// Resident and Proportional are the proxy's memory at the end, in bytes.
	Resident     int64 `json:"residentBytes"`
	Proportional int64 `json:"proportionalBytes"`
	// Idle is the memory of one idle connection, in bytes, where that is what was measured.
	Idle float64 `json:"idleBytes,omitempty"`
	// LogLost is the requests that the access log lacks.
	LogLost int64       `json:"logLost,omitempty"`
	Errors  load.Errors `json:"errors"`
}

// PerSecond is the answers a second.
func (s Sample) PerSecond() float64 { return ratio(float64(s.Answers), s.Elapsed.Seconds()) }

// Each is a share of d that falls on one answer, in µs.
func (s Sample) Each(d time.Duration) float64 {
	return ratio(float64(d.Nanoseconds())/1e3, float64(s.Answers))
}

// Busy is the part of its core that the proxy used.
func (s Sample) Busy() float64 { return ratio(s.CPU.Seconds(), s.Elapsed.Seconds()) }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// String is one line of progress.
func (s Sample) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s %7.0f/s  cpu %.2f µs (core %.0f%%, load's %.0f%%)  p50 %s  p99 %s  rss %.1f MB", s.Peer, s.PerSecond(), s.Each(s.CPU),
		100*s.Busy(), 100*ratio(s.LoadCPU.Seconds(), s.Elapsed.Seconds()), s.P50.Round(time.Microsecond), s.P99.Round(time.Microsecond), float64(s.Resident)/1e6)
	if n := s.Errors.Sum(); n > 0 {
		fmt.Fprintf(&b, "  %d ERRORS: %s", n, s.Errors.First)
	}
	return b.String()
}

// A Peer is a proxy that took part.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// A Workload is one kind of load.
type Workload struct {
	Name string `json:"name"`
	What string `json:"what"`
}

// Results are all samples, and what they are of.
type Results struct {
	Peers     []Peer     `json:"peers"`
	Workloads []Workload `json:"workloads"`
	Samples   []Sample   `json:"samples"`
}

// Of returns a number of each run of a peer at a workload.
func (r *Results) Of(workload, peer string, number func(Sample) float64) measure.Spread {
	var values []float64
	for _, s := range r.Samples {
		if s.Workload == workload && s.Peer == peer {
			values = append(values, number(s))
		}
	}
	return measure.SpreadOf(values)
}
