package assets

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
)

// A Node says where the programs of a node are that does not run Pods as processes, and of what runs on it.
type Node struct {
	Kubelet, Scheduler, Proxy string
	// Containerd has its shim in the same folder.
	Containerd string
	// CNI is the folder of the network plugins: bridge, host-local and loopback.
	CNI string
	// CoreDNS runs in a container, as every program here could: they are static.
	CoreDNS string
}

var (
	kubernetesNode = []program{
		{"kubelet", "k8s.io/kubernetes/cmd/kubelet", "1 min"},
		{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", "15 s"},
		{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", "15 s"},
	}
	containers = []program{
		{"containerd", "github.com/containerd/containerd/v2/cmd/containerd", "2 min"},
		{"containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "10 s"},
		{"bridge", "github.com/containernetworking/plugins/plugins/main/bridge", "5 s"},
		{"host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local", "5 s"},
		{"loopback", "github.com/containernetworking/plugins/plugins/main/loopback", "5 s"},
	}
	workloads = []program{
		{"coredns", "./coredns", "40 s"},
	}
)

// FindNode returns a node's programs, which it builds as Find builds the control plane's, and after it. Progress goes to w.
func FindNode(w io.Writer) (Node, error) {
	root, err := ModuleRoot()
	if err != nil {
		return Node{}, err
	}
	folder := func(name string) module {
		return module{source: filepath.Join(root, "test", "cluster", name), name: name + "-" + runtime.GOARCH, ldflags: "-s -w"}
	}
	dir := map[string]string{}
	for _, m := range []struct {
		module module
		want   []program
		key    string
	}{{kubernetes(root), kubernetesNode, "k8s"}, {folder("containers"), containers, "containers"}, {folder("workloads"), workloads, "workloads"}} {
		if dir[m.key], err = m.module.build(w, m.want); err != nil {
			return Node{}, fmt.Errorf("build a node: %w", err)
		}
	}
	return Node{
		Kubelet: filepath.Join(dir["k8s"], "kubelet"), Scheduler: filepath.Join(dir["k8s"], "kube-scheduler"), Proxy: filepath.Join(dir["k8s"], "kube-proxy"),
		Containerd: filepath.Join(dir["containers"], "containerd"), CNI: dir["containers"],
		CoreDNS: filepath.Join(dir["workloads"], "coredns"),
	}, nil
}
