package kubelet

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A box is a Pod's namespaces, held by a process that only waits.
type box struct {
	podinit string
	pause   *exec.Cmd
	pidfd   *os.File
	hold    interface{ Close() error } // the pause process ends when this is closed
}

func (k *Kubelet) newBox(hostname string, a netip.Addr) (*box, error) {
	if len(hostname) > 63 {
		hostname = hostname[:63]
	}
	b := &box{podinit: k.Podinit, pause: exec.Command(k.Podinit, "pause", hostname)}
	fd := -1
	b.pause.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		PidFD:      &fd,
	}
	b.pause.Stderr = os.Stderr
	in, err := b.pause.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := b.pause.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.pause.Start(); err != nil {
		return nil, fmt.Errorf("start the Pod's namespaces: %w", err)
	}
	b.hold, b.pidfd = in, os.NewFile(uintptr(fd), "pidfd")
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.close()
		return nil, fmt.Errorf("set up the Pod's namespaces: %w", err)
	}
	if err := k.net.attach(b.pause.Process.Pid, fd, a); err != nil {
		k.net.detach(a)
		b.close()
		return nil, fmt.Errorf("attach the Pod to the network: %w", err)
	}
	return b, nil
}

func (b *box) close() {
	_ = b.hold.Close()
	_ = b.pause.Process.Kill()
	_ = b.pause.Wait()
	_ = b.pidfd.Close()
}

// command makes a command that runs in the box, in a process group of its own; when ctx ends the group is killed. The
// program is image, a file outside the box, or, without one, found by command[0] inside.
func (b *box) command(ctx context.Context, image string, command []string) *exec.Cmd {
	args := []string{"enter"}
	if image != "" {
		args = append(args, image)
	}
	cmd := exec.CommandContext(ctx, b.podinit, append(append(args, "--"), command...)...)
	cmd.ExtraFiles = []*os.File{b.pidfd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}
