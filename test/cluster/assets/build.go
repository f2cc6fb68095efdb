package assets

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A module is one of the modules in the folders of test/cluster that list the programs of others as tools or hold a main of their own,
// so that what those need never reaches Podlane's go.mod.
type module struct {
	source, name, ldflags string
}

// kubernetes is the module of Kubernetes' programs. Without a version of its own the API server reports v0.0.0, which clients refuse.
func kubernetes(root string) module {
	const pkg = "k8s.io/component-base/version."
	part := strings.Split(strings.TrimPrefix(Version, "v"), ".")
	return module{
		source: filepath.Join(root, "test", "cluster", "k8s"), name: "k8s-" + Version,
		ldflags: "-s -w -X " + pkg + "gitVersion=" + Version + " -X " + pkg + "gitMajor=" + part[0] +
			" -X " + pkg + "gitMinor=" + part[1] + " -X " + pkg + "gitTreeState=clean",
	}
}

// build builds what is wanted of the module unless it is in the cache, and returns the folder. Trees with other sources have folders of
// their own, so that two of them do not undo each other's work.
func (m module) build(log io.Writer, want []program) (dir string, err error) {
	sum, err := m.fingerprint()
	if err != nil {
		return "", err
	}
	b := builder{module: m, dir: filepath.Join(CacheDir(), m.name+"-"+sum[:12]), log: log}
	return b.dir, b.build(want)
}

// fingerprint covers everything that decides what the programs contain.
func (m module) fingerprint() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.GOOS, runtime.GOARCH, m.ldflags)
	files, err := filepath.Glob(filepath.Join(m.source, "*", "*.go"))
	if err != nil {
		return "", err
	}
	for _, name := range append(files, filepath.Join(m.source, "go.mod"), filepath.Join(m.source, "go.sum")) {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, filepath.Base(name), len(content))
		h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// A builder builds programs of one module into one folder, whose name says what they are built from. A program is complete when it is
// there: it appears by rename.
type builder struct {
	module
	dir string
	log io.Writer
}

func (b *builder) build(want []program) error {
	if len(b.missing(want)) == 0 {
		return nil
	}
	unlock, err := lock(b.dir, b.log)
	if err != nil {
		return err
	}
	defer unlock()
	todo := b.missing(want) // another process may have built them while this one waited
	for i, p := range todo {
		what := fmt.Sprintf("building %s (%d/%d, about %s on two cores, once; kept in %s)", p.name, i+1, len(todo), p.cost, b.dir)
		if err := b.buildOne(p, what); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) missing(want []program) []program {
	var out []program
	for _, p := range want {
		if !executable(filepath.Join(b.dir, p.name)) {
			out = append(out, p)
		}
	}
	return out
}

func (b *builder) buildOne(p program, what string) error {
	tmp, err := os.MkdirTemp(b.dir, ".building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	binary := filepath.Join(tmp, p.name)
	stop := progress(b.log, what)
	err = goBuild(b.source, "-trimpath", "-ldflags", b.ldflags, "-o", binary, p.pkg)
	stop(err)
	if err != nil {
		return err
	}
	return os.Rename(binary, filepath.Join(b.dir, p.name))
}

// goBuild runs go build in dir. The binaries are static, so that they run wherever the test's namespace takes them.
func goBuild(dir string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if os.Getenv("HOME") == "" {
		if os.Getenv("GOCACHE") == "" && os.Getenv("XDG_CACHE_HOME") == "" {
			cmd.Env = append(cmd.Env, "GOCACHE="+filepath.Join(CacheDir(), "go-build"))
		}
		if os.Getenv("GOPATH") == "" {
			cmd.Env = append(cmd.Env, "GOPATH="+filepath.Join(CacheDir(), "go"))
		}
	}
	// An interrupted test must not leave a compiler behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s in %s: %w\n%s", args[len(args)-1], dir, err, bytes.TrimSpace(out))
	}
	return nil
}

// progress prints what now and then again every few seconds with the time spent, until the returned function is called.
func progress(w io.Writer, what string) (stop func(error)) {
	start := time.Now()
	fmt.Fprintln(w, what)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(w, "%s: %s\n", what, time.Since(start).Round(time.Second))
			case <-done:
				return
			}
		}
	}()
	return func(err error) {
		close(done)
		<-stopped
		if err == nil {
			fmt.Fprintf(w, "%s: done in %s\n", what, time.Since(start).Round(time.Second))
		}
	}
}

// lock takes the lock of the folder dir, which it makes. The kernel drops the lock with its process.
func lock(dir string, log io.Writer) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	fd := int(f.Fd())
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		stop := progress(log, "waiting for another process that builds in "+dir)
		for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
			err = syscall.Flock(fd, syscall.LOCK_EX)
		}
		stop(err)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	} else if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}
