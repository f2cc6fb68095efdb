package config

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Cluster are the options of talking to the Kubernetes API: what is watched and what is written.
type Cluster struct {
	// Kubeconfig is a path; "" means $KUBECONFIG, then the Pod's service account, then ~/.kube/config.
	Kubeconfig string
	// Namespaces limits what is watched; empty means all.
	Namespaces Words

	// PublishService is namespace/name of the Service whose addresses go into Ingress status; PublishStatusAddress are
	// addresses or host names that go there instead.
	PublishService       string
	PublishStatusAddress Words
	// PublishNodes puts the addresses of the nodes that run Podlane there; InternalNodeIP prefers their internal ones.
	PublishNodes, InternalNodeIP bool
	UpdateStatus                 bool
	UpdateStatusOnExit           bool

	// Election is the lease that decides which replica writes status and Events.
	ElectionID        string
	ElectionNamespace string
	ElectionTTL       time.Duration
	NoElection        bool

	// BrakePercent of all hosts, or of all ready endpoints, may go in one step, 0 for any number; more than that stays for BrakeHold.
	BrakePercent int
	BrakeHold    time.Duration
}

// NewCluster returns the defaults.
func NewCluster() *Cluster {
	return &Cluster{
		UpdateStatus: true,
		ElectionID:   "podlane-leader", ElectionTTL: 10 * time.Second,
		// What the API server says is obeyed at once unless the operator wants otherwise: who deletes a namespace means it.
		BrakePercent: 50,
	}
}

// Title is the heading in --help.
func (*Cluster) Title() string { return "Cluster" }

// AddFlags binds the options to fs.
func (c *Cluster) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig,
		"kubeconfig file; without it $KUBECONFIG, then the Pod's service account, then ~/.kube/config")
	fs.Var(&c.Namespaces, "watch-namespace", "namespaces to watch, comma-separated; without it all")
	fs.StringVar(&c.PublishService, "publish-service", c.PublishService,
		"Service, as namespace/name, whose load balancer addresses are written into the status of Ingresses")
	fs.Var(&c.PublishStatusAddress, "publish-status-address",
		"addresses or host names to write into the status of Ingresses instead, comma-separated")
	fs.BoolVar(&c.PublishNodes, "publish-node-addresses", c.PublishNodes,
		"write the addresses of the nodes that run Podlane into the status of Ingresses; needs POD_NAMESPACE and POD_NAME, and the right to get Pods and nodes")
	fs.BoolVar(&c.InternalNodeIP, "report-node-internal-ip-address", c.InternalNodeIP,
		"with --publish-node-addresses, prefer the internal addresses of nodes")
	fs.BoolVar(&c.UpdateStatus, "update-status", c.UpdateStatus, "write addresses into the status of Ingresses")
	fs.BoolVar(&c.UpdateStatusOnExit, "update-status-on-shutdown", c.UpdateStatusOnExit,
		"remove the addresses from the status of Ingresses when the leader stops and no other replica runs; needs POD_NAMESPACE and POD_NAME, and the right to list Pods")
	fs.StringVar(&c.ElectionID, "election-id", c.ElectionID, "name of the Lease that elects the replica that writes status and Events")
	fs.StringVar(&c.ElectionNamespace, "election-namespace", c.ElectionNamespace,
		"namespace of that Lease; without it the Pod's own")
	addDuration(fs, &c.ElectionTTL, "election-ttl", "how long a leader that is gone keeps the Lease; another one writes status at most a third of that later")
	fs.BoolVar(&c.NoElection, "disable-leader-election", c.NoElection,
		"write status and Events without a Lease; only for a single replica")
	fs.IntVar(&c.BrakePercent, "brake-percent", c.BrakePercent,
		"a step that removes more than this share of all hosts, or of all endpoints that were ready, and more than 10, is an accident to shout about, as when the API server comes back without its objects; 0 is never")
	addDuration(fs, &c.BrakeHold, "brake-hold",
		"how long what such a step removes stays, unless it comes back before, such as 30s; 0 removes it at once")
}

// Validate checks names and combinations.
func (c *Cluster) Validate() error {
	return first(
		c.checkNamespaces(),
		objectName("publish-service", c.PublishService),
		c.checkStatus(),
		c.checkElection(),
		c.checkBrake(),
	)
}

func (c *Cluster) checkNamespaces() error {
	for _, namespace := range c.Namespaces {
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			return fmt.Errorf("--watch-namespace: %q is not a namespace's name: write default", namespace)
		}
	}
	return nil
}

func (c *Cluster) checkStatus() error {
	switch {
	case c.PublishService != "" && len(c.PublishStatusAddress) > 0:
		return errors.New("--publish-service and --publish-status-address are both set: write only one")
	case c.PublishNodes && (c.PublishService != "" || len(c.PublishStatusAddress) > 0):
		return errors.New("--publish-node-addresses is set beside --publish-service or --publish-status-address: write only one")
	case c.InternalNodeIP && !c.PublishNodes:
		return errors.New("--report-node-internal-ip-address has no effect by itself: write --publish-node-addresses too")
	}
	for _, address := range c.PublishStatusAddress {
		if _, err := netip.ParseAddr(address); err == nil {
			continue
		}
		if len(validation.IsDNS1123Subdomain(address)) > 0 {
			return fmt.Errorf("--publish-status-address: %q is neither an IP address nor a host name: write 192.0.2.1 or lb.example.com", address)
		}
	}
	return nil
}

// maxBrakeHold bounds how long requests may go to addresses that the cluster has given up.
const maxBrakeHold = 10 * time.Minute

func (c *Cluster) checkBrake() error {
	switch {
	case c.BrakePercent < 0 || c.BrakePercent > 99:
		return fmt.Errorf("--brake-percent: %d is not a share in percent: write 1 to 99, or 0 for none", c.BrakePercent)
	case c.BrakeHold > maxBrakeHold:
		return fmt.Errorf("--brake-hold: %v is too long, for addresses of Pods are used again: write %v or less", c.BrakeHold, maxBrakeHold)
	case c.BrakeHold > 0 && c.BrakePercent == 0:
		return errors.New("--brake-hold has no effect with --brake-percent=0: write --brake-percent=50")
	}
	return nil
}

// minElectionTTL leaves the leader time for two tries to renew over a slow API server.
const minElectionTTL = 5 * time.Second

func (c *Cluster) checkElection() error {
	if c.NoElection {
		return nil
	}
	if c.ElectionNamespace != "" && len(validation.IsDNS1123Label(c.ElectionNamespace)) > 0 {
		return fmt.Errorf("--election-namespace: %q is not a namespace's name: write default", c.ElectionNamespace)
	}
	return first(
		subdomain("election-id", c.ElectionID, "podlane-leader"),
		atLeast("election-ttl", c.ElectionTTL, minElectionTTL, "5s"),
	)
}
