package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/bench/load"
)

// example is two proxies at two workloads, three runs each: ours costs half of nginx's.
func example() *Results {
	r := &Results{
		Machine:   Machine{Kernel: "Linux 6", Processor: "P", Go: "go1", Cores: "two", Command: "bench"},
		Peers:     []Peer{{Name: "nginx", Version: "1.2"}, {Name: "podlane"}},
		Absent:    []string{"caddy: not installed"},
		Workloads: []Workload{{Name: "small-64", What: "GET", Kind: Closed, Mode: "plain"}, {Name: "idle", What: "nothing", Kind: Idle, Mode: "other"}},
	}
	for run := 1; run <= 3; run++ {
		for i, peer := range []string{"nginx", "podlane"} {
			cpu := time.Second / time.Duration(1+i) * time.Duration(run)
			r.Samples = append(r.Samples, Sample{
				Workload: "small-64", Peer: peer, Run: run, Answers: 100_000, Elapsed: 2 * time.Second, CPU: cpu, User: cpu / 4, System: cpu * 3 / 4,
				LoadCPU: time.Second, P50: time.Millisecond, P99: 5 * time.Millisecond / time.Duration(1+i), Resident: 20e6, Foreign: 0.01,
			}, Sample{Workload: "idle", Peer: peer, Run: run, Answers: 10, Elapsed: time.Second, Idle: float64(500 * (1 + 9*i)), Resident: 30e6})
		}
	}
	return r
}

func TestSample(t *testing.T) {
	t.Parallel()
	s := Sample{Answers: 1000, Elapsed: 2 * time.Second, CPU: time.Second, User: 250 * time.Millisecond, System: 760 * time.Millisecond, LoadCPU: 500 * time.Millisecond}
	if got := s.PerSecond(); got != 500 {
		t.Errorf("%v answers a second, want 500", got)
	}
	if got := s.CPUEach(); got != 1000 {
		t.Errorf("%v µs each, want 1000", got)
	}
	// The parts are the sampled proportion of the exact sum.
	if sum := s.UserEach() + s.SystemEach(); sum < 999.99 || sum > 1000.01 || s.UserEach() > 250 {
		t.Errorf("user %v and system %v are %v", s.UserEach(), s.SystemEach(), sum)
	}
	if s.Busy() != 0.5 || s.LoadBusy() != 0.25 {
		t.Errorf("cores %v and %v, want 0.5 and 0.25", s.Busy(), s.LoadBusy())
	}
	if none := (Sample{}); none.PerSecond() != 0 || none.CPUEach() != 0 || none.UserEach() != 0 {
		t.Error("no answers cost something")
	}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	r := example()
	got, ok := r.Ratio("small-64", "podlane", "nginx", Sample.CPUEach)
	if !ok || got.Median != 0.5 || got.Min != 0.5 || got.Max != 0.5 {
		t.Errorf("podlane/nginx = %v, %v; want 0.5 in each run, though runs differ", got, ok)
	}
	if _, ok := r.Ratio("small-64", "podlane", "haproxy", Sample.CPUEach); ok {
		t.Error("a ratio to a proxy that did not run")
	}
}

func TestBars(t *testing.T) {
	t.Parallel()
	r := example()
	bars := Bars(r)
	const none = "no value"
	// The last two are of the modes: 300,000 requests are enough, 30 are not.
	want := []string{"PASS", none, none, none, none, none, none, none, "PASS", none, "PASS", "PASS", none}
	if len(bars) != len(want) {
		t.Fatalf("%d bars, want %d", len(bars), len(want))
	}
	for i, b := range bars {
		if b.Verdict() != want[i] {
			t.Errorf("%s: want %s", b, want[i])
		}
	}
	r.Samples[2].Errors = load.Errors{Status: 1, First: "status 500"} // podlane's
	r.Samples[3].Errors = load.Errors{Closed: 1}
	for i := range r.Samples {
		if r.Samples[i].Peer == "podlane" {
			r.Samples[i].CPU *= 3
			r.Samples[i].Idle++
		}
	}
	for i, b := range Bars(r) {
		if last := i == len(want)-1; (want[i] == "PASS" || last) && b.Verdict() != "FAIL" {
			t.Errorf("%s: want FAIL, of a mode however few its requests are", b)
		}
	}
	least := Bar{Value: 3.4, Limit: 3.5, AtLeast: true}
	if least.Pass() {
		t.Errorf("%s", least)
	}
	if least.Value = 3.5; !least.Pass() {
		t.Errorf("%s", least)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	r := example()
	r.Samples[0].Errors = load.Errors{Closed: 2, First: "reset"}
	r.Samples[4].Errors = load.Errors{Closed: 3, First: "reset"}
	r.Peers = append(r.Peers, Peer{Name: "late"})
	var out strings.Builder
	if err := Text(&out, r, Bars(r)); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"P, Linux 6, go1; two\nbench\n",
		"nginx          1.2\n",
		"left out: caddy: not installed\n",
		"small-64: GET; runs: 3\n",
		"| proxy   |             requests/s |      CPU µs/request | user | system |",
		"| nginx   | 50,000 (50,000–50,000) | 20.00 (10.00–30.00) | 5.00 |  15.00 |",
		"| podlane | 50,000 (50,000–50,000) |  10.00 (5.00–15.00) | 2.50 |   7.50 |",
		"| podlane | 5,000 (5,000–5,000) |",
		"| late    |                      – |                   – |    – |",
		"| small-64 |        CPU | 1.00 · – |  0.50 · – | – · – |\n",
		"| small-64 | CPU, least | 1.00 · – |  0.50 · – | – · – |\n",
		"| idle     |     memory | 1.00 · – | 10.00 · – | – · – |\n",
		"PASS      CPU per request, small GET, 64 connections, podlane/nginx: 0.5, bar ≤ 1\n",
		"PASS      memory of an idle connection: 5000 bytes, bar ≤ 5000 bytes\n",
		"PASS      errors of podlane in 300,000 requests, plain: 0, bar ≤ 0\n",
		"no value  errors of podlane in 30 requests, other: 0, of fewer than 100,000\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// The errors of two runs, 2 and 3, are added.
	_, row, _ := strings.Cut(text, "| nginx   | 50,000")
	row, _, _ = strings.Cut(row, "\n")
	if cells := strings.Split(row, "|"); strings.TrimSpace(cells[len(cells)-2]) != "5" {
		t.Errorf("5 errors are shown as %q", row)
	}
}

// TestColumns: a workload's table shows what it is about.
func TestColumns(t *testing.T) {
	t.Parallel()
	titles := func(w Workload) string {
		var all []string
		for _, c := range w.columns() {
			all = append(all, c.title)
		}
		return strings.Join(all, ", ")
	}
	closed := titles(Workload{Kind: Closed})
	for _, c := range []struct {
		w       Workload
		has     string
		without string
	}{
		{Workload{Kind: Closed}, "p99 ms", "unanswered"},
		{Workload{Kind: Rated}, "unanswered", "log lines lost"},
		{Workload{Kind: Closed, Logged: true}, "log lines lost", "unanswered"},
		{Workload{Kind: Idle}, "bytes/connection", "p99 ms"},
	} {
		got := titles(c.w)
		if !strings.Contains(got, c.has) || strings.Contains(got, c.without) || !strings.HasSuffix(got, "errors") {
			t.Errorf("%+v has the columns %s; a closed one %s", c.w, got, closed)
		}
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]string{
		"0": "0", "999": "999", "1000": "1,000", "1234567": "1,234,567", "-1234.56": "-1,234.56", "-12": "-12", "12345.6": "12,345.6",
	} {
		if got := group(number); got != want {
			t.Errorf("group(%s) = %s, want %s", number, got, want)
		}
	}
}

// TestWriteFile: the raw numbers are what a program needs to compute everything anew.
func TestWriteFile(t *testing.T) {
	t.Parallel()
	r := example()
	path := filepath.Join(t.TempDir(), "made", "bench.json")
	if err := WriteFile(path, r, Bars(r)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Results
		Bars []Bar `json:"bars"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Samples) != len(r.Samples) || got.Samples[3] != r.Samples[3] || len(got.Bars) != len(Bars(r)) || got.Machine != r.Machine {
		t.Errorf("read back %+v", got)
	}
}
