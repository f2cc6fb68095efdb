package serving

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster/assets"
)

// Main is the body of TestMain for a package that uses this one: it runs the tests and removes the programs that they built.
func Main(m *testing.M) int {
	defer programs.remove()
	return m.Run()
}

// programs are what tests have asked for. Each is built when the first one asks.
var programs programSet

type programSet struct {
	mu    sync.Mutex
	dir   string
	built map[string]string
}

// Program returns the path of podlane as users have it: what it costs is measured on this one.
func Program(t testing.TB) string {
	t.Helper()
	return programs.find(t, "podlane", plain("cmd/podlane"))
}

// RaceProgram returns the path of podlane with the race detector, which needs cgo as the tests' own does.
func RaceProgram(t testing.TB) string {
	t.Helper()
	return programs.find(t, "podlane-race", race)
}

// Backend returns the path of the program test/backend.
func Backend(t testing.TB) string {
	t.Helper()
	return programs.find(t, "backend", plain("test/backend"))
}

func (p *programSet) find(t testing.TB, name string, build func(dir string) (string, error)) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if found := p.built[name]; found != "" {
		return found
	}
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "podlane-serving-") //nolint:usetesting // later tests use it too
		if err != nil {
			t.Fatal(err)
		}
		p.dir, p.built = dir, map[string]string{}
	}
	began := time.Now()
	found, err := build(p.dir)
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	t.Logf("%s was built in %s", name, time.Since(began).Round(100*time.Millisecond))
	p.built[name] = found
	return found
}

func (p *programSet) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

func plain(pkg string) func(dir string) (string, error) {
	return func(dir string) (string, error) {
		found, err := assets.Programs(os.Stderr, dir, []string{pkg})
		return found[path.Base(pkg)], err
	}
}

func race(dir string) (string, error) {
	root, err := assets.ModuleRoot()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "podlane-race")
	cmd := exec.Command("go", "build", "-race", "-o", file, "./cmd/podlane")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
}
