package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Process is a proxy that runs.
type Process struct {
	cmd    *exec.Cmd
	said   string // the file that keeps what it said
	exited chan struct{}
	err    error // after exited
}

// Start writes the peer's files, starts it on its core, and waits until it listens.
func (p Peer) Start(ctx context.Context, s Site) (*Process, error) {
	path, err := p.Find()
	if err != nil {
		return nil, err
	}
	launch := p.Launch(s)
	for name, text := range launch.Files {
		file := filepath.Join(s.Dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	run := &Process{said: filepath.Join(s.Dir, "said"), exited: make(chan struct{})}
	if err := run.start(exec.Command(path, launch.Args...), launch, s.Core); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	if err := run.listening(ctx, s.Address); err != nil {
		run.Stop()
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	return run, nil
}

func (r *Process) start(cmd *exec.Cmd, launch Launch, core int) error {
	said, err := os.Create(r.said)
	if err != nil {
		return err
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if launch.Stdout != "" {
		out, err := os.Create(launch.Stdout)
		if err != nil {
			return err
		}
		defer out.Close()
		cmd.Stdout = out
	}
	cmd.Env = append(os.Environ(), launch.Env...)
	r.cmd = cmd
	if err := StartOn(cmd, core); err != nil {
		return err
	}
	go func() {
		r.err = cmd.Wait()
		close(r.exited)
	}()
	return nil
}

// StartOn starts a command that may use one core only. It ends, by SIGTERM, when this process does.
func StartOn(cmd *exec.Cmd, core int) error {
	// A child begins with the cores of the thread that forks it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	only.Set(core)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("core %d: sched_setaffinity: %w", core, err)
	}
	// A group of its own: Ctrl-C reaches it through this process alone, which stops it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &before))
}

// listening waits until the process accepts connections.
func (r *Process) listening(ctx context.Context, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	dialer := &net.Dialer{Timeout: time.Second}
	for {
		if c, err := dialer.DialContext(ctx, "tcp", at.String()); err == nil {
			return c.Close()
		}
		select {
		case <-r.exited:
			return fmt.Errorf("it ended: %w\n%s", r.err, r.Said())
		case <-ctx.Done():
			return fmt.Errorf("it does not listen on %s: %w\n%s", at, ctx.Err(), r.Said())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// PID is that of the first process; workers descend from it.
func (r *Process) PID() int { return r.cmd.Process.Pid }

// Said returns the end of what the process wrote to standard output and error.
func (r *Process) Said() string {
	f, err := os.Open(r.said)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 4096 {
		_, _ = f.Seek(-4096, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}

// Stop ends the process and what descends from it, and waits for the end.
func (r *Process) Stop() { r.stop(8 * time.Second) }

// stop asks the process to end, and after a grace makes it.
func (r *Process) stop(grace time.Duration) {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(grace):
		_ = syscall.Kill(-r.PID(), syscall.SIGKILL) // its whole group
		<-r.exited
	}
}

// FreeAddress returns an address of loopback that nobody listens on. Where all ports are in use it waits for one.
func FreeAddress(ctx context.Context) (netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
		if err == nil {
			_ = l.Close()
			return netip.ParseAddrPort(l.Addr().String())
		}
		select {
		case <-ctx.Done():
			return netip.AddrPort{}, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}
