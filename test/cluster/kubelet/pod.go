package kubelet

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A pod is the worker of one Pod. Only its own goroutine (run) changes what is not under mu.
type pod struct {
	kubelet         *Kubelet
	namespace, name string
	uid             types.UID
	containers      []*container
	changed         chan struct{} // holds one token when the status may have changed
	gone            chan struct{} // closed when the API object is gone
	stopping        chan struct{} // closed when the containers shall not start again

	mu      sync.Mutex
	object  *corev1.Pod // as last seen
	box     *box
	addr    netip.Addr
	started metav1.Time
	written *corev1.PodStatus // as last written
}

func newPod(k *Kubelet, o *corev1.Pod) *pod {
	p := &pod{
		kubelet: k, namespace: o.Namespace, name: o.Name, uid: o.UID, object: o, started: metav1.Now(),
		changed: make(chan struct{}, 1), gone: make(chan struct{}), stopping: make(chan struct{}),
	}
	for i := range o.Spec.Containers {
		p.containers = append(p.containers, newContainer(p, &o.Spec.Containers[i]))
	}
	return p
}

// update takes a newer form of the object.
func (p *pod) update(o *corev1.Pod) {
	p.mu.Lock()
	p.object = o
	p.mu.Unlock()
	p.notify()
}

// vanish tells the worker that the object is gone. The caller holds the Kubelet's lock, so it happens once.
func (p *pod) vanish() {
	select {
	case <-p.gone:
	default:
		close(p.gone)
	}
}

func (p *pod) notify() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *pod) current() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.object
}

func (p *pod) address() netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// run takes the Pod from its first sight to its end.
func (p *pod) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	if p.setUp(ctx) {
		for _, c := range p.containers {
			running.Go(func() { c.run(ctx) })
		}
	}
	p.follow(ctx)
	close(p.stopping)
	p.terminate(ctx)
	cancel()
	running.Wait()
	p.tearDown()
	p.finish()
}

// setUp gives the Pod its address and namespaces. It reports false when the Pod is to end before it began.
func (p *pod) setUp(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a Pod that waits for an address may be deleted meanwhile
		for ctx.Err() == nil && !p.ending() {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		cancel()
	}()
	want, _ := netip.ParseAddr(p.current().Annotations[AddressAnnotation])
	a, err := p.kubelet.net.allocate(ctx, want)
	if err != nil {
		p.complain("allocate an address", err)
		return false
	}
	b, err := p.kubelet.newBox(p.current().Name, a)
	if err != nil {
		p.kubelet.net.free(a)
		p.complain("set up", err)
		return false
	}
	p.mu.Lock()
	p.addr, p.box = a, b
	p.mu.Unlock()
	return true
}

func (p *pod) complain(what string, err error) {
	if p.kubelet.ctx.Err() == nil && !p.ending() {
		p.kubelet.Logf("pod %s/%s: %s: %v", p.namespace, p.name, what, err)
	}
}

func (p *pod) ending() bool {
	select {
	case <-p.gone:
		return true
	default:
		return p.current().DeletionTimestamp != nil
	}
}

// follow writes the status whenever it changed, until the Pod is to end.
func (p *pod) follow(ctx context.Context) {
	p.notify()
	for !p.ending() {
		select {
		case <-p.changed:
			p.writeStatus(ctx)
		case <-p.gone:
		case <-ctx.Done():
			return
		}
	}
}

// terminate stops the containers as Kubernetes does: preStop hook, SIGTERM, and SIGKILL when the grace period is over.
// Readiness is followed to the end, because endpoints that are terminating may still be serving.
func (p *pod) terminate(ctx context.Context) {
	grace := time.Duration(0)
	if o := p.current(); o.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*o.DeletionGracePeriodSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		var all sync.WaitGroup
		for _, c := range p.containers {
			all.Go(func() { c.terminate(ctx) })
		}
		all.Wait()
	}()
	for {
		select {
		case <-p.changed:
			p.writeStatus(ctx)
		case <-p.gone:
			return
		case <-ctx.Done():
			return
		case <-stopped:
			return
		}
	}
}

func (p *pod) tearDown() {
	p.mu.Lock()
	a, b := p.addr, p.box
	p.addr, p.box = netip.Addr{}, nil
	p.mu.Unlock()
	if b != nil {
		p.kubelet.net.detach(a)
		b.close()
		p.kubelet.net.free(a)
	}
}

// finish reports that the containers have ended and lets the object go.
func (p *pod) finish() {
	if !p.ending() || p.kubelet.ctx.Err() != nil {
		return
	}
	select {
	case <-p.gone:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(p.kubelet.ctx, 10*time.Second)
	defer cancel()
	p.writeStatus(ctx)
	now := int64(0)
	err := p.kubelet.Client.CoreV1().Pods(p.namespace).Delete(ctx, p.name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.uid},
	})
	if err != nil && ctx.Err() == nil && !missing(err) {
		p.kubelet.Logf("delete pod %s/%s: %v", p.namespace, p.name, err)
	}
}

func (p *pod) exec(ctx context.Context, command []string) ([]byte, error) {
	p.mu.Lock()
	b := p.box
	p.mu.Unlock()
	if b == nil {
		return nil, fmt.Errorf("pod %s/%s does not run", p.namespace, p.name)
	}
	cmd := b.command(ctx, "", command)
	return cmd.CombinedOutput()
}
