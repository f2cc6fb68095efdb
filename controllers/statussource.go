package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// nodePollPeriod is how often the leader asks on which nodes the proxy runs. Pods move seldom, and DNS that follows the
// status is slower; a watch of all nodes would cost more than it brings.
const nodePollPeriod = 30 * time.Second

// statusSource knows the addresses that clients reach the proxy by. It is safe for concurrent use.
type statusSource struct {
	options    StatusOptions
	mirror     *mirror
	leadership *leadership
	reader     client.Reader // the API server itself
	log        logr.Logger
	// changed is called when the addresses may differ.
	changed func()

	wake chan struct{} // asks for a poll of nodes

	mu        sync.Mutex
	nodes     []networkingv1.IngressLoadBalancerIngress
	nodesRead bool
}

// addresses returns the addresses to publish, sorted; ok is false as long as they are not known, when nothing must be written.
func (s *statusSource) addresses() (addresses []networkingv1.IngressLoadBalancerIngress, ok bool) {
	switch {
	case len(s.options.Addresses) > 0:
		for _, a := range s.options.Addresses {
			addresses = append(addresses, addressOf(a))
		}
	case s.options.PublishService.Name != "":
		service := s.mirror.services.find(s.options.PublishService)
		if service == nil {
			return nil, false
		}
		addresses = statusOfService(service)
	case s.options.Nodes != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.nodesRead {
			return nil, false
		}
		addresses = slices.Clone(s.nodes)
	default:
		return nil, false
	}
	return normalAddresses(addresses), true
}

// addressOf says whether s is an IP address or a host name.
func addressOf(s string) networkingv1.IngressLoadBalancerIngress {
	s = strings.TrimSpace(s)
	if _, err := netip.ParseAddr(s); err == nil {
		return networkingv1.IngressLoadBalancerIngress{IP: s}
	}
	return networkingv1.IngressLoadBalancerIngress{Hostname: s}
}

// normalAddresses sorts and removes what is empty or double.
func normalAddresses(a []networkingv1.IngressLoadBalancerIngress) []networkingv1.IngressLoadBalancerIngress {
	a = slices.DeleteFunc(a, func(x networkingv1.IngressLoadBalancerIngress) bool { return x.IP == "" && x.Hostname == "" })
	slices.SortFunc(a, func(x, y networkingv1.IngressLoadBalancerIngress) int {
		return strings.Compare(x.IP+"/"+x.Hostname, y.IP+"/"+y.Hostname)
	})
	return slices.CompactFunc(a, func(x, y networkingv1.IngressLoadBalancerIngress) bool {
		return x.IP == y.IP && x.Hostname == y.Hostname
	})
}

// statusOfService returns the addresses by which a Service is reached from where its type is meant for, as ingress-nginx
// chooses them: LoadBalancer: the balancer's addresses and the external IPs; NodePort: the external IPs, else the cluster IP; ClusterIP: the cluster IPs;
// ExternalName: the name.
func statusOfService(s *corev1.Service) []networkingv1.IngressLoadBalancerIngress {
	var addresses []networkingv1.IngressLoadBalancerIngress
	ips := func(of ...string) {
		for _, ip := range of {
			if ip != corev1.ClusterIPNone && ip != "" {
				addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{IP: ip})
			}
		}
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{Hostname: s.Spec.ExternalName})
	case corev1.ServiceTypeLoadBalancer:
		for _, b := range s.Status.LoadBalancer.Ingress {
			addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{IP: b.IP, Hostname: b.Hostname})
		}
		ips(s.Spec.ExternalIPs...)
	case corev1.ServiceTypeNodePort:
		ips(s.Spec.ExternalIPs...)
		if len(addresses) == 0 {
			ips(s.Spec.ClusterIP)
		}
	default:
		ips(s.Spec.ClusterIP)
	}
	return addresses
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *statusSource) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable: while this replica leads, it follows the nodes that the proxy runs on.
func (s *statusSource) Start(ctx context.Context) error {
	if s.options.Nodes == nil || len(s.options.Addresses) > 0 || s.options.PublishService.Name != "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(nodePollPeriod)
	defer tick.Stop()
	for {
		if _, leading := s.leadership.current(); leading {
			s.poll(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.wake:
		}
	}
}

// poke asks for a poll now.
func (s *statusSource) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// poll reads the nodes once. If it cannot, what was known stays.
func (s *statusSource) poll(ctx context.Context) {
	addresses, err := s.readNodes(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error(err, "the addresses of nodes could not be read, the status of Ingresses stays")
		}
		return
	}
	addresses = normalAddresses(addresses)
	s.mu.Lock()
	same := s.nodesRead && slices.EqualFunc(s.nodes, addresses, func(a, b networkingv1.IngressLoadBalancerIngress) bool {
		return a.IP == b.IP && a.Hostname == b.Hostname
	})
	s.nodes, s.nodesRead = addresses, true
	s.mu.Unlock()
	if !same {
		s.changed()
	}
}

// readNodes returns the addresses of the nodes on which this Pod and its siblings run.
func (s *statusSource) readNodes(ctx context.Context) ([]networkingv1.IngressLoadBalancerIngress, error) {
	pods, err := s.pods(ctx)
	if err != nil {
		return nil, err
	}
	var addresses []networkingv1.IngressLoadBalancerIngress
	seen := map[string]struct{}{}
	for i := range pods {
		name := pods[i].Spec.NodeName
		if _, done := seen[name]; done || name == "" {
			continue
		}
		seen[name] = struct{}{}
		node := &corev1.Node{}
		if err := s.reader.Get(ctx, types.NamespacedName{Name: name}, node); err != nil {
			return nil, fmt.Errorf("node %s: %w", name, err)
		}
		if a := nodeAddress(node, s.options.Nodes.Internal); a != "" {
			addresses = append(addresses, addressOf(a))
		}
	}
	return addresses, nil
}

// nodeAddress returns the first address of the preferred type, else of the other type, else the node's name.
func nodeAddress(n *corev1.Node, internal bool) string { //nolint:revive // the operator's setting, passed on
	order := []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP}
	if internal {
		order = []corev1.NodeAddressType{corev1.NodeInternalIP}
	}
	for _, t := range order {
		for _, a := range n.Status.Addresses {
			if a.Type == t && a.Address != "" {
				return a.Address
			}
		}
	}
	return n.Name
}

// pods returns the running Pods that have this Pod's labels, but for those labels that tell its generations and members apart.
func (s *statusSource) pods(ctx context.Context) ([]corev1.Pod, error) {
	if s.options.Self.Name == "" {
		return nil, errors.New("the name of this Pod is not known")
	}
	self := &corev1.Pod{}
	if err := s.reader.Get(ctx, s.options.Self, self); err != nil {
		return nil, fmt.Errorf("this Pod %s: %w", s.options.Self, err)
	}
	labels := client.MatchingLabels{}
	for k, v := range self.Labels {
		switch k {
		case "pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index":
		default:
			labels[k] = v
		}
	}
	if len(labels) == 0 {
		return nil, fmt.Errorf("this Pod %s has no labels to find its siblings by", s.options.Self)
	}
	list := &corev1.PodList{}
	if err := s.reader.List(ctx, list, client.InNamespace(self.Namespace), labels); err != nil {
		return nil, fmt.Errorf("siblings of Pod %s: %w", s.options.Self, err)
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil && p.Name != self.Name
	}), nil
}

// siblings returns how many other Pods of the same Deployment run.
func (s *statusSource) siblings(ctx context.Context) (int, error) {
	pods, err := s.pods(ctx)
	if err != nil {
		return 0, err
	}
	return len(slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.Name == s.options.Self.Name })), nil
}
