package balancer_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/node/balancer"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// A machine is whom addresses are claimed from.
type machine struct {
	mu      sync.Mutex
	claimed map[netip.Addr]bool
	refuse  netip.Addr
}

func (m *machine) claim(ip netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ip == m.refuse {
		m.refuse = netip.Addr{}
		return fmt.Errorf("not this time")
	}
	m.claimed[ip] = true
	return nil
}

func (m *machine) release(ip netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.claimed, ip)
	return nil
}

func (m *machine) has(ip string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.claimed[netip.MustParseAddr(ip)]
}

// run starts a balancer of two addresses, and returns what ends it and waits for that.
func run(t *testing.T, c *cluster.Cluster, m *machine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		_ = balancer.Run(ctx, balancer.Options{ // it ends with its context
			Client: c.Client, First: netip.MustParseAddr("10.240.0.100"), Last: netip.MustParseAddr("10.240.0.101"),
			Claim: m.claim, Release: m.release, Logf: t.Logf,
		})
	})
	return func() {
		cancel()
		running.Wait()
	}
}

func service(name, more string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {type: LoadBalancer, ports: [{port: 80}]" + more + "}\n---\n"
}

// address is what a Service's status says.
func address(ctx context.Context, c *cluster.Cluster, ns, name string) (string, error) {
	s, err := c.Client.CoreV1().Services(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil || len(s.Status.LoadBalancer.Ingress) == 0 {
		return "", err
	}
	return s.Status.LoadBalancer.Ingress[0].IP, nil
}

func waitAddress(c *cluster.Cluster, ns *cluster.Namespace, name, want string) {
	ns.Until("address of "+name, func(ctx context.Context) error {
		got, err := address(ctx, c, ns.Name, name)
		if err == nil && got != want {
			err = fmt.Errorf("it is %q, want %q", got, want)
		}
		return err
	})
}

// Addresses are given in order, asked for, taken back, kept over a restart, and tried again after a failure.
func TestBalancer(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	ns := c.Namespace(t)
	m := &machine{claimed: map[netip.Addr]bool{}, refuse: netip.MustParseAddr("10.240.0.101")}
	stop := run(t, c, m)
	defer func() { stop() }()
	ns.Apply(service("asks", ", loadBalancerIP: 10.240.0.101") + service("elsewhere", ", loadBalancerIP: 192.0.2.1") + service("other", ", loadBalancerClass: example.com/other"))
	waitAddress(c, ns, "asks", "10.240.0.101")
	ns.Apply(service("first", ""))
	waitAddress(c, ns, "first", "10.240.0.100")
	ns.Apply(service("waits", ""))
	if !m.has("10.240.0.100") || !m.has("10.240.0.101") {
		t.Errorf("claimed are %v", m.claimed)
	}

	// Another process knows who has what from the Services.
	stop()
	m = &machine{claimed: map[netip.Addr]bool{}}
	stop = run(t, c, m)
	ns.Until("claims of a new balancer", func(context.Context) error {
		if !m.has("10.240.0.100") || !m.has("10.240.0.101") {
			return fmt.Errorf("not both")
		}
		return nil
	})
	for _, name := range []string{"elsewhere", "other", "waits"} {
		if got, err := address(t.Context(), c, ns.Name, name); err != nil || got != "" {
			t.Errorf("%s has %q, %v", name, got, err)
		}
	}
	// One that goes makes room for one that waits; one that changes its type gives its address back.
	ns.Kubectl("delete", "service", "asks")
	waitAddress(c, ns, "waits", "10.240.0.101")
	ns.Kubectl("patch", "service", "first", "-p", `{"spec":{"type":"`+string(corev1.ServiceTypeClusterIP)+`"}}`)
	ns.Until("address that is given back", func(context.Context) error {
		if m.has("10.240.0.100") {
			return fmt.Errorf("still claimed")
		}
		return nil
	})
	waitAddress(c, ns, "waits", "10.240.0.101")
}
