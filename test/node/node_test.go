package node

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/node/registry"
)

func TestOptionsAreKept(t *testing.T) {
	want := Options{
		Dir: t.TempDir(), Control: assets.Assets{Etcd: "/etcd"}, Node: assets.Node{Kubelet: "/kubelet", CNI: "/cni"}, Runc: "/runc", Pause: "/pause",
		Images: []registry.Image{{Name: "a/b", Files: map[string]string{"/x": "/y"}, Cmd: []string{"z"}}},
	}
	if err := want.Save(); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(want.Dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v %v, want %+v", got, err, want)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("options were read from an empty folder")
	}
}

// Every placeholder of the configurations is filled in.
func TestConfigurations(t *testing.T) {
	n := &Node{o: Options{Dir: "/dir", Runc: "/usr/sbin/runc", Node: assets.Node{CNI: "/cni"}}}
	files := n.workerFiles("/group")
	for name, content := range files {
		if strings.Contains(content, "$") {
			t.Errorf("%s holds a placeholder:\n%s", name, content)
		}
	}
	if c := files["kubelet.yaml"]; !strings.Contains(c, "cgroupRoot: /group\n") || !strings.Contains(c, "unix:///dir/containerd.sock\n") {
		t.Errorf("kubelet.yaml:\n%s", c)
	}
}

// Start must not touch the machine: it belongs in a sandbox.
func TestOnlyInASandbox(t *testing.T) {
	if _, err := Start(t.Context(), Options{Dir: t.TempDir()}, os.Stderr); err == nil || !strings.Contains(err.Error(), "sandbox") {
		t.Errorf("Start outside a sandbox: %v", err)
	}
}

// Groups go innermost first; one that is not there is no error, and one that is in use is.
func TestRemoveGroup(t *testing.T) {
	group := filepath.Join(t.TempDir(), "group")
	if err := removeGroup(group); err != nil {
		t.Errorf("no group: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(group, "kubepods", "pod1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := removeGroup(group); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(group); err == nil {
		t.Error("the group is left")
	}
	if err := os.MkdirAll(filepath.Join(group, "busy"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(group, "busy", "x"), nil, 0o600); err != nil { // rmdir(2) fails as it does for a group with processes
		t.Fatal(err)
	}
	if err := removeGroup(group); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a group in use: %v", err)
	}
}
