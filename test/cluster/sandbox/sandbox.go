// Package sandbox owns the place where the tests' clusters run: namespaces of their own for network, mounts and processes,
// entered by executing the test binary once more. What it starts dies with the test. It knows nothing of Kubernetes.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

// roleEnv says, in a process that this package started, what it is to do: probe whether the place works, or run in it.
const (
	roleEnv   = "PODLANE_SANDBOX"
	roleProbe = "probe"
	roleRun   = "run"
)

// The probe has to answer in any program that imports this package, before that program does anything of its own.
func init() {
	if os.Getenv(roleEnv) != roleProbe {
		return
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Inside reports whether this process runs in a sandbox.
func Inside() bool { return os.Getenv(roleEnv) == roleRun }

// Possible says why this system lets the current user have no sandbox, or nil if it does.
func Possible() error {
	_, err := possible()
	return err
}

// possible returns the attributes with which a process starts in a sandbox: as root without more ado, otherwise, and for
// a root without the capability, through a user namespace in which the user is root.
func possible() (*syscall.SysProcAttr, error) {
	var reasons []string
	for _, user := range []bool{false, true} {
		if !user && os.Geteuid() != 0 {
			continue
		}
		attr := attributes(user)
		cmd, err := command(roleProbe, attr, nil)
		if err != nil {
			return nil, err
		}
		out, err := cmd.CombinedOutput()
		if err == nil {
			return attr, nil
		}
		if path, ok := errors.AsType[*os.PathError](err); ok {
			err = path.Err // the path is this program's, and says nothing
		}
		what := "as root"
		if user {
			what = "as an ordinary user through a user namespace"
		}
		reasons = append(reasons, strings.Join(strings.Fields(fmt.Sprintf("%s: %v %s", what, err, out)), " "))
	}
	return nil, errors.New(strings.Join(reasons, "; "))
}

func attributes(user bool) *syscall.SysProcAttr { //nolint:revive // one of two sandboxes
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if user {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

func command(role string, attr *syscall.SysProcAttr, args []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.SysProcAttr = attr
	return cmd, nil
}

// Rerun executes this program again, with the same arguments and env added to its environment, in a sandbox, and returns
// its exit status when it is over. The error says that there can be no sandbox here, in one line. The new process is the
// first of a process namespace: when it ends, or when this one does, the kernel kills everything that it started.
func Rerun(env ...string) (int, error) { return RerunAnd(func(int) error { return nil }, env...) }

// RerunAnd is Rerun, and calls started with the number that the new process has outside, by which others may enter its namespaces. An
// error of started ends the sandbox, and is returned.
func RerunAnd(started func(pid int) error, env ...string) (int, error) {
	// The kernel sends the death signal when the thread that started the child ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr, err := possible()
	if err != nil {
		return 0, err
	}
	cmd, err := command(roleRun, attr, os.Args[1:])
	if err != nil {
		return 0, err
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				forward(cmd.Process, s)
			case <-ended:
				return
			}
		}
	}()
	problem := started(cmd.Process.Pid)
	if problem != nil {
		_ = cmd.Process.Kill()
	}
	err = cmd.Wait()
	close(ended)
	if problem != nil {
		return 1, problem
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, nil
	}
	return 0, nil
}

// forward passes a signal on. The first process of a namespace does not die of a signal that it does not handle, and a
// test binary handles none but SIGQUIT: the rest becomes SIGKILL.
func forward(p *os.Process, s os.Signal) {
	if s != syscall.SIGQUIT {
		s = syscall.SIGKILL
	}
	_ = p.Signal(s)
}

// Enter makes the sandbox usable. Call it once, first thing, where Inside is true.
func Enter() error {
	if !Inside() {
		return errors.New("not inside a sandbox")
	}
	return prepare()
}

// Leave makes programs that this process starts from now on not take themselves for what Rerun has started. They are in the sandbox
// nevertheless.
func Leave() error { return os.Unsetenv(roleEnv) }

func prepare() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Process numbers in /proc are the outer ones otherwise. Where the system hides parts of /proc (most containers), an
	// ordinary user may not mount it anew; then only tools such as ps are confused.
	_ = syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
