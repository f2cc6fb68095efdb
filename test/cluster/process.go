package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster/process"
)

// A Process is a program that runs beside the tests. Fill in the exported fields; Cluster.Start starts it. Its Log is in the cluster's
// folder unless set.
type Process = process.Process

// Command is a Process that runs a program which Main has built, by its last path element.
func Command(program string, args ...string) Process {
	return Process{Name: program, Path: Program(program), Args: args}
}

// Start starts a process beside the cluster, in its network, with KUBECONFIG set to the administrator's unless Env sets it.
// It is stopped when the test ends, and the end of its log is shown if the test has failed.
func (c *Cluster) Start(t testing.TB, p Process) *Process {
	t.Helper()
	started, err := c.launch(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		started.Stop(30 * time.Second)
		if t.Failed() {
			t.Log(started.Tail(60))
		}
	})
	return started
}

// Launch is Start for a process that belongs to no test: it runs until Stop ends the cluster.
func (c *Cluster) Launch(p Process) (*Process, error) {
	started, err := c.launch(p)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		started.Kill()
		return nil, errors.New("the cluster has stopped")
	}
	c.launched = append(c.launched, started)
	return started, nil
}

func (c *Cluster) launch(p Process) (*Process, error) {
	if p.Log == "" {
		f, err := os.CreateTemp(c.Dir, filepath.Base(p.Path)+"-*.log")
		if err != nil {
			return nil, err
		}
		f.Close()
		p.Log = f.Name()
	}
	p.Env = append([]string{"KUBECONFIG=" + c.kubeconfig}, p.Env...)
	return process.Run(p)
}
