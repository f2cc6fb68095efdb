package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// The rate of status writes: 1,000 Ingresses take 18 s when the address of the proxy changes.
	statusWritesPerSecond = 50
	statusWritesBurst     = 100
	statusWriters         = 4
	// statusPatience is how long a status that somebody else overwrites with something else is left alone: two controllers that
	// both think an Ingress theirs must not write in circles.
	statusPatience = 10 * time.Second
	// statusTimeout bounds one write.
	statusTimeout = 10 * time.Second
	// statusManager is the field manager of our writes.
	statusManager = "podlane-status"
)

// status is the reconciler that writes addresses to owned Ingresses. Every replica runs it, only the leader writes. It
// compares before it writes, and a write never wakes the table. An Ingress that changes to a class of another
// controller keeps what we wrote, as with ingress-nginx: its status is the other's to write, and emptying it would
// take its name out of DNS before the other has answered.
type status struct {
	enabled    bool
	mirror     *mirror
	leadership *leadership
	source     *statusSource
	writer     client.SubResourceWriter
	limiter    flowcontrol.RateLimiter
	log        logr.Logger
	feed       feed[types.NamespacedName]

	mu      sync.Mutex
	written map[types.NamespacedName]statusWrite
}

// statusWrite is the last write to an Ingress.
type statusWrite struct {
	uid types.UID
	// version is the resourceVersion that the mirror had when we wrote: while it has it still, our write is on its way here.
	version   string
	addresses []networkingv1.IngressLoadBalancerIngress
	at        time.Time
}

// enqueueAll looks at every owned Ingress again: addresses, ownership or leadership changed.
func (s *status) enqueueAll() {
	if _, leading := s.leadership.current(); !leading || !s.enabled {
		return
	}
	for _, i := range s.mirror.owned() {
		s.feed.add(client.ObjectKeyFromObject(i))
	}
}

// enqueue looks at one Ingress again.
func (s *status) enqueue(key types.NamespacedName) {
	if _, leading := s.leadership.current(); leading && s.enabled {
		s.feed.add(key)
	}
}

// Reconcile implements reconcile.TypedReconciler.
func (s *status) Reconcile(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	if _, leading := s.leadership.current(); !leading {
		return reconcile.Result{}, nil
	}
	addresses, known := s.source.addresses()
	i := s.mirror.ingresses.find(key)
	if i == nil || !known || !s.mirror.owns(i) {
		if i == nil {
			s.forget(key)
		}
		return reconcile.Result{}, nil
	}
	if sameAddresses(i.Status.LoadBalancer.Ingress, addresses) {
		return reconcile.Result{}, nil
	}
	if wait, no := s.refrain(i, addresses); no {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := s.limiter.Wait(ctx); err != nil {
		return reconcile.Result{}, fmt.Errorf("wait for a turn to write status: %w", err)
	}
	// The lease may have run out meanwhile, with the end of the term yet to come: this process may have stood still.
	term, leading := s.leadership.current()
	if !leading {
		return reconcile.Result{}, nil
	}
	err := s.write(term, i, addresses, i.ResourceVersion)
	switch {
	case apierrors.IsConflict(err): // the mirror is behind: what it is behind of comes, and brings the Ingress here again
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written[key] = statusWrite{uid: i.UID, version: i.ResourceVersion, addresses: addresses, at: time.Now()}
	return reconcile.Result{}, nil
}

// refrain reports whether the same was written to i already and not enough time has passed; wait is how long to leave it alone, 0 where the next event
// will tell.
func (s *status) refrain(i *networkingv1.Ingress, addresses []networkingv1.IngressLoadBalancerIngress) (wait time.Duration, refrain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.written[client.ObjectKeyFromObject(i)]
	if !ok || last.uid != i.UID || !sameAddresses(last.addresses, addresses) {
		return 0, false
	}
	if last.version == i.ResourceVersion {
		return 0, true
	}
	wait = time.Until(last.at.Add(statusPatience))
	return wait, wait > 0
}

func (s *status) forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.written, key)
}

// write patches the status of i, which it does not change. An Ingress that is gone needs no status. The API server refuses it where i is not of that
// version any more, whatever has held the request up since i was read: another replica may lead by then. "" is any version.
func (s *status) write(ctx context.Context, i *networkingv1.Ingress, addresses []networkingv1.IngressLoadBalancerIngress, version string) error {
	type loadBalancer struct {
		Ingress []networkingv1.IngressLoadBalancerIngress `json:"ingress"`
	}
	type metadata struct {
		ResourceVersion string `json:"resourceVersion,omitempty"`
	}
	type body struct {
		LoadBalancer loadBalancer `json:"loadBalancer"`
	}
	patch, err := json.Marshal(struct {
		Metadata metadata `json:"metadata,omitzero"`
		Status   body     `json:"status"`
	}{metadata{version}, body{loadBalancer{addresses}}})
	if err != nil {
		return fmt.Errorf("status of Ingress %s/%s: %w", i.Namespace, i.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	// The client fills the object that it is given with the answer.
	answer := &networkingv1.Ingress{}
	answer.Namespace, answer.Name = i.Namespace, i.Name
	err = s.writer.Patch(ctx, answer, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(statusManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("status of Ingress %s/%s: %w", i.Namespace, i.Name, err)
	}
	return nil
}

// sameAddresses compares as sets: the order says nothing.
func sameAddresses(a, b []networkingv1.IngressLoadBalancerIngress) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.ContainsFunc(b, func(y networkingv1.IngressLoadBalancerIngress) bool { return x.IP == y.IP && x.Hostname == y.Hostname }) {
			return false
		}
	}
	return true
}

// statusFarewell is the Runnable that empties the status of owned Ingresses at the end, where the operator asks for it and no sibling goes on.
type statusFarewell struct {
	status  *status
	source  *statusSource
	timeout time.Duration
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (f *statusFarewell) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (f *statusFarewell) Start(ctx context.Context) error {
	<-ctx.Done()
	if !f.status.leadership.led() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.timeout)
	defer cancel()
	siblings, err := f.source.siblings(ctx)
	if err != nil || siblings > 0 {
		f.status.log.Info("the status of Ingresses stays", "siblings", siblings, "error", err)
		return nil
	}
	for _, i := range f.status.mirror.owned() {
		if len(i.Status.LoadBalancer.Ingress) == 0 {
			continue
		}
		if err := f.status.write(ctx, i, nil, ""); err != nil && !apierrors.IsNotFound(err) {
			f.status.log.Error(err, "the status of an Ingress stays")
			return nil
		}
	}
	return nil
}
