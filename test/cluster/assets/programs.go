package assets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Programs builds commands of this module, and of the modules in its folders, named by import path below podlane.dev/podlane such as "cmd/podlane", and
// returns where each one is, by the last element of its path. The binaries are kept between runs, so what has not changed is
// not linked again, and are copied into dir, so that a build by another process does not change them under this one.
func Programs(w io.Writer, dir string, packages []string) (map[string]string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256([]byte(root))
	keep := filepath.Join(CacheDir(), "programs-"+hex.EncodeToString(key[:6]))
	unlock, err := lock(keep, w)
	if err != nil {
		return nil, err
	}
	defer unlock()
	found := map[string]string{}
	for _, pkg := range packages {
		name := path.Base(pkg)
		kept, mine := filepath.Join(keep, name), filepath.Join(dir, name)
		module := moduleOf(root, pkg)
		if err := goBuild(filepath.Join(root, module), "-o", kept, "./"+strings.TrimPrefix(pkg, module)); err != nil {
			return nil, err
		}
		if err := copyProgram(kept, mine); err != nil {
			return nil, fmt.Errorf("take %s: %w", name, err)
		}
		found[name] = mine
	}
	return found, nil
}

// moduleOf returns the folder of the module that pkg is in, below root: "" for this one, else with a final slash.
func moduleOf(root, pkg string) string {
	for dir := path.Dir(pkg); dir != "."; dir = path.Dir(dir) {
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			return dir + "/"
		}
	}
	return ""
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
