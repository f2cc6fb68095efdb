// Package debian owns the programs that come as Debian packages: which package holds which, where they are on this machine, and how they
// get there. It runs none of them.
package debian

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"podlane.dev/podlane/test/cluster/assets"
)

// A Program is a client by one of the names that it has, and the package that holds it.
type Program struct {
	// Names are tried in order.
	Names   []string
	Package string
}

// The programs that the tests run; the last three are a node's.
var (
	Curl     = Program{[]string{"curl"}, "curl"}
	Browser  = Program{[]string{"chromium-headless-shell", "chromium", "google-chrome"}, "chromium-headless-shell"}
	Certutil = Program{[]string{"certutil"}, "libnss3-tools"}
	NGHTTP   = Program{[]string{"nghttp"}, "nghttp2-client"}
	H2Load   = Program{[]string{"h2load"}, "nghttp2-client"}
	Node     = Program{[]string{"node"}, "nodejs"}
	TestSSL  = Program{[]string{"testssl", "testssl.sh"}, "testssl.sh"}
	Runc     = Program{[]string{"runc"}, "runc"}
	NFT      = Program{[]string{"nft"}, "nftables"}
	Busybox  = Program{[]string{"busybox"}, "busybox-static"} // linked statically, for images that need a shell
)

// Clients are the programs that test/clients drives.
func Clients() []Program { return []Program{Curl, Browser, Certutil, NGHTTP, H2Load, Node, TestSSL} }

// Find returns the program's path. The error says how to get it.
func (p Program) Find() (string, error) {
	for _, name := range p.Names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed (Debian, as root: apt-get install %s)", p.Names[0], p.Package)
}

// Missing are the packages of those of the programs that are not installed.
func Missing(programs []Program) []string {
	var packages []string
	for _, p := range programs {
		if _, err := p.Find(); err != nil && !slices.Contains(packages, p.Package) {
			packages = append(packages, p.Package)
		}
	}
	return packages
}

// Install installs those of the programs that are missing with apt-get, which needs root, and prints to w what it does. What has been downloaded stays in the
// tests' cache. An error that wraps ErrUnable says that this machine is not one where that can be done.
func Install(w io.Writer, programs []Program) error {
	missing := Missing(programs)
	if len(missing) == 0 {
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("%w: not installed: %s", ErrUnable, strings.Join(missing, " "))
	}
	archives := filepath.Join(assets.CacheDir(), "debian")
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return err
	}
	fmt.Fprintf(w, "installing %s (once; downloads are kept in %s)\n", strings.Join(missing, " "), archives)
	if err := run(apt, "update", "-q"); err != nil {
		return err
	}
	return run(apt, append([]string{
		"install", "-q", "--yes", "--no-install-recommends", "-o", "Dir::Cache::archives=" + archives, "-o", "APT::Keep-Downloaded-Packages=true",
		// Another apt-get may be at work.
		"-o", "DPkg::Lock::Timeout=300",
	}, missing...)...)
}

// ErrUnable is what Install fails with where it must not or cannot install.
var ErrUnable = errors.New("only root can install packages, with apt-get")

func run(program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, args[0], err, out)
	}
	return nil
}
