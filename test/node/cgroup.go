package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const cgroups = "/sys/fs/cgroup"

// cgroupOf is the name of the control group that holds all containers of the node that is kept in dir.
func cgroupOf(dir string) string { return "podlane-" + filepath.Base(dir) }

// hierarchies are the folders of the hierarchies of control groups: one with version 2, one for each controller with version 1.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		return []string{cgroups}, nil
	}
	entries, err := os.ReadDir(cgroups)
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() { // cpu may be a link to cpu,cpuacct
			all = append(all, filepath.Join(cgroups, e.Name()))
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no control groups", cgroups)
	}
	return all, nil
}

// makeCgroup makes the group below which the kubelet makes those of Pods, so that all of them can be found again, and returns its
// path in each hierarchy.
func makeCgroup(dir string) (string, error) {
	all, err := hierarchies()
	if err != nil {
		return "", err
	}
	name := cgroupOf(dir)
	for _, h := range all {
		group := filepath.Join(h, name)
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make a control group: %w", err)
		}
		// A group of version 1 has no processors and no memory nodes until it is given some.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inherit(h, group, file); err != nil {
				return "", err
			}
		}
		if h == cgroups {
			for _, at := range []string{h, group} {
				if err := os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+cpu +cpuset +memory +pids"), 0o644); err != nil {
					return "", fmt.Errorf("give control groups their controllers: %w", err)
				}
			}
		}
	}
	return "/" + name, nil
}

func inherit(from, to, file string) error {
	if !strings.HasSuffix(from, "/cpuset") {
		return nil
	}
	content, err := os.ReadFile(filepath.Join(from, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, file), content, 0o644)
}

// Remove removes what outlives the sandbox of the node that was kept in dir: the folder and the control groups. The sandbox must have
// ended. It may be called more than once.
func Remove(dir string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	var problems []error
	for _, h := range all {
		problems = append(problems, removeGroup(filepath.Join(h, cgroupOf(dir))))
	}
	return errors.Join(append(problems, os.RemoveAll(dir))...)
}

// removeGroup removes a control group and those in it, innermost first. The files in them go with them.
func removeGroup(group string) error {
	entries, err := os.ReadDir(group)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroup(filepath.Join(group, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(group); err != nil {
		return fmt.Errorf("remove control group %s: %w", group, err)
	}
	return nil
}
