// Command podinit is the process kubelet's helper inside a Pod. "podinit pause HOSTNAME" is the process that holds a Pod's
// namespaces; "podinit enter [IMAGE] -- COMMAND..." becomes a container's process, or an exec probe, in the namespaces of the
// process whose pidfd is file 3.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "podinit:", err)
		os.Exit(127)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "pause":
		return pause(args[1])
	case len(args) >= 3 && args[0] == "enter" && args[1] == "--":
		return enter("", args[2:])
	case len(args) >= 4 && args[0] == "enter" && args[2] == "--":
		return enter(args[1], args[3:])
	}
	return errors.New("usage: podinit pause HOSTNAME | podinit enter [IMAGE] -- COMMAND")
}

// pause says "ready" on its output when the Pod's namespaces are as they shall be, and holds them until its input ends.
func pause(hostname string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// A container has files of its own. Here it is /var alone, which is where the probes of the source texts look.
	if err := unix.Mount("tmpfs", "/var", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount a private /var: %w", err)
	}
	for _, dir := range []string{"/var/run", "/var/tmp", "/var/log"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// enter executes argv in the Pod. The image, a program outside, is opened before /var changes under it.
func enter(image string, argv []string) error {
	const pidfd = 3
	path := ""
	if image != "" {
		fd, err := unix.Open(image, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open image %s: %w", image, err)
		}
		path = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	// Only a thread that shares no file system state may change its mount namespace. The thread is never given back:
	// execve makes it the process.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare file system state: %w", err)
	}
	if err := unix.Setns(pidfd, unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the Pod: %w", err)
	}
	unix.CloseOnExec(pidfd)
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if path == "" {
		found, err := exec.LookPath(argv[0])
		if err != nil {
			return err
		}
		path = found
	}
	if err := unix.Exec(path, argv, os.Environ()); err != nil {
		return fmt.Errorf("execute %s: %w", argv[0], err)
	}
	return nil
}
