// Package cluster runs a real Kubernetes for tests on a bare Linux machine: etcd, kube-apiserver and kube-controller-manager,
// built from their Go modules, and Pods as processes at Pod IPs of their own. A package's tests share one cluster and use a
// namespace each:
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Main(m, "cmd/podlane")) }
//
//	func TestIt(t *testing.T) {
//		c := cluster.Shared(t)
//		ns := c.Namespace(t)
//		ns.Apply(manifest)
//		ns.WaitRollout("deployment/goweb")
//		c.Start(t, cluster.Command("podlane", "controller", "--http-address=127.0.0.1:80"))
//		out := cluster.Curl(t, "--resolve", "www.goweb.com:80:127.0.0.1", "http://www.goweb.com/")
//	}
//
// Main runs the tests in a network namespace: every port is free there and nothing outside can be reached. No package of the
// product may import this one.
package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/cluster/kubelet"
)

// BackendImage is the container image that stands for the program test/backend in every cluster.
const BackendImage = "podlane.dev/test/backend"

// GRPCImage stands for the program test/grpc/grpcpod, in the clusters of tests that have Main build it.
const GRPCImage = "podlane.dev/test/grpcpod"

// Options say what a cluster has. The zero value is a whole cluster.
type Options struct {
	// Images are further container images: a name without a tag to the path of a program.
	Images map[string]string
	// APIServerOnly leaves out kube-controller-manager and the kubelet: nothing happens to objects by itself.
	APIServerOnly bool
	// APIServerFlags are added to kube-apiserver's.
	APIServerFlags []string
	// PodCIDR is the range of Pod IPs; 10.244.0.0/16 unless set. Two clusters at once need two.
	PodCIDR netip.Prefix
	// Log gets one line for each thing that goes wrong in the cluster; os.Stderr unless set.
	Log io.Writer
}

// A Cluster is a running control plane and its Node. Its methods may be called from any goroutine.
type Cluster struct {
	// Dir holds the logs and the certificates.
	Dir string
	// Client is an administrator's client without a rate limit.
	Client kubernetes.Interface
	// Kubelet is the Node, nil with APIServerOnly.
	Kubelet *kubelet.Kubelet

	options    Options
	programs   assets.Assets
	kubeconfig string
	config     *rest.Config
	endpoint   netip.AddrPort
	etcd       *Process
	etcdURL    string // without TLS
	apiServer  *Process
	controller *Process

	mu       sync.Mutex
	stopped  bool
	launched []*Process
}

// nodeIP is where the API server and the Node are; it is outside the Pod ranges, and no loopback address, which objects
// may not contain.
var nodeIP = netip.MustParseAddr("10.240.0.1")

// Start starts a cluster and returns when it is ready. It must be called where Main runs the tests. If it fails, the logs stay
// in the folder that the error names.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if err := inMain(); err != nil {
		return nil, err
	}
	noteSources()
	if o.Log == nil {
		o.Log = os.Stderr
	}
	programs, err := assets.Find(o.Log)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(os.Getenv(dirEnv), "cluster-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, options: o, programs: programs}
	if err := c.start(ctx); err != nil {
		err = fmt.Errorf("start a cluster: %w%s", err, c.tails())
		c.Stop()
		if kept := c.keepLogs(); kept != "" {
			err = fmt.Errorf("%w\nlogs are in %s", err, kept)
		}
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := addNodeAddress(); err != nil {
		return err
	}
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	if c.options.APIServerOnly {
		return nil
	}
	images := map[string]string{BackendImage: Program("backend"), GRPCImage: Program("grpcpod")}
	maps.Copy(images, c.options.Images)
	var err error
	c.Kubelet, err = kubelet.Start(kubelet.Options{
		Client: c.Client, NodeName: "node-1", NodeIP: nodeIP, PodCIDR: c.options.PodCIDR, Images: images,
		Podinit: Program("podinit"), LogDir: filepath.Join(c.Dir, "pods"), Logf: c.logf,
	})
	return err
}

func (c *Cluster) logf(format string, args ...any) {
	fmt.Fprintf(c.options.Log, "cluster: "+format+"\n", args...)
}

// Stop ends everything that the cluster runs, and returns when it has ended.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.stopped = true
	for _, p := range c.launched {
		p.Kill()
	}
	if c.Kubelet != nil {
		c.Kubelet.Stop()
	}
	for _, p := range []*Process{c.controller, c.apiServer, c.etcd} {
		if p != nil {
			p.Kill() // nothing of theirs is kept, so nothing needs an orderly end
		}
	}
}

// Kubeconfig is the path of an administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.kubeconfig }

// NodeIP is the address of the Node and of the API server.
func (c *Cluster) NodeIP() netip.Addr { return nodeIP }

// RESTConfig is an administrator's client configuration; the caller may change it.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// PauseAPIServer stops the API server's process without ending it: connections stay, nothing answers.
func (c *Cluster) PauseAPIServer() error { return c.apiServer.Signal(syscall.SIGSTOP) }

// ResumeAPIServer undoes PauseAPIServer.
func (c *Cluster) ResumeAPIServer() error { return c.apiServer.Signal(syscall.SIGCONT) }

// RestartAPIServer kills the API server, waits for down, and starts it again at the same address.
func (c *Cluster) RestartAPIServer(ctx context.Context, down time.Duration) error {
	c.apiServer.Kill()
	select {
	case <-time.After(down):
	case <-ctx.Done():
		return ctx.Err()
	}
	return c.startAPIServer(ctx)
}

// WipeEtcd removes what the API server has stored under a prefix of its keys, such as "/registry/ingress/", behind its back: it must be down.
func (c *Cluster) WipeEtcd(ctx context.Context, prefix string) error {
	end := []byte(prefix)
	end[len(end)-1]++
	body, err := json.Marshal(map[string][]byte{"key": []byte(prefix), "range_end": end})
	if err != nil {
		return fmt.Errorf("wipe etcd: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.etcdURL+"/v3/kv/deleterange", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("wipe etcd: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("wipe etcd: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("wipe etcd: %s", answer.Status)
	}
	return nil
}

func (c *Cluster) load() error {
	var err error
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		return err
	}
	c.config.QPS, c.config.Burst = -1, -1
	c.Client, err = kubernetes.NewForConfig(c.config)
	return err
}

// tails are the last lines of the control plane's logs, for an error.
func (c *Cluster) tails() string {
	var out strings.Builder
	for _, p := range []*Process{c.etcd, c.apiServer, c.controller} {
		if p != nil {
			out.WriteString("\n" + p.Tail(15))
		}
	}
	return out.String()
}

// keepLogs copies the logs to where they outlive the run, and says where.
func (c *Cluster) keepLogs() string {
	kept, err := os.MkdirTemp("", "podlane-cluster-logs-")
	if err != nil {
		return ""
	}
	err = filepath.WalkDir(c.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".log" {
			return err
		}
		content, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(filepath.Join(kept, d.Name()), content, 0o644))
	})
	if err != nil {
		return kept + " (not all: " + err.Error() + ")"
	}
	return kept
}
