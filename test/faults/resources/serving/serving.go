// Package serving runs `podlane serve` as a process for tests: it builds the program, starts it on free ports with a folder of
// manifests, and reads what it and the kernel say about it. It makes no requests but to the admin pages, and no package of the product may
// import it.
package serving

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take that will happen: it only tells a failure from a hang.
const patience = 30 * time.Second

// Options say how a process is started.
type Options struct {
	// Program is the path of podlane.
	Program string
	// Shell is run before the program takes the shell's place, to give it limits: "ulimit -n 256".
	Shell string
	// Stdout, where it is set, is the process's; it is closed here once the process has it.
	Stdout *os.File
	// Dir is the folder of manifests.
	Dir string
	// Args and Env are added to what every process gets.
	Args, Env []string
}

// A Process is a `podlane serve`. It is killed with its test at the latest.
type Process struct {
	// HTTP, HTTPS and Admin are where it listens, also after Restart.
	HTTP, HTTPS, Admin string

	t       testing.TB
	options Options
	cmd     *exec.Cmd
	ended   chan struct{}

	mu     sync.Mutex
	output bytes.Buffer
}

// Start starts a process and waits until it is ready.
func Start(t testing.TB, o Options) *Process {
	t.Helper()
	p := &Process{t: t, options: o, HTTP: FreePort(t), HTTPS: FreePort(t), Admin: FreePort(t)}
	p.run()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("podlane said, last lines:\n%s", lastLines(p.Output()))
		}
	})
	p.waitReady()
	return p
}

// Restart starts the process anew, after it has ended, as it was started before.
func (p *Process) Restart() {
	p.t.Helper()
	p.run()
	p.waitReady()
}

func (p *Process) run() {
	p.t.Helper()
	args := append([]string{
		p.options.Program, "serve", "--from", p.options.Dir, "--http-address=" + p.HTTP, "--https-address=" + p.HTTPS, "--admin-address=" + p.Admin,
	}, p.options.Args...)
	if p.options.Shell != "" {
		args = append([]string{"/bin/sh", "-c", p.options.Shell + ` && exec "$0" "$@"`}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	// The race detector would otherwise wait a second at the end.
	cmd.Env = append(append(os.Environ(), "GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=0"), p.options.Env...)
	cmd.Stdout, cmd.Stderr = outputOf{p}, outputOf{p}
	if p.options.Stdout != nil {
		cmd.Stdout = p.options.Stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	if p.options.Stdout != nil {
		p.options.Stdout.Close()
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
}

func (p *Process) waitReady() {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		p.Alive()
		status, body, err := p.Page("/readyz")
		if err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("podlane is not ready: %d %s %v", status, body, err)
		}
	}
}

// Dir is the folder of manifests.
func (p *Process) Dir() string { return p.options.Dir }

// Alive ends the test where the process has ended.
func (p *Process) Alive() {
	p.t.Helper()
	if p.Ended() {
		p.t.Fatalf("podlane has ended: %s", p.cmd.ProcessState)
	}
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Exit waits for the end and returns the exit code, which is negative after a signal.
func (p *Process) Exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(2 * patience):
		p.t.Fatal("podlane does not end")
		return -1
	}
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// outputOf collects what a process prints.
type outputOf struct{ p *Process }

func (o outputOf) Write(b []byte) (int, error) {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	return o.p.output.Write(b)
}

// Output is what the process has printed, but for what went to Options.Stdout.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// web is the client of admin pages; it keeps no connection, so that it leaves nothing behind.
var web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Page asks for an admin page.
func (p *Process) Page(path string) (status int, body string, err error) {
	res, err := web.Get("http://" + p.Admin + path)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// Metric is the sum of a metric's samples that have all of the given texts in their labels; 0 where there is none.
func (p *Process) Metric(name string, labels ...string) float64 {
	p.t.Helper()
	_, text, err := p.Page("/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		base, own, _ := strings.Cut(series, "{")
		if base != name {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains(own, l)
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		if all {
			sum += n
		}
	}
	return sum
}

// FreePort returns an address on loopback that nothing listens on, outside the range that the kernel takes ports of clients from.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
