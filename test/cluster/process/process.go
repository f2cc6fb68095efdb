// Package process owns the programs that run beside the tests: their start, their output and their end. It knows nothing of what
// they are.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Process is a program that runs beside the tests. Fill in the exported fields; Run starts it. Its methods may be called from any
// goroutine.
type Process struct {
	// Name is for messages; the last element of Path unless set.
	Name string
	// Path and Args are what is executed.
	Path string
	Args []string
	// Env is added to the environment of the tests.
	Env []string
	// Log is the file that its output is appended to.
	Log string

	cmd   *exec.Cmd
	ended chan struct{}
}

// Run starts the program p and returns it. The caller ends it, with Stop or Kill.
func Run(p Process) (*Process, error) {
	if p.Name == "" {
		p.Name = filepath.Base(p.Path)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(p.Path, p.Args...)
	p.cmd.Env = append(os.Environ(), p.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.ended = make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return &p, nil
}

// Pid is the process's number inside the tests' process namespace.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) error {
	if p.Ended() {
		return fmt.Errorf("%s has ended: %s", p.Name, p.State())
	}
	return p.cmd.Process.Signal(s)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// State says how the process has ended, or that it runs.
func (p *Process) State() string {
	if p.Ended() {
		return p.cmd.ProcessState.String()
	}
	return "running"
}

// Wait waits for the end of the process, for at most d. The error says that it still runs or that its status is not 0.
func (p *Process) Wait(d time.Duration) error {
	select {
	case <-p.ended:
	case <-time.After(d):
		return fmt.Errorf("%s still runs after %s", p.Name, d)
	}
	if !p.cmd.ProcessState.Success() {
		return errors.New(p.Name + ": " + p.State())
	}
	return nil
}

// Stop sends SIGTERM and waits for the end, which SIGKILL enforces after grace.
func (p *Process) Stop(grace time.Duration) {
	if p.Ended() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(grace):
	}
	p.Kill()
}

// Kill ends the process and its group at once.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// Output is everything that the process has printed so far.
func (p *Process) Output() string {
	content, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// Tail is the end of what the process has printed, under a heading.
func (p *Process) Tail(lines int) string {
	all := strings.Split(string(bytes.TrimSpace([]byte(p.Output()))), "\n")
	if cut := len(all) - lines; cut > 0 {
		all = all[cut:]
	}
	return fmt.Sprintf("--- %s (%s), last lines:\n%s", p.Name, p.State(), strings.Join(all, "\n"))
}
