// Package balancer is the load balancer of a cluster without a cloud: it gives each Service of type LoadBalancer an address of a range, and
// writes it into the Service's status. It moves no traffic: kube-proxy does, for every address that it finds there. Who holds which
// address is kept in the Services alone.
package balancer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// Options say what is handed out. All fields are required.
type Options struct {
	// Client may list, watch and change Services.
	Client kubernetes.Interface
	// First and Last are the ends of the range.
	First, Last netip.Addr
	// Claim is called before a Service gets an address, and Release after it has given it back. Each is called again after an error.
	Claim, Release func(netip.Addr) error
	// Logf gets a line for each address that is given or taken back, and for each failure.
	Logf func(format string, args ...any)
}

// retry is how long it takes until what has failed is tried again.
const retry = 2 * time.Second

// Run hands out addresses until ctx ends. Services with a loadBalancerClass are another balancer's. One with a loadBalancerIP of the range gets
// that one, when it is free.
func Run(ctx context.Context, o Options) error {
	factory := informers.NewSharedInformerFactory(o.Client, 0)
	services := factory.Core().V1().Services()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { notify() }, UpdateFunc: func(any, any) { notify() }, DeleteFunc: func(any) { notify() },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), services.Informer().HasSynced) {
		return ctx.Err()
	}
	b := &balancer{Options: o, services: services.Lister(), held: map[netip.Addr]types.NamespacedName{}}
	for {
		var again <-chan time.Time
		if err := b.sync(ctx); err != nil {
			o.Logf("load balancer: %v", err)
			again = time.After(retry)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-again:
		}
	}
}

// A balancer is the state of Run, of one goroutine.
type balancer struct {
	Options
	services listers.ServiceLister
	held     map[netip.Addr]types.NamespacedName
}

// sync takes back what is held for Services that do not want it any more, and then gives those that want one an address.
func (b *balancer) sync(ctx context.Context) error {
	all, err := b.services.List(labels.Everything())
	if err != nil {
		return err
	}
	wanted := map[types.NamespacedName]*corev1.Service{}
	for _, s := range all {
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil {
			wanted[nameOf(s)] = s
		}
	}
	var problems []error
	for ip, name := range b.held {
		if wanted[name] != nil {
			continue
		}
		if err := b.Release(ip); err != nil {
			problems = append(problems, fmt.Errorf("take %s back from %s: %w", ip, name, err))
			continue
		}
		delete(b.held, ip)
		b.Logf("load balancer: %s is free again: %s is gone, or is of another type", ip, name)
	}
	// Addresses that Services have from before this process keep their owners.
	for name, s := range wanted {
		if ip, ok := b.assigned(s); ok && b.held[ip] == (types.NamespacedName{}) {
			b.held[ip] = name
			problems = append(problems, b.Claim(ip))
		}
	}
	for name, s := range wanted {
		if err := b.give(ctx, s); err != nil {
			problems = append(problems, fmt.Errorf("an address for Service %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

// give makes sure that a Service has an address, and that its status says so.
func (b *balancer) give(ctx context.Context, s *corev1.Service) error {
	name := nameOf(s)
	if ip, ok := b.assigned(s); ok && b.held[ip] == name {
		return nil
	}
	ip, err := b.choose(name, s.Spec.LoadBalancerIP)
	if err != nil {
		return err
	}
	if err := b.Claim(ip); err != nil {
		return err
	}
	b.held[ip] = name
	mode := corev1.LoadBalancerIPModeVIP
	changed := s.DeepCopy()
	changed.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip.String(), IPMode: &mode}}
	if _, err := b.Client.CoreV1().Services(s.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{}); err != nil {
		return err
	}
	b.Logf("load balancer: %s has %s", name, ip)
	return nil
}

// choose returns the address that is held for the Service already, else the one that it asks for, else the first that is free.
func (b *balancer) choose(name types.NamespacedName, asked string) (netip.Addr, error) {
	for ip, owner := range b.held {
		if owner == name {
			return ip, nil
		}
	}
	if asked != "" {
		ip, err := netip.ParseAddr(asked)
		if err != nil || !b.inRange(ip) {
			return netip.Addr{}, fmt.Errorf("it asks for %q; addresses are %s to %s", asked, b.First, b.Last)
		}
		if owner, taken := b.held[ip]; taken {
			return netip.Addr{}, fmt.Errorf("it asks for %s, which %s has", ip, owner)
		}
		return ip, nil
	}
	for ip := b.First; b.inRange(ip); ip = ip.Next() {
		if _, taken := b.held[ip]; !taken {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("all addresses from %s to %s are taken", b.First, b.Last)
}

// assigned is the address of the range that a Service's status names.
func (b *balancer) assigned(s *corev1.Service) (netip.Addr, bool) {
	for _, i := range s.Status.LoadBalancer.Ingress {
		if ip, err := netip.ParseAddr(i.IP); err == nil && b.inRange(ip) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func (b *balancer) inRange(ip netip.Addr) bool {
	return b.First.Compare(ip) <= 0 && ip.Compare(b.Last) <= 0
}

func nameOf(s *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}
