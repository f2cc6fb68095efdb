package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster/process"
	"podlane.dev/podlane/test/node/registry"
)

// pauseImage is what containerd starts a Pod with; coreDNSImage is the cluster's DNS.
const (
	pauseImage   = "registry.k8s.io/pause"
	coreDNSImage = "registry.k8s.io/coredns/coredns"
)

// startWorker starts what a node runs, and waits until the Node is ready.
func (n *Node) startWorker(ctx context.Context) error {
	if err := n.startRegistry(ctx); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	root, err := makeCgroup(n.o.Dir)
	if err != nil {
		return err
	}
	for name, content := range n.workerFiles(root) {
		if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(n.path(name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := n.keep(process.Process{Path: n.o.Node.Containerd, Args: []string{"--config=" + n.path("containerd.toml")}}); err != nil {
		return err
	}
	err = poll(ctx, "containerd", func() error {
		conn, err := net.Dial("unix", n.path("containerd.sock"))
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range []process.Process{
		{Path: n.o.Node.Kubelet, Args: []string{
			"--config=" + n.path("kubelet.yaml"), "--kubeconfig=" + n.path("pki", "kubelet.kubeconfig"), "--root-dir=" + n.path("kubelet"),
			"--hostname-override=" + nodeName, "--node-ip=" + nodeIP.String(), "--cert-dir=" + n.path("pki"),
		}},
		{Path: n.o.Node.Proxy, Args: []string{"--config=" + n.path("proxy.yaml")}},
	} {
		if err := n.keep(p); err != nil {
			return err
		}
	}
	return poll(ctx, "the Node to be ready", func() error { return n.nodeReady(ctx) })
}

func (n *Node) nodeReady(ctx context.Context) error {
	node, err := n.Client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		} else if c.Type == corev1.NodeReady {
			return errors.New(c.Message)
		}
	}
	return errors.New("it says nothing about itself yet")
}

// startRegistry makes the images and serves them on the node's loopback address.
func (n *Node) startRegistry(ctx context.Context) error {
	images := append([]registry.Image{
		{Name: pauseImage, Files: map[string]string{"/pause": n.o.Pause}, Entrypoint: []string{"/pause"}, User: "65535:65535"},
		{Name: coreDNSImage, Files: map[string]string{"/coredns": n.o.Node.CoreDNS}, Entrypoint: []string{"/coredns"}},
	}, n.o.Images...)
	handler, err := registry.New(n.path("images"), images)
	if err != nil {
		return err
	}
	l, err := n.net.listen(ctx, "127.0.0.1:"+registryPort)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { n.say("the registry has ended: %v", server.Serve(l)) }()
	return nil
}

// workerFiles are the configurations of the node's programs. What differs from a usual node's is what this kind of machine lacks
// (CAP_SYS_RESOURCE, systemd, control groups of version 2), and where things lie.
func (n *Node) workerFiles(cgroupRoot string) map[string]string {
	names := strings.NewReplacer(
		"$DIR", n.o.Dir, "$RUNC", n.o.Runc, "$CNI", n.o.Node.CNI, "$CGROUP", cgroupRoot, "$NODE", nodeName, "$IP", nodeIP.String(),
		"$PODS", podCIDR, "$DNS", dnsIP.String(), "$PAUSE", pauseImage, "$REGISTRY", "127.0.0.1:"+registryPort,
	)
	files := map[string]string{
		"containerd.toml": containerdConfig, "certs.d/_default/hosts.toml": hostsConfig, "cni/10-bridge.conflist": cniConfig,
		"kubelet.yaml": kubeletConfig, "proxy.yaml": proxyConfig, "resolv.conf": "",
	}
	for name, content := range files {
		files[name] = names.Replace(content)
	}
	return files
}

const containerdConfig = `
version = 3
root = "$DIR/containerd"
state = "$DIR/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "$DIR/containerd.sock"
[ttrpc]
address = "$DIR/containerd.sock.ttrpc"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$PAUSE:latest"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "$DIR/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$CNI"]
conf_dir = "$DIR/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "$RUNC"
SystemdCgroup = false
`

// hostsConfig sends every pull, of whatever registry, to the node's own.
const hostsConfig = `
[host."http://$REGISTRY"]
capabilities = ["pull", "resolve"]
`

const cniConfig = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables", "hairpinMode": true,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$DIR/ipam"}
  }]
}
`

const kubeletConfig = `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $IP
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $DIR/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $DIR/pki/kubelet.crt
tlsPrivateKeyFile: $DIR/pki/kubelet.key
containerRuntimeEndpoint: unix://$DIR/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: $CGROUP
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
oomScoreAdj: 0
makeIPTablesUtilChains: false
clusterDNS: [$DNS]
clusterDomain: cluster.local
resolvConf: $DIR/resolv.conf
podLogsDir: $DIR/pods
# The machine's memory and disks are not the node's to judge.
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
`

const proxyConfig = `
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $NODE
clusterCIDR: $PODS
clientConnection: {kubeconfig: $DIR/pki/proxy.kubeconfig}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
# The whole machine's, which are not the node's to change.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`
