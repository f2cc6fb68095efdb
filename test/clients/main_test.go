package clients_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/test/clients/debian"
	"podlane.dev/podlane/test/faults/resources/serving"
)

func TestMain(m *testing.M) { os.Exit(serving.Main(m)) }

// patience is how long anything may take that will happen: it only tells a failure from a hang.
const patience = 60 * time.Second

// find returns the path of a client, and skips the test where it is not installed and could not be (make clients says why), unless
// PODLANE_CLIENTS is "required".
func find(t *testing.T, p debian.Program) string {
	t.Helper()
	path, err := p.Find()
	if err == nil {
		return path
	}
	if os.Getenv("PODLANE_CLIENTS") == "required" {
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

// A run is what became of a client that ran to its end.
type run struct {
	stdout, stderr string
	code           int
}

// A command is a client to be run.
type command struct {
	program string
	args    []string
	stdin   io.Reader
	dir     string
	env     []string
}

// start starts a client, which is killed with the test at the latest, and returns what waits for its end. What it prints goes to stdout.
func (c command) start(t *testing.T, stdout io.Writer) (wait func() run) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	cmd := exec.CommandContext(ctx, c.program, c.args...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	return func() run {
		t.Helper()
		defer cancel()
		err := cmd.Wait()
		if ctx.Err() != nil {
			t.Errorf("%s %q does not end: %s", c.program, c.args, &stderr)
		}
		if cmd.ProcessState == nil {
			t.Error(err)
			return run{code: -1}
		}
		return run{stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
	}
}

// do runs a client to its end.
func (c command) do(t *testing.T) run {
	t.Helper()
	var stdout bytes.Buffer
	r := c.start(t, &stdout)()
	r.stdout = stdout.String()
	return r
}

// must is do for clients that must succeed.
func (c command) must(t *testing.T) run {
	t.Helper()
	r := c.do(t)
	if r.code != 0 {
		t.Fatalf("%s %q: exit %d\n%s\n%s", c.program, c.args, r.code, r.stdout, r.stderr)
	}
	return r
}

// await waits until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// receive takes what comes from c, which is to come.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// rate is bytes in a time, for people.
func rate(bytes int64, d time.Duration) string {
	return fmt.Sprintf("%.0f Mbit/s", float64(bytes)*8/1e6/d.Seconds())
}
