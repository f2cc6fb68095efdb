package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"podlane.dev/podlane/test/chart/render"
	"podlane.dev/podlane/test/clients/debian"
	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/cluster/sandbox"
	"podlane.dev/podlane/test/node"
)

// Environment variables of the process in the sandbox: what it is to do, where the node is kept, where Helm is, and where this machine reaches
// what it brings up.
const (
	verbEnv  = "PODLANE_NODE_VERB"
	dirEnv   = "PODLANE_NODE"
	helmEnv  = "PODLANE_HELM"
	reachEnv = "PODLANE_NODE_REACH"
)

// up brings a cluster up in the folder of c, and ends with it.
func up(c commandLine) (int, error) {
	release, err := occupy(c.dir)
	if err != nil {
		return 0, err
	}
	defer release()
	reach, err := reachFrom(c)
	if err != nil {
		return 0, err
	}
	defer reach.close()
	asked := make(chan os.Signal, 1) // the sandbox is ended by the same signals
	signal.Notify(asked, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code, err := host(c.dir, reachEnv+"="+strings.Join(reach.addresses(), ","), verbEnv+"=up")
	if len(asked) > 0 && err == nil {
		fmt.Fprintln(os.Stderr, "\nthe cluster has ended; everything of it is removed")
		return 0, nil
	}
	return code, err
}

// run brings a cluster up in a folder of its own for one command.
func run(c commandLine) (int, error) {
	dir, err := os.MkdirTemp("", "podlane-node-")
	if err != nil {
		return 0, err
	}
	return host(dir, append([]string{verbEnv + "=run"}, "PODLANE_NODE_COMMAND="+strings.Join(c.rest, "\x1f"))...)
}

// host builds what a node needs, runs this program in a sandbox, where it goes on in inside, and removes what outlives that.
func host(dir string, env ...string) (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("a node needs root: it makes network namespaces, mounts and control groups (sudo make cluster)")
	}
	defer func() {
		if removed := node.Remove(dir); removed != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", removed))
		}
	}()
	helm, err := prepare(dir)
	if err != nil {
		return 0, err
	}
	started := func(pid int) error {
		return os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(pid)), 0o644)
	}
	return sandbox.RerunAnd(started, append(env, dirEnv+"="+dir, helmEnv+"="+helm)...)
}

// prepare installs and builds whatever is missing, while there is a network, and writes down for the sandbox where it is.
func prepare(dir string) (helm string, err error) {
	if err := debian.Install(os.Stderr, []debian.Program{debian.Runc, debian.NFT, debian.Busybox}); err != nil {
		return "", err
	}
	o := node.Options{Dir: dir}
	if o.Runc, err = debian.Runc.Find(); err != nil {
		return "", err
	}
	busybox, err := debian.Busybox.Find()
	if err != nil {
		return "", err
	}
	if o.Control, err = assets.Find(os.Stderr); err != nil {
		return "", err
	}
	if o.Node, err = assets.FindNode(os.Stderr); err != nil {
		return "", err
	}
	tools, err := render.Build(os.Stderr)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stderr, "building Podlane and the Pods of the tests")
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	programs, err := assets.Programs(os.Stderr, bin, []string{"cmd/podlane", "test/backend", "test/node/cmd/pause"})
	if err != nil {
		return "", err
	}
	o.Pause, o.Images = programs["pause"], images(programs, busybox)
	return tools.Helm(), o.Save()
}

// occupy makes the folder for a cluster that others can find, after it has removed what is left of one that was killed, and locks it
// until release.
func occupy(dir string) (release func(), err error) {
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("a cluster runs in %s already: make cluster-down ends it, and -dir makes another", dir)
	}
	err = errors.Join(node.Remove(dir), os.Mkdir(dir, 0o755), lock.Truncate(0))
	if err == nil {
		_, err = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return func() {
		_ = os.Remove(dir + ".lock") // before the lock goes, so that nobody else's is removed
		lock.Close()
	}, nil
}

// down ends the cluster that up keeps in dir, and waits until nothing of it is left.
func down(dir string) error {
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "no cluster runs in %s\n", dir)
		return node.Remove(dir)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	content, err := os.ReadFile(lock.Name())
	if err != nil {
		return err
	}
	for told, waited := false, time.Duration(0); waited < time.Minute; waited += 100 * time.Millisecond {
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			fmt.Fprintln(os.Stderr, "the cluster has ended")
			return errors.Join(node.Remove(dir), os.RemoveAll(lock.Name()))
		}
		if pid, err := strconv.Atoi(string(content)); err == nil && !told {
			fmt.Fprintf(os.Stderr, "ending the cluster in %s\n", dir)
			told = syscall.Kill(pid, syscall.SIGTERM) == nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the cluster in %s does not end; its process is %s", dir, content)
}

// enter runs a shell or a command in the namespaces of the cluster that up keeps in the folder of c.
func enter(c commandLine) (int, error) {
	pid, err := os.ReadFile(filepath.Join(c.dir, "pid"))
	if err != nil {
		return 0, fmt.Errorf("no cluster runs in %s: make cluster brings one up", c.dir)
	}
	o, err := node.Load(c.dir)
	if err != nil {
		return 0, err
	}
	command := c.rest
	if len(command) == 0 {
		command = []string{"bash"}
	}
	cmd := exec.Command("nsenter", append([]string{"--target=" + string(pid), "--net", "--mount", "--pid", "--"}, command...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+node.Kubeconfig(c.dir), dirEnv+"="+c.dir, "PATH="+filepath.Dir(o.Control.Kubectl)+":"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT) // the command's to handle
	return status(cmd.Run())
}

// status is a program's exit status, of the error of its Run.
func status(err error) (int, error) {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}
