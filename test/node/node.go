package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/cluster/process"
	"podlane.dev/podlane/test/cluster/sandbox"
	"podlane.dev/podlane/test/node/registry"
)

// Options say what a node is made of. They can be kept in a file for another process (Save, Load).
type Options struct {
	// Dir is the folder for all that the node keeps; it exists and is empty. Its path must be short: there are sockets in it.
	Dir string
	// Control and Node are the programs.
	Control assets.Assets
	Node    assets.Node
	// Runc and Pause are the paths of those programs.
	Runc, Pause string
	// Images are what Pods may run, besides what the node itself needs.
	Images []registry.Image
}

// Save writes the options into their folder, and Load reads them from there.
func (o Options) Save() error {
	content, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Dir, "options.json"), content, 0o600)
}

// Load reads what Save has written into the folder dir.
func Load(dir string) (o Options, err error) {
	content, err := os.ReadFile(filepath.Join(dir, "options.json"))
	if err == nil {
		err = json.Unmarshal(content, &o)
	}
	return o, err
}

// A Node is a running cluster of one node. Its methods may be called from any goroutine.
type Node struct {
	// Client is an administrator's client without a rate limit.
	Client kubernetes.Interface

	o      Options
	log    io.Writer
	began  time.Time
	config *rest.Config
	net    network
}

// The addresses that everybody has to agree on.
var (
	nodeIP      = netip.MustParseAddr("10.240.0.1")
	outsideIP   = netip.MustParseAddr("10.240.0.2")
	balancerIPs = [2]netip.Addr{netip.MustParseAddr("10.240.0.100"), netip.MustParseAddr("10.240.0.199")}
	dnsIP       = netip.MustParseAddr("10.96.0.10")
)

const (
	nodeName     = "node-1"
	podCIDR      = "10.244.0.0/24"
	serviceCIDR  = "10.96.0.0/16"
	registryPort = "5000"
	apiPort      = "6443"
)

// Start brings the cluster up and returns when the Node is ready and DNS answers. It must be called inside a sandbox, with whose end
// the cluster ends. What is being done is said on log. If it fails, the error holds the ends of the logs that say why.
func Start(ctx context.Context, o Options, log io.Writer) (*Node, error) {
	if !sandbox.Inside() {
		return nil, fmt.Errorf("a node runs only in a sandbox")
	}
	n := &Node{o: o, log: log, began: time.Now()}
	// What the node's programs keep in the folders that every node of a machine shares is this one's alone, and goes with it.
	for _, dir := range []string{"/run", "/var/lib", "/var/log"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return nil, fmt.Errorf("mount a private %s: %w", dir, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"the network", n.startNetwork},
		{"etcd and the control plane", n.startControl},
		{"containerd, kubelet and kube-proxy", n.startWorker},
		{"cluster DNS and the load balancer", n.startServices},
	}
	for i, step := range steps {
		n.say("%d/%d %s", i+1, len(steps), step.what)
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("start %s: %w%s", step.what, err, n.tails())
		}
	}
	n.say("the cluster is ready")
	return n, nil
}

// say tells the user what happens, with the time since the start.
func (n *Node) say(format string, args ...any) {
	fmt.Fprintf(n.log, "%6.1fs  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

func (n *Node) path(elem ...string) string {
	return filepath.Join(append([]string{n.o.Dir}, elem...)...)
}

// Kubeconfig is the path of an administrator's kubeconfig, for use outside the node in the sandbox.
func (n *Node) Kubeconfig() string { return Kubeconfig(n.o.Dir) }

// Kubeconfig is the path of the administrator's kubeconfig of the node that is kept in dir.
func Kubeconfig(dir string) string { return filepath.Join(dir, "kubeconfig") }

// APIServer is the address of the API server.
func (n *Node) APIServer() string { return nodeIP.String() + ":" + apiPort }

// keep runs a program of the control plane or of the node in the node's network, and starts it again when it ends, as a kubelet does with
// static Pods: kube-controller-manager and kube-scheduler end when they lose their Lease. The number of its process is in the
// folder run, for those who want to stop it.
func (n *Node) keep(p process.Process) error {
	p.Name = filepath.Base(p.Path)
	p.Args = append([]string{"--net=" + n.net.file, "--", p.Path}, p.Args...)
	p.Path, p.Log = "nsenter", n.path("log", p.Name+".log")
	// Nothing here speaks to anybody outside.
	p.Env = append([]string{"HTTP_PROXY=", "HTTPS_PROXY=", "http_proxy=", "https_proxy=", "PATH=" + filepath.Dir(n.o.Node.Containerd) + ":" + os.Getenv("PATH")}, p.Env...)
	running, err := n.run(p)
	if err != nil {
		return err
	}
	go func() {
		for {
			<-running.Done()
			n.say("%s has ended (%s) and is started again; its log is %s", p.Name, running.State(), p.Log)
			time.Sleep(time.Second)
			if running, err = n.run(p); err != nil {
				n.say("%v", err)
				return
			}
		}
	}()
	return nil
}

func (n *Node) run(p process.Process) (*process.Process, error) {
	running, err := process.Run(p)
	if err != nil {
		return nil, err
	}
	return running, os.WriteFile(PIDFile(n.o.Dir, p.Name), []byte(strconv.Itoa(running.Pid())), 0o644)
}

// PIDFile holds the number, inside the sandbox, of the process of a program ("kube-apiserver") of the node that is kept in dir.
func PIDFile(dir, program string) string { return filepath.Join(dir, "run", program+".pid") }

// poll calls check until it succeeds or ctx has ended.
func poll(ctx context.Context, what string, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (n *Node) load() error {
	var err error
	if n.config, err = clientcmd.BuildConfigFromFlags("", n.Kubeconfig()); err != nil {
		return err
	}
	n.config.QPS, n.config.Burst = -1, -1
	n.Client, err = kubernetes.NewForConfig(n.config)
	return err
}
