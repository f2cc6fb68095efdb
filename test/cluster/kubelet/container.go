package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Backoff between restarts of a container that ended: shorter than Kubernetes' (10 s to 5 min), for the tests' sake.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 5 * time.Second
)

// A container is one process of a Pod and its probes.
type container struct {
	pod  *pod
	spec *corev1.Container

	mu       sync.Mutex
	state    corev1.ContainerState
	last     corev1.ContainerState
	restarts int32
	up       bool // the startup probe, if any, has succeeded
	ready    bool // the readiness probe, if any, says so
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has ended
}

func newContainer(p *pod, spec *corev1.Container) *container {
	c := &container{pod: p, spec: spec}
	c.state.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	return c
}

// run starts the container and starts it again as the restart policy says, until the Pod stops.
func (c *container) run(ctx context.Context) {
	for backoff := firstBackoff; ; backoff = min(2*backoff, lastBackoff) {
		began := time.Now()
		err := c.once(ctx)
		policy := c.pod.current().Spec.RestartPolicy
		if err == nil && (policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure && c.exitCode() == 0) {
			return
		}
		if time.Since(began) > 10*time.Second {
			backoff = firstBackoff
		}
		c.set(func() {
			reason, message := "CrashLoopBackOff", ""
			if err != nil {
				reason, message = "CreateContainerError", err.Error()
			}
			if c.state.Terminated != nil {
				c.last, c.restarts = c.state, c.restarts+1
			}
			c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
		}, c.stays)
		select {
		case <-time.After(backoff):
		case <-c.pod.stopping:
			return
		case <-ctx.Done():
			return
		}
	}
}

// stays reports whether the last state is final because the Pod stops.
func (c *container) stays() bool {
	select {
	case <-c.pod.stopping:
		return true
	default:
		return false
	}
}

// once runs the container's process to its end. The error says why it could not be started.
func (c *container) once(ctx context.Context) error {
	cmd, err := c.command(ctx)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if c.stays() {
		return nil
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	c.set(func() {
		c.cmd, c.ended = cmd, ended
		c.up, c.ready = c.spec.StartupProbe == nil, false
		c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	}, nil)
	probing, stop := context.WithCancel(ctx)
	var probes sync.WaitGroup
	probes.Go(func() { c.probe(probing) })
	_ = cmd.Wait()
	// What the process left behind ends with it, as with a container.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	close(ended)
	stop()
	probes.Wait()
	c.set(func() {
		t := &corev1.ContainerStateTerminated{StartedAt: c.state.Running.StartedAt, FinishedAt: metav1.Now(), Reason: "Completed"}
		t.ExitCode = int32(cmd.ProcessState.ExitCode())
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			t.Signal, t.ExitCode = int32(status.Signal()), 128+int32(status.Signal())
		}
		if t.ExitCode != 0 {
			t.Reason = "Error"
		}
		c.cmd, c.up, c.ready = nil, false, false
		c.state = corev1.ContainerState{Terminated: t}
	}, nil)
	return nil
}

// set changes the state under the lock, unless skip says that it must stay, and tells the Pod.
func (c *container) set(change func(), skip func() bool) {
	c.mu.Lock()
	if skip == nil || !skip() {
		change()
	}
	c.mu.Unlock()
	c.pod.notify()
}

// command is the container's process: the image's program with the arguments, or the command found in the Pod. A command
// whose last path element is the image's program means the image's program, wherever the manifest thinks that it lies.
func (c *container) command(ctx context.Context) (*exec.Cmd, error) {
	image, ok := c.pod.kubelet.image(c.spec.Image)
	if !ok {
		return nil, fmt.Errorf("image %q stands for no program", c.spec.Image)
	}
	env, err := c.environment(ctx)
	if err != nil {
		return nil, err
	}
	argv := append(env.expandAll(c.spec.Command), env.expandAll(c.spec.Args)...)
	switch {
	case len(c.spec.Command) == 0:
		argv = append([]string{filepath.Base(image)}, argv...)
	case path.Base(argv[0]) != filepath.Base(image):
		image = ""
	}
	c.pod.mu.Lock()
	b := c.pod.box
	c.pod.mu.Unlock()
	if b == nil {
		return nil, errors.New("the Pod has ended")
	}
	cmd := b.command(ctx, image, argv)
	cmd.Env = env.list()
	return cmd, nil
}

// image finds the program for an image: by its full name, else without the tag.
func (k *Kubelet) image(name string) (string, bool) {
	if p, ok := k.Images[name]; ok {
		return p, true
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		p, ok := k.Images[name[:i]]
		return p, ok
	}
	return "", false
}

func (c *container) logFile() string {
	return filepath.Join(c.pod.kubelet.LogDir, fmt.Sprintf("%s_%s_%s.log", c.pod.namespace, c.pod.name, c.spec.Name))
}

func (c *container) exitCode() int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Terminated == nil {
		return 0
	}
	return c.state.Terminated.ExitCode
}

// signal sends s to the container's process group, if it runs.
func (c *container) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil {
		_ = syscall.Kill(-c.cmd.Process.Pid, s)
	}
}

// terminate runs the preStop hook, sends SIGTERM and waits for the end, for as long as ctx lets it.
func (c *container) terminate(ctx context.Context) {
	c.mu.Lock()
	running, ended := c.cmd != nil, c.ended
	c.mu.Unlock()
	if !running {
		return
	}
	if hook := c.spec.Lifecycle; hook != nil && hook.PreStop != nil {
		c.preStop(ctx, hook.PreStop)
	}
	c.signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

func (c *container) preStop(ctx context.Context, hook *corev1.LifecycleHandler) {
	switch {
	case hook.Sleep != nil:
		select {
		case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
		case <-ctx.Done():
		}
	case hook.Exec != nil:
		_, _ = c.pod.exec(ctx, hook.Exec.Command)
	case hook.HTTPGet != nil:
		_ = c.httpGet(ctx, hook.HTTPGet)
	}
}
