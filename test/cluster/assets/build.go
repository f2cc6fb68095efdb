package assets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Without a version of its own the API server reports v0.0.0, which clients refuse.
var ldflags = func() string {
	const pkg = "k8s.io/component-base/version."
	part := strings.Split(strings.TrimPrefix(Version, "v"), ".")
	return "-s -w -X " + pkg + "gitVersion=" + Version + " -X " + pkg + "gitMajor=" + part[0] +
		" -X " + pkg + "gitMinor=" + part[1] + " -X " + pkg + "gitTreeState=clean"
}()

// A builder builds programs of one module into one folder. A program is complete when NAME and NAME.sum, which holds the
// fingerprint of its source, are both there; both appear by rename.
type builder struct {
	source, dir string
	log         io.Writer
}

func (b *builder) build(want []program) error {
	sum, err := fingerprint(b.source)
	if err != nil {
		return err
	}
	if len(b.stale(want, sum)) == 0 {
		return nil
	}
	unlock, err := lock(b.dir, b.log)
	if err != nil {
		return err
	}
	defer unlock()
	todo := b.stale(want, sum) // another process may have built them while this one waited
	for i, p := range todo {
		what := fmt.Sprintf("building %s (%d/%d, about %s on two cores, once; kept in %s)", p.name, i+1, len(todo), p.cost, b.dir)
		if err := b.buildOne(p, sum, what); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) stale(want []program, sum string) []program {
	var out []program
	for _, p := range want {
		have, err := os.ReadFile(filepath.Join(b.dir, p.name+".sum"))
		if err != nil || string(have) != sum || !executable(filepath.Join(b.dir, p.name)) {
			out = append(out, p)
		}
	}
	return out
}

func (b *builder) buildOne(p program, sum, what string) error {
	tmp, err := os.MkdirTemp(b.dir, ".building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	binary := filepath.Join(tmp, p.name)
	stop := progress(b.log, what)
	err = goBuild(b.source, "-trimpath", "-ldflags", ldflags, "-o", binary, p.pkg)
	stop(err)
	if err != nil {
		return err
	}
	stamp := filepath.Join(tmp, p.name+".sum")
	if err := os.WriteFile(stamp, []byte(sum), 0o644); err != nil {
		return err
	}
	if err := os.Rename(binary, filepath.Join(b.dir, p.name)); err != nil {
		return err
	}
	return os.Rename(stamp, filepath.Join(b.dir, p.name+".sum"))
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
