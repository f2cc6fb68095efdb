package render

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"podlane.dev/podlane/test/cluster/assets"
)

// packages are the commands that ../helm/go.mod lists as tools, with the time that each takes cold on two cores.
var packages = []struct{ name, path, cost string }{
	{"helm", "helm.sh/helm/v4/cmd/helm", "3 min"},
	{"kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "15 s"},
}

// Build returns the programs. It builds what is not in the cache yet, and says so on w. Any number of processes may call it
// at once.
func Build(w io.Writer) (Tools, error) {
	root, err := assets.ModuleRoot()
	if err != nil {
		return Tools{}, err
	}
	source := filepath.Join(root, "test", "chart", "helm")
	key, err := fingerprint(source)
	if err != nil {
		return Tools{}, err
	}
	dir := filepath.Join(assets.CacheDir(), "helm-"+key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Tools{}, err
	}
	for _, p := range packages {
		program := filepath.Join(dir, p.name)
		if _, err := os.Stat(program); err == nil {
			continue
		}
		start := time.Now()
		fmt.Fprintf(w, "building %s (about %s on two cores, once; kept in %s)\n", p.name, p.cost, dir)
		if err := build(source, p.path, program); err != nil {
			return Tools{}, fmt.Errorf("build %s: %w", p.name, err)
		}
		fmt.Fprintf(w, "building %s: done in %s\n", p.name, time.Since(start).Round(time.Second))
	}
	return Tools{helm: filepath.Join(dir, "helm"), kustomize: filepath.Join(dir, "kustomize")}, nil
}

// fingerprint covers everything that decides what the programs contain.
func fingerprint(source string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.GOOS, runtime.GOARCH, runtime.Version())
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, name, len(content))
		h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// build makes program appear whole or not at all: of two processes that build at once the second rename wins, with the
// same content.
func build(source, pkg, program string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(program), ".building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	binary := filepath.Join(tmp, filepath.Base(program))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, pkg)
	cmd.Dir = source
	// With the flags of `make build`: Kubernetes' packages are then compiled once for both.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if os.Getenv("HOME") == "" {
		cmd.Env = append(cmd.Env, homeless()...)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return os.Rename(binary, program)
}

// homeless gives the go command the folders that it would have in a home.
func homeless() []string {
	var env []string
	if os.Getenv("GOCACHE") == "" && os.Getenv("XDG_CACHE_HOME") == "" {
		env = append(env, "GOCACHE="+filepath.Join(assets.CacheDir(), "go-build"))
	}
	if os.Getenv("GOPATH") == "" {
		env = append(env, "GOPATH="+filepath.Join(assets.CacheDir(), "go"))
	}
	return env
}
