// Package kubelet owns the Node of a test cluster: it runs Pods as processes, each Pod with a network, a host name and a
// /var of its own, runs their probes and reports their status, so that the real controllers make real EndpointSlices.
// There are no images, no cgroups and no volumes. It must run inside a sandbox.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// AddressAnnotation on a Pod names the IPv4 address that it must get. While another Pod holds the address the Pod waits,
// and it takes the address at the moment when the other one has gone.
const AddressAnnotation = "test.podlane.dev/address"

// Options are what a Kubelet needs. All are required but PodCIDR.
type Options struct {
	Client kubernetes.Interface
	// NodeName and NodeIP are the Node that the Kubelet registers.
	NodeName string
	NodeIP   netip.Addr
	// PodCIDR is where Pods get their addresses: 10.244.0.0/16 unless set.
	PodCIDR netip.Prefix
	// Images says which program a container image is. A key without a tag stands for every tag.
	Images map[string]string
	// Podinit is the built command test/cluster/cmd/podinit.
	Podinit string
	// LogDir gets one file per container: NAMESPACE_POD_CONTAINER.log.
	LogDir string
	// Logf reports what goes wrong in the Kubelet itself.
	Logf func(format string, args ...any)
}

// A Kubelet is the one Node of a cluster and its scheduler: it takes every Pod that has no Node.
type Kubelet struct {
	Options
	net      *network
	ctx      context.Context
	stop     context.CancelFunc
	informer cache.SharedIndexInformer

	mu      sync.Mutex
	pods    map[types.UID]*pod
	workers sync.WaitGroup
}

// Start registers the Node and begins to run Pods. The Kubelet works until Stop.
func Start(o Options) (*Kubelet, error) {
	if !o.PodCIDR.IsValid() {
		o.PodCIDR = netip.MustParsePrefix("10.244.0.0/16")
	}
	network, err := newNetwork(o.PodCIDR)
	if err != nil {
		return nil, fmt.Errorf("make the Pod network: %w", err)
	}
	if err := os.MkdirAll(o.LogDir, 0o755); err != nil {
		return nil, err
	}
	k := &Kubelet{Options: o, net: network, pods: map[types.UID]*pod{}}
	k.ctx, k.stop = context.WithCancel(context.Background())
	if err := k.register(); err != nil {
		k.Stop()
		return nil, fmt.Errorf("register node %s: %w", o.NodeName, err)
	}
	factory := informers.NewSharedInformerFactory(o.Client, 0)
	k.informer = factory.Core().V1().Pods().Informer()
	_, err = k.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.sync(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { k.sync(o.(*corev1.Pod)) },
		DeleteFunc: k.deleted,
	})
	if err != nil {
		k.Stop()
		return nil, err
	}
	k.workers.Go(func() { k.informer.Run(k.ctx.Done()) })
	if !cache.WaitForCacheSync(k.ctx.Done(), k.informer.HasSynced) {
		k.Stop()
		return nil, errors.New("the Pod cache did not fill")
	}
	return k, nil
}

// Stop kills every Pod's processes, removes the Pod network and returns when both are gone. The API objects stay.
func (k *Kubelet) Stop() {
	k.stop()
	k.workers.Wait()
	k.net.close()
}

func (k *Kubelet) register() error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: k.NodeName, Labels: map[string]string{
			corev1.LabelHostname: k.NodeName, corev1.LabelOSStable: "linux",
		}},
		Spec: corev1.NodeSpec{PodCIDR: k.PodCIDR.String()},
	}
	ctx, cancel := context.WithTimeout(k.ctx, 10*time.Second)
	defer cancel()
	node, err := k.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	// An admission plugin taints a new Node until a controller that does not run here lifts it.
	node.Spec.Taints = nil
	if node, err = k.Client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
		return err
	}
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: k.NodeIP.String()},
		{Type: corev1.NodeHostName, Address: k.NodeName},
	}
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}
	_, err = k.Client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// sync hands an added or changed Pod to its worker, after binding it if it has no Node yet.
func (k *Kubelet) sync(p *corev1.Pod) {
	switch p.Spec.NodeName {
	case "":
		if p.DeletionTimestamp == nil {
			k.workers.Go(func() { k.bind(p) })
		}
		return
	case k.NodeName:
	default:
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if running := k.pods[p.UID]; running != nil {
		running.update(p)
		return
	}
	if k.ctx.Err() != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return
	}
	fresh := newPod(k, p)
	k.pods[p.UID] = fresh
	k.workers.Go(func() {
		fresh.run(k.ctx)
		k.mu.Lock()
		delete(k.pods, p.UID)
		k.mu.Unlock()
	})
}

func (k *Kubelet) bind(p *corev1.Pod) {
	ctx, cancel := context.WithTimeout(k.ctx, 10*time.Second)
	defer cancel()
	err := k.Client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: k.NodeName},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		k.Logf("bind pod %s/%s: %v", p.Namespace, p.Name, err)
	}
}

// deleted ends what still runs of a Pod whose object is gone, which happens when it is deleted by force.
func (k *Kubelet) deleted(o any) {
	if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = unknown.Obj
	}
	p, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if running := k.pods[p.UID]; running != nil {
		running.vanish()
	}
}

// Exec runs a command in the Pod's namespaces and returns what it prints: kubectl exec for Pods without containers.
func (k *Kubelet) Exec(ctx context.Context, namespace, name string, command ...string) ([]byte, error) {
	p, err := k.find(namespace, name)
	if err != nil {
		return nil, err
	}
	out, err := p.exec(ctx, command)
	if err != nil {
		return out, fmt.Errorf("exec %s in pod %s/%s: %w: %s", strings.Join(command, " "), namespace, name, err, out)
	}
	return out, nil
}

// Signal sends a signal to every container's process in the Pod: SIGKILL is a crash, SIGSTOP a hang.
func (k *Kubelet) Signal(namespace, name string, s syscall.Signal) error {
	p, err := k.find(namespace, name)
	if err != nil {
		return err
	}
	for _, c := range p.containers {
		c.signal(s)
	}
	return nil
}

// Unplug takes the Pod off the network, and Plug puts it back: packets to it vanish, as with a dead Node.
func (k *Kubelet) Unplug(namespace, name string) error { return k.link(namespace, name, k.net.unplug) }

// Plug undoes Unplug.
func (k *Kubelet) Plug(namespace, name string) error { return k.link(namespace, name, k.net.plug) }

func (k *Kubelet) link(namespace, name string, do func(netip.Addr) error) error {
	p, err := k.find(namespace, name)
	if err != nil {
		return err
	}
	return do(p.address())
}

func (k *Kubelet) find(namespace, name string) (*pod, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		if p.namespace == namespace && p.name == name && p.address().IsValid() {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no pod %s/%s runs on node %s", namespace, name, k.NodeName)
}
