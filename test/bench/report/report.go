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
	// Foreign is the part of the cores that other programs used meanwhile; Attempts is the runs that this was the calmest of.
	Foreign  float64 `json:"foreign"`
	Attempts int     `json:"attempts"`
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
	LogLost int64 `json:"logLost,omitempty"`
	// Errors are those of all attempts, warm-up included.
	Errors load.Errors `json:"errors"`
}

// PerSecond is the answers a second.
func (s Sample) PerSecond() float64 { return quotient(float64(s.Answers), s.Elapsed.Seconds()) }

// CPUEach is the processor time of one answer, in µs.
func (s Sample) CPUEach() float64 { return s.each(s.CPU) }

// UserEach is the part of CPUEach outside the kernel. The kernel samples the proportion and counts the sum.
func (s Sample) UserEach() float64 {
	return s.each(s.CPU) * quotient(s.User.Seconds(), (s.User+s.System).Seconds())
}

// SystemEach is the part of CPUEach in the kernel.
func (s Sample) SystemEach() float64 {
	return s.each(s.CPU) * quotient(s.System.Seconds(), (s.User+s.System).Seconds())
}

func (s Sample) each(d time.Duration) float64 {
	return quotient(float64(d.Nanoseconds())/1e3, float64(s.Answers))
}

// Busy is the part of its core that the proxy used.
func (s Sample) Busy() float64 { return quotient(s.CPU.Seconds(), s.Elapsed.Seconds()) }

// LoadBusy is the part of a core that load and backends used.
func (s Sample) LoadBusy() float64 { return quotient(s.LoadCPU.Seconds(), s.Elapsed.Seconds()) }

// P50Millis is the median latency in ms.
func (s Sample) P50Millis() float64 { return s.P50.Seconds() * 1e3 }

// P99Millis is the latency in ms that one of a hundred exceeds.
func (s Sample) P99Millis() float64 { return s.P99.Seconds() * 1e3 }

// MemoryMB is the resident memory in 10^6 bytes.
func (s Sample) MemoryMB() float64 { return float64(s.Resident) / 1e6 }

// IdleBytes is the memory of an idle connection.
func (s Sample) IdleBytes() float64 { return s.Idle }

// quotient is a/b, and 0 where there is nothing to divide by.
func quotient(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// String is one line of progress.
func (s Sample) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s", s.Peer)
	if s.Idle != 0 {
		fmt.Fprintf(&b, " %7.0f bytes each", s.Idle)
	} else {
		fmt.Fprintf(&b, " %7.0f/s  %.2f µs CPU  p50 %.2f ms  p99 %.2f ms", s.PerSecond(), s.CPUEach(), s.P50Millis(), s.P99Millis())
	}
	fmt.Fprintf(&b, "  %.1f MB  proxy's core %.0f%%, load's %.0f%%, others %.0f%%", s.MemoryMB(), 100*s.Busy(), 100*s.LoadBusy(), 100*s.Foreign)
	if s.Unanswered > 0 {
		fmt.Fprintf(&b, "  %d unanswered", s.Unanswered)
	}
	if n := s.Errors.Sum(); n > 0 {
		fmt.Fprintf(&b, "  %d ERRORS: %s", n, s.Errors.First)
	}
	return b.String()
}

// A Peer is a proxy that took part.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// Kind is what is of interest in a workload.
type Kind string

// The kinds.
const (
	// Closed is a load as large as the proxy takes.
	Closed Kind = "closed"
	// Rated is a load with a rate.
	Rated Kind = "rated"
	// Idle is connections on which nothing happens.
	Idle Kind = "idle"
)

// A Workload is one kind of load.
type Workload struct {
	Name string `json:"name"`
	What string `json:"what"`
	Kind Kind   `json:"kind"`
	// Mode is what the clients speak.
	Mode string `json:"mode,omitempty"`
	// Logged says that the proxies write access logs.
	Logged bool `json:"logged,omitempty"`
}

// A Machine is where it was measured, and how.
type Machine struct {
	Began     time.Time `json:"began"`
	Kernel    string    `json:"kernel"`
	Processor string    `json:"processor"`
	Cores     string    `json:"cores"`
	Go        string    `json:"go"`
	Command   string    `json:"command"`
}

// Results are all samples, and what they are of.
type Results struct {
	Machine   Machine    `json:"machine"`
	Peers     []Peer     `json:"peers"`
	Absent    []string   `json:"absent,omitempty"`
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

// Ratio returns a number of one peer relative to that of another, run by run: what the machine did in the meantime happened
// to both. ok is false where there are no such runs.
func (r *Results) Ratio(workload, peer, to string, number func(Sample) float64) (ratio measure.Spread, ok bool) {
	base := map[int]float64{}
	for _, s := range r.Samples {
		if s.Workload == workload && s.Peer == to {
			base[s.Run] = number(s)
		}
	}
	var values []float64
	for _, s := range r.Samples {
		if b := base[s.Run]; s.Workload == workload && s.Peer == peer && b != 0 {
			values = append(values, number(s)/b)
		}
	}
	return measure.SpreadOf(values), len(values) > 0
}
