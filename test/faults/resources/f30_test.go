package resources_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// logLines is what fills the access log's queue, 64 Ki lines, and the pipe behind it.
const logLines = 70_000

// F30: whatever becomes of the access log's reader, requests go on, and the lines that are lost are counted.
func TestF30AccessLog(t *testing.T) {
	noLeaks(t)
	pod := plainPod(t, "ok")
	for _, fault := range []struct {
		name   string
		launch func(t *testing.T) (l serving.Options, inject func())
		reason string
		lines  int
	}{
		{"the reader of a named pipe is stopped", stoppedFIFO, "queue", logLines},
		{"the reader of stdout is stopped", stoppedStdout, "queue", logLines},
		{"the reader of stdout is gone", closedStdout, "write", 2000},
		{"the disk is full", fullDisk, "write", 2000},
	} {
		t.Run(fault.name, func(t *testing.T) {
			l, inject := fault.launch(t)
			l.Program = serving.Program(t)
			l.Dir = serving.Folder(t, map[string][]string{"a.test": {pod.addr}})
			p := serving.Start(t, l)
			dial(t, p.HTTP).ask(t, "a.test", "ok")
			inject()
			dropped := func() float64 { return p.Metric("podlane_access_log_dropped_lines_total", fault.reason) }
			before := p.Resident()
			began := time.Now()
			pipelined(t, p.HTTP, fault.lines)
			took := time.Since(began)
			await(t, "lost lines to be counted", func() bool { return dropped() > 0 })
			p.Alive()
			c := dial(t, p.HTTP)
			for range 20 {
				c.ask(t, "a.test", "ok")
			}
			t.Logf("F30: %s: %d requests in %s, %.0f lines counted as lost (%s), %d MiB more resident memory", fault.name, fault.lines,
				took.Round(time.Millisecond), dropped(), fault.reason, (p.Resident()-before)>>20)
			if fault.reason == "write" && dropped() < float64(fault.lines)/2 {
				t.Errorf("only %.0f of %d lines are counted as lost", dropped(), fault.lines)
			}
			p.Signal(syscall.SIGTERM)
			// Whoever stops it is told of lines that nobody took.
			if code := p.Exit(); code != 0 && !strings.Contains(p.Output(), "unwritten") {
				t.Errorf("exit %d", code)
			}
		})
	}
}

// pipelined makes n requests that need no Pod, many at a time, and expects as many answers.
func pipelined(t *testing.T, addr string, n int) {
	t.Helper()
	const batch = 100
	request := bytes.Repeat([]byte("GET /a/path/that/is/somewhat/long HTTP/1.1\r\nHost: none.test\r\n\r\n"), batch)
	c := dial(t, addr)
	buf := make([]byte, 64<<10)
	for done := 0; done < n; done += batch {
		if done%5000 == 0 { // a connection serves 10,000
			c.Close()
			c = dial(t, addr)
		}
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		for got := 0; got < batch; {
			k, err := c.TCPConn.Read(buf)
			if err != nil {
				t.Fatalf("after %d requests: %v", done, err)
			}
			got += bytes.Count(buf[:k], []byte("404 Not"))
		}
	}
	c.Close()
}

// stoppedReader runs cat on in, and returns what stops it without ending it.
func stoppedReader(t *testing.T, in *os.File) func() {
	t.Helper()
	cat := exec.Command("cat")
	cat.Stdin = in
	cat.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	t.Cleanup(func() {
		_ = cat.Process.Kill()
		_ = cat.Wait()
	})
	return func() {
		if err := cat.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
}

func stoppedFIFO(t *testing.T) (serving.Options, func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// Opened for both, it does not wait for the other side.
	in, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return serving.Options{Args: []string{"--access-log=" + path}}, stoppedReader(t, in)
}

func stoppedStdout(t *testing.T) (serving.Options, func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return serving.Options{Args: []string{"--access-log=stdout"}, Stdout: w}, stoppedReader(t, r)
}

func closedStdout(t *testing.T) (serving.Options, func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, r)
	}()
	inject := func() {
		r.Close()
		<-drained
	}
	t.Cleanup(inject)
	return serving.Options{Args: []string{"--access-log=stdout"}, Stdout: w}, inject
}

func fullDisk(*testing.T) (serving.Options, func()) {
	return serving.Options{Args: []string{"--access-log=/dev/full"}}, func() {}
}
