package image_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/image"
)

// crane runs go-containerregistry's program, which the go command builds on first use.
func crane(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	root, err := assets.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	modfile := filepath.Join(root, "test", "image", "crane", "go.mod")
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "-modfile=" + modfile, "crane"}, args...)...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	return cmd
}

// run returns what crane prints.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := crane(t, args...).Output()
	if err != nil {
		t.Fatalf("crane %s: %v", args[0], err)
	}
	return strings.TrimSpace(string(out))
}

// registry starts a registry in memory, on the loopback interface, and returns its address.
func registry(t *testing.T) string {
	t.Helper()
	program := run(t, "version") // built, so that what follows is the registry itself and not the go command
	if program == "" {
		t.Fatal("crane has no version")
	}
	cmd := crane(t, "registry", "serve", "--address", "127.0.0.1:0")
	cmd.Stderr = nil
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The go command hands the signal on.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // it was interrupted
	})
	address := regexp.MustCompile(`serving on (?:port |.*:)(\d+)`)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				for lines.Scan() { // it logs each request, and must not wait for a reader
				}
			}()
			return "127.0.0.1:" + m[1]
		}
	}
	t.Fatalf("the registry does not say where it listens: %v", lines.Err())
	return ""
}

// TestCrane pushes an image as the documents say, and has another implementation of the specification check it.
func TestCrane(t *testing.T) {
	t.Parallel()
	i := build(t, hello(t))
	dir := filepath.Join(t.TempDir(), "image")
	if err := i.WriteFolder(dir); err != nil {
		t.Fatal(err)
	}
	name := registry(t) + "/podlane:v1.2.3"
	if got := run(t, "push", "--index", dir, name); !strings.HasSuffix(got, "@"+i.Digest()) {
		t.Errorf("in the registry the image is %s, here %s", got, i.Digest())
	}
	run(t, "validate", "--remote", name)
	for _, p := range []image.Platform{amd64, arm64} {
		config := run(t, "config", "--platform", p.String(), name)
		if !strings.Contains(config, `"architecture":"`+p.Architecture+`"`) {
			t.Errorf("for %s the registry has %s", p, config)
		}
	}
	var files bytes.Buffer
	export := crane(t, "export", "--platform", "linux/amd64", name, "-")
	export.Stdout = &files
	if err := export.Run(); err != nil {
		t.Fatal(err)
	}
	if got := untar(t, &files); len(got["podlane"]) == 0 || len(got["etc/ssl/certs/ca-certificates.crt"]) == 0 {
		t.Errorf("the image holds %d files", len(got))
	}
}
