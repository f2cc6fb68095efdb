// Package assets owns the programs that the tests run: the control plane and a node's programs, built from their Go modules into a
// cache that is keyed by version, and Podlane's own commands. It must not start any of them.
package assets

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Version is the Kubernetes version that the control plane is built from; it must agree with ../k8s/go.mod.
const Version = "v1.36.3"

// An Assets says where the programs of the control plane are.
type Assets struct {
	Etcd              string
	APIServer         string
	ControllerManager string
	Kubectl           string
}

// A program is one binary to build. Cost is what it takes cold, in order, on two cores.
type program struct {
	name, pkg, cost string
}

// The order matters: each build finds in Go's build cache what the ones before it compiled.
var programs = []program{
	{"etcd", "./etcd", "1 min"},
	{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "4 min"},
	{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", "1 min"},
	{"kubectl", "k8s.io/kubernetes/cmd/kubectl", "30 s"},
}

// Find returns the control plane's programs. Those in the folder KUBEBUILDER_ASSETS win; what is not there is built into
// the cache unless it is there already. Progress goes to w, a line every few seconds while something is built. Any number
// of processes may call Find at once: one builds, the others wait.
func Find(w io.Writer) (Assets, error) {
	paths := map[string]string{}
	var missing []program
	for _, p := range programs {
		if given := os.Getenv("KUBEBUILDER_ASSETS"); given != "" {
			if path := filepath.Join(given, p.name); executable(path) {
				paths[p.name] = path
				continue
			}
		}
		missing = append(missing, p)
	}
	if len(missing) > 0 {
		root, err := ModuleRoot()
		if err != nil {
			return Assets{}, err
		}
		dir, err := kubernetes(root).build(w, missing)
		if err != nil {
			return Assets{}, fmt.Errorf("build the control plane: %w", err)
		}
		for _, p := range missing {
			paths[p.name] = filepath.Join(dir, p.name)
		}
	}
	return Assets{
		Etcd:              paths["etcd"],
		APIServer:         paths["kube-apiserver"],
		ControllerManager: paths["kube-controller-manager"],
		Kubectl:           paths["kubectl"],
	}, nil
}

// CacheDir is the folder that keeps what takes long to build: PODLANE_CACHE, else podlane in the user's cache folder,
// else, for a user without a home, a folder of that user in the temporary folder.
func CacheDir() string {
	if dir := os.Getenv("PODLANE_CACHE"); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			return abs
		}
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "podlane")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("podlane-cache-%d", os.Getuid()))
}

// ModuleRoot is the folder of Podlane's go.mod, looked for from the working directory upwards.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module podlane.dev/podlane\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the source tree of podlane.dev/podlane")
		}
		dir = parent
	}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
