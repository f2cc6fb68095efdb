package cluster

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/cluster/sandbox"
)

// dirEnv names, inside the sandbox, the folder of the run: programs in bin, clusters beside it.
const dirEnv = "PODLANE_CLUSTER_DIR"

// Main is the body of TestMain for a package whose tests need a cluster. It builds the control plane, unless that is done,
// and the given commands of this module ("cmd/podlane"), runs the tests in a network namespace, and ends what they started.
// Where the system lets the user have no such namespace it says so in one line and succeeds, unless CI is set.
func Main(m *testing.M, programs ...string) int {
	if sandbox.Inside() {
		return inside(m)
	}
	code, err := outside(programs)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster tests:", err)
		return 1
	}
	return code
}

func outside(programs []string) (int, error) {
	if err := sandbox.Possible(); err != nil {
		if ci := os.Getenv("CI"); ci != "" && ci != "false" {
			return 0, fmt.Errorf("must not be skipped in CI: %w", err)
		}
		fmt.Println("skipped: cluster tests need a network namespace:", err)
		return 0, nil
	}
	// There is no network inside, so all that is to be built is built first.
	if _, err := assets.Find(os.Stderr); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "podlane-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return 0, err
	}
	programs = append([]string{"test/backend", "test/cluster/cmd/podinit"}, programs...)
	if _, err := assets.Programs(os.Stderr, bin, programs); err != nil {
		return 0, err
	}
	return sandbox.Rerun(dirEnv + "=" + dir)
}

func inside(m *testing.M) int {
	if err := sandbox.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster tests:", err)
		return 1
	}
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster != nil {
		shared.cluster.Stop()
		if code != 0 {
			fmt.Fprintln(os.Stderr, "the cluster's logs are in", shared.cluster.keepLogs())
		}
	}
	return code
}

func inMain() error {
	if !sandbox.Inside() || os.Getenv(dirEnv) == "" {
		return errors.New("a cluster runs only in tests whose TestMain calls cluster.Main")
	}
	return nil
}

// Program is the path of a program that Main has built, by the last element of its package's path.
func Program(name string) string {
	return filepath.Join(os.Getenv(dirEnv), "bin", path.Base(strings.TrimSuffix(name, "/")))
}

// noteSources opens the module's folders, so that go test, which remembers what a test opens, does not take the result of an
// older run for this one: the programs under test are built from sources that the test's package does not import.
var noteSources = sync.OnceFunc(func() {
	root, err := assets.ModuleRoot()
	if err != nil {
		return
	}
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		return nil
	})
})

var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error
}

// Shared is the cluster that all tests of the package share; the first caller starts it, Main stops it.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = Start(t.Context(), Options{})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// New starts a cluster for one test, which stops it at its end and keeps its logs if it has failed.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			t.Log("the cluster's logs are in", c.keepLogs())
		}
	})
	return c
}
