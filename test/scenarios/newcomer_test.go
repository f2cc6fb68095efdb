package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A path is what a document tells a newcomer to type.
type path struct {
	document, section string
	// namespace is where it installs Podlane; app is what it calls its demo.
	namespace, app string
}

// TestNewcomer follows the documents command by command in a cluster where nothing of Podlane's is installed under their names, from nothing to an
// answer. Two things are not as in the documents: REGISTRY and TAG are filled in, and docker and make are played by programs that note what they are
// asked for, because test/node's registry has an image of that name, made of the same program as Dockerfile makes it.
func TestNewcomer(t *testing.T) {
	if os.Getenv("PODLANE_NODE") == "" {
		t.Skip("the documents' names are free, and their images there, only in test/node's cluster")
	}
	for _, p := range []path{
		{"README.md", "## In a cluster", "podlane", "demo"},
		{"chart/README.md", "## Install", "podlane-system", "web"},
	} {
		t.Run(strings.ReplaceAll(p.document, "/", "-"), p.follow)
	}
}

// commands are those of the section's blocks of shell, each with its continuation lines.
func (p path) commands(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(world.root, filepath.FromSlash(p.document)))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(content), p.section+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var all []string
	for _, block := range strings.Split(section, "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				all = append(all, strings.NewReplacer("REGISTRY", "registry.example.com", "TAG", "v0.1.0").Replace(line))
			}
		}
	}
	if !found || len(all) < 3 || !strings.HasPrefix(all[len(all)-1], "curl ") {
		t.Fatalf("%s, %q, does not lead to a curl: %q", p.document, p.section, all)
	}
	return all
}

func (p path) follow(t *testing.T) {
	commands := p.commands(t)
	dir := t.TempDir()
	// Images are there already: what builds and pushes them notes what it is asked for.
	for program, notes := range map[string]string{"docker": "asked", "make": "made"} {
		text := "#!/bin/sh\necho \"$@\" >>" + filepath.Join(dir, notes) + "\n"
		if err := os.WriteFile(filepath.Join(dir, program), []byte(text), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { p.remove(t) })
	// One shell, as a newcomer has; the last command is typed again while the answer is not there, and how often is told.
	script := "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
	for n, c := range commands[:len(commands)-1] {
		script += fmt.Sprintf("echo %s\n%s\n", quote(fmt.Sprintf("%d $ %s", n+1, c)), c)
	}
	last := commands[len(commands)-1]
	script += fmt.Sprintf("echo %s\nfor try in $(seq 120); do\n  out=$(%s --max-time 10 2>&1) || true\n"+
		"  case $out in *'this is %s-'*) echo \"$out\"; echo typed $try times; exit 0;; esac\n  sleep 0.5\ndone\necho \"$out\"\nexit 1\n",
		quote(fmt.Sprintf("%d $ %s", len(commands), last)), last, p.app)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = world.root, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	cmd.WaitDelay = 10 * time.Second // for what the script leaves in the background
	out, err := cmd.CombinedOutput()
	t.Logf("%s, %d commands:\n%s", p.document, len(commands), out)
	if err != nil {
		t.Fatal(err)
	}
	if asked, err := os.ReadFile(filepath.Join(dir, "asked")); strings.HasPrefix(commands[0], "docker ") {
		const image = "registry.example.com/podlane:v0.1.0"
		if err != nil || string(asked) != "build -t "+image+" .\npush "+image+"\n" {
			t.Errorf("docker was asked for %q %v", asked, err)
		}
	}
}

// remove removes what the newcomer has made.
func (p path) remove(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	defer cancel()
	var problems []error
	for _, words := range []string{
		"helm uninstall podlane --wait --ignore-not-found --namespace " + p.namespace,
		"kubectl delete namespace --wait=false --ignore-not-found " + p.namespace,
		"kubectl -n default delete --wait=false --ignore-not-found ingress/" + p.app + " service/" + p.app + " deployment/" + p.app,
	} {
		_, err := command(ctx, "", strings.Fields(words)...)
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		t.Error(err)
	}
}

// quote makes text one word for the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
