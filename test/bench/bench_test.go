package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/bench/measure"
	"podlane.dev/podlane/test/bench/peers"
	"podlane.dev/podlane/test/bench/report"
)

// TestSmoke runs the whole of it with what needs no package: for a second each, so that its numbers mean little, but that
// Podlane makes no error.
func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	names := []string{small64, rate512, upload1m, connect, tls64, h2x256, handshake, idle, idleTLS, websocket, small64 + withLog}
	raw := filepath.Join(t.TempDir(), "raw", "bench.json")
	var progress, out bytes.Buffer
	o, err := parse([]string{
		"-peers", "podlane,reverseproxy", "-only", strings.Join(names, ","), "-runs", "1", "-duration", "1s", "-warmup", "100ms", "-quiet", "100ms",
		"-idle", "100", "-rate", "500", "-retries", "0", "-json", raw,
	}, &progress)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	t.Logf("%s\n%s", &progress, &out)
	text, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	var results report.Results
	if err := json.Unmarshal(text, &results); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		for _, peer := range []string{"podlane", "reverseproxy"} {
			at := slices.IndexFunc(results.Samples, func(s report.Sample) bool { return s.Workload == name && s.Peer == peer })
			if at < 0 {
				t.Errorf("there is no sample of %s at %s", peer, name)
				continue
			}
			checkSample(t, results.Samples[at])
		}
		if !strings.Contains(out.String(), "\n"+name+": ") {
			t.Errorf("there is no table of %s", name)
		}
	}
	if len(results.Samples) != 2*len(names) {
		t.Errorf("%d samples, want %d", len(results.Samples), 2*len(names))
	}
	if !strings.Contains(out.String(), "PASS      errors of podlane in all runs: 0") {
		t.Errorf("no verdict on errors in\n%s", &out)
	}
	if left, err := os.ReadDir(dir); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "podlane-bench") }) {
		t.Errorf("%v is left, %v", left, err)
	}
	if tree, err := measure.Tree(os.Getpid()); err != nil || len(tree) != 1 {
		t.Errorf("processes are left: %v, %v", tree, err)
	}
}

func checkSample(t *testing.T, s report.Sample) {
	t.Helper()
	// The system counts CPU time in hundredths of a second: of connections that idle for a moment it may see nothing.
	worked := s.CPU > 0 && s.LoadCPU > 0 || s.Workload == idle || s.Workload == idleTLS
	if s.Answers == 0 || s.Elapsed <= 0 || !worked || s.Resident <= 0 || s.P99 < s.P50 || s.P50 <= 0 {
		t.Errorf("not everything was measured: %+v", s)
	}
	if s.Errors.Sum() != 0 || s.LogLost != 0 || s.Unanswered != 0 {
		t.Errorf("%s at %s: %+v, %d unanswered, %d log lines lost", s.Peer, s.Workload, s.Errors, s.Unanswered, s.LogLost)
	}
	if rated := s.Workload == rate512; rated != (s.Offered == 500) {
		t.Errorf("%s offers %v requests/s", s.Workload, s.Offered)
	}
	if (s.Workload == idle || s.Workload == idleTLS) && s.Answers != 100 {
		t.Errorf("%d of 100 idle connections answered", s.Answers)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	o, err := parse([]string{"-only", "idle,connect", "-only", "small-64", "-peers", "nginx", "-podlane", "old=/x/podlane", "-runs", "2", "-strict"}, &help)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.workloads.String(); got != "idle,connect,small-64" || o.peers.String() != "nginx" || o.builds.String() != "old=/x/podlane" || o.runs != 2 || !o.strict {
		t.Errorf("%+v", o)
	}
	if o.duration != 2*time.Second || o.warmup != 500*time.Millisecond || o.quiet != 10*time.Second || o.json != "dist/bench-peers.json" || o.idle != 10000 {
		t.Errorf("defaults %+v", o)
	}
	for _, wrong := range [][]string{
		{"-only", "large"}, {"-runs", "0"}, {"-duration", "0s"}, {"-warmup", "-1s"}, {"-idle", "20000"}, {"-rate", "-1"}, {"-podlane", "x"}, {"-calm", "-1"}, {"small-64"},
	} {
		if _, err := parse(wrong, io.Discard); err == nil {
			t.Errorf("%v is accepted", wrong)
		}
	}
	help.Reset()
	if _, err := parse([]string{"-help"}, &help); err == nil || !strings.Contains(help.String(), "websocket ") || !strings.Contains(help.String(), "-duration") {
		t.Errorf("%v, help:\n%s", err, &help)
	}
}

// TestWorkloads: names are unique, and each that has a rate has it of one that is there and logs as it does.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, w := range workloads() {
		if seen[w.name] {
			t.Errorf("%s is there twice", w.name)
		}
		seen[w.name] = true
		if (w.rateOf != "") != (w.kind == report.Rated) || strings.HasSuffix(w.name, withLog) != w.logged {
			t.Errorf("%+v", w)
		}
		if w.rateOf == "" {
			continue
		}
		if base, err := find(w.rateOf); err != nil || base.logged != w.logged || base.kind != report.Closed {
			t.Errorf("%s has the rate of %+v, %v", w.name, base, err)
		}
	}
	for name, want := range map[string]int{small64: 11, h2x256: 11, idle: 3, idleTLS: 3} {
		if w, err := find(name); err != nil || w.runs(11) != want || w.runs(1) != 1 {
			t.Errorf("%s runs %d times of 11, %v", name, w.runs(11), err)
		}
	}
	list, err := chosen([]string{idle, small64})
	if err != nil || len(list) != 2 || list[0].name != small64 {
		t.Errorf("chosen = %v, %v", list, err)
	}
}

// TestRate: a workload with a rate offers a part of nginx's most, or what the flag says.
func TestRate(t *testing.T) {
	t.Parallel()
	var progress bytes.Buffer
	s := &stand{o: &options{progress: &progress}, rates: map[string]float64{}, reference: peers.NGINX()}
	results := &report.Results{}
	for i, answers := range []uint64{10_000, 30_000, 20_000} {
		results.Samples = append(results.Samples, report.Sample{Workload: small512, Peer: "nginx", Run: i + 1, Answers: answers, Elapsed: time.Second})
	}
	w, err := find(rate512)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.setRate(t.Context(), w, results); err != nil || s.rates[rate512] != 14_000 {
		t.Errorf("the rate is %v, %v; want 70%% of 20,000", s.rates[rate512], err)
	}
	s.o.rate = 1234
	if err := s.setRate(t.Context(), w, results); err != nil || s.rates[rate512] != 1234 {
		t.Errorf("the rate is %v, %v; want the flag's", s.rates[rate512], err)
	}
}

func TestCheckHead(t *testing.T) {
	t.Parallel()
	good := "GET /h/00000000 HTTP/1.1\r\nHost: bench.example\r\nX-Real-IP: 127.0.0.1\r\nX-Forwarded-For: 127.0.0.1\r\nx-forwarded-host: bench.example\r\n" +
		"X-Forwarded-Port: 4080\r\nX-Forwarded-Proto: http\r\nX-Request-ID: 0123456789abcdef0123456789abcdef\r\nConnection: keep-alive\r\n\r\n"
	site := peers.Site{Address: netip.MustParseAddrPort("127.0.0.1:4080")}
	if err := checkHead([]byte(good), site); err != nil {
		t.Error(err)
	}
	site.Mode = peers.TLS
	if err := checkHead([]byte(good), site); err == nil {
		t.Error("http over TLS is accepted")
	}
	site.Mode = peers.Plain
	for _, change := range [][2]string{
		{"GET /h/", "GET //h/"},
		{"HTTP/1.1", "HTTP/1.0"},
		{"Host: bench.example", "Host: 127.0.0.1:9"},
		{"X-Real-IP: 127.0.0.1\r\n", ""},
		{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 127.0.0.1, 127.0.0.1"},
		{"X-Forwarded-Port: 4080", "X-Forwarded-Port: 80"},
		{"X-Forwarded-Proto: http", "X-Forwarded-Proto: https"},
		{"X-Request-ID: 0123456789abcdef0123456789abcdef", "X-Request-ID: 1"},
		{"Connection: keep-alive", "Connection: close"},
		{"\r\n\r\n", "\r\n"},
	} {
		wrong := strings.Replace(good, change[0], change[1], 1)
		if wrong == good {
			t.Fatalf("%q changes nothing", change)
		}
		if err := checkHead([]byte(wrong), site); err == nil {
			t.Errorf("accepted: %q", wrong)
		}
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(log, []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for requests, want := range map[uint64]int64{0: 0, 2: 0, 3: 0, 5: 2} {
		if got, err := missing(log, requests); err != nil || got != want {
			t.Errorf("of %d requests 3 lines lack %d, %v; want %d", requests, got, err, want)
		}
	}
	if _, err := missing(log+"x", 1); err == nil {
		t.Error("no error without a log")
	}
}

// TestStrict: a bar that is not met fails the command only where that is asked for.
func TestStrict(t *testing.T) {
	t.Parallel()
	r := &report.Results{Peers: []report.Peer{{Name: "podlane"}}, Samples: []report.Sample{{Workload: idle, Peer: "podlane", Run: 1, Idle: 6000}}}
	for strict, want := range map[bool]error{false: nil, true: errBar} {
		o := &options{strict: strict, progress: io.Discard}
		var out bytes.Buffer
		if err := o.report(r, &out); !errors.Is(err, want) || !strings.Contains(out.String(), "FAIL      memory of an idle connection") {
			t.Errorf("strict %v: %v\n%s", strict, err, &out)
		}
	}
}

func TestCores(t *testing.T) {
	t.Parallel()
	c := cores{-1, -1, -1}
	if err := c.resolve(); err != nil || c.proxy < c.load || c.backend < 0 {
		t.Errorf("%+v, %v", c, err)
	}
	c = cores{proxy: 1000, load: -1, backend: -1}
	if err := c.resolve(); err == nil {
		t.Errorf("core 1000 is accepted: %+v", c)
	}
}
