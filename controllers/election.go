package controllers

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const defaultLeaseDuration = 15 * time.Second

// leadership says whether this replica writes status and Events. It is safe for concurrent use.
type leadership struct {
	// changed is called after each change. It may be called twice with the same value.
	changed func(leading bool)

	mu   sync.Mutex
	term context.Context
	// renewed is when the request began that last renewed the lease; lasts is how long the lease holds from then, 0 for ever.
	renewed time.Time
	lasts   time.Duration
}

// begin starts a term, which ends with ctx.
func (l *leadership) begin(ctx context.Context) {
	l.mu.Lock()
	l.term = ctx
	l.mu.Unlock()
	l.changed(true)
}

// end ends the term.
func (l *leadership) end() {
	l.mu.Lock()
	l.term = nil
	l.mu.Unlock()
	l.changed(false)
}

// current returns the context of the present term, which ends when the lease is lost; ok is false if another replica leads, or
// none, or nobody could be told for so long that another may lead.
func (l *leadership) current() (ctx context.Context, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == nil || l.term.Err() != nil || l.lasts > 0 && time.Since(l.renewed) >= l.lasts {
		return nil, false
	}
	return l.term, true
}

// led reports whether this replica led when the manager stopped, or leads.
func (l *leadership) led() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term != nil
}

// renewals is a lease that tells the leadership of each renewal. client-go ends a term only after it has tried to give the lease back, which
// takes longer than the lease lasts when the API server hangs.
type renewals struct {
	resourcelock.Interface
	leadership *leadership
	log        logr.Logger
	failing    atomic.Bool
}

// Get implements resourcelock.Interface. It logs the first failure of a series: client-go, which would log them all, is silenced.
func (r *renewals) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := r.Interface.Get(ctx)
	failed := err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil
	if r.failing.Swap(failed) != failed && failed {
		r.log.Error(err, "the lease cannot be read, trying again", "lease", r.Describe())
	}
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (r *renewals) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	start := time.Now()
	err := r.Interface.Create(ctx, record)
	r.renewed(start, err)
	return err
}

// Update implements resourcelock.Interface.
func (r *renewals) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	start := time.Now()
	err := r.Interface.Update(ctx, record)
	r.renewed(start, err)
	return err
}

// renewed tells the leadership how a request went that began at a time.
func (r *renewals) renewed(at time.Time, err error) {
	if err != nil {
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			r.log.Error(err, "the lease cannot be written, trying again", "lease", r.Describe())
		}
		return
	}
	l := r.leadership
	l.mu.Lock()
	// This process stood still so long that it could not know whether it led, and led all the time.
	awake := l.term != nil && l.term.Err() == nil && time.Since(l.renewed) >= l.lasts
	l.renewed = at
	l.mu.Unlock()
	if awake {
		l.changed(true)
	}
}

// elector is the Runnable that holds or seeks the lease for as long as the manager runs. Unlike the manager's own election it goes on
// when the lease is lost, because the data plane does not depend on it.
type elector struct {
	options    ElectionOptions
	leadership *leadership
	config     *rest.Config
	log        logr.Logger
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (e *elector) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (e *elector) Start(ctx context.Context) error {
	if e.options.disabled() {
		e.leadership.begin(ctx)
		<-ctx.Done()
		return nil
	}
	lock, err := e.lock()
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := e.campaign(ctx, lock); err != nil {
			return err
		}
	}
	return nil
}

// lock returns the Lease, reached by a client of its own: one that gives up early enough for a second try within the deadline.
func (e *elector) lock() (resourcelock.Interface, error) {
	config := rest.CopyConfig(e.config)
	config.Timeout = e.options.deadline() / 2
	client, err := coordinationv1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for the lease: %w", err)
	}
	identity := e.options.Identity
	if identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("identity for the lease: %w", err)
		}
		identity = host + "_" + string(uuid.NewUUID())
	}
	lease := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: e.options.Namespace, Name: e.options.ID},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
	}
	return &renewals{Interface: lease, leadership: e.leadership, log: e.log}, nil
}

func (o ElectionOptions) disabled() bool { return o.Disabled || o.ID == "" }

func (o ElectionOptions) leaseDuration() time.Duration {
	if o.LeaseDuration > 0 {
		return o.LeaseDuration
	}
	return defaultLeaseDuration
}

// deadline is how long a leader tries to renew.
func (o ElectionOptions) deadline() time.Duration { return o.leaseDuration() * 2 / 3 }

// campaign seeks the lease, holds it, and returns when it is lost or ctx ends.
func (e *elector) campaign(ctx context.Context, lock resourcelock.Interface) error {
	var mu sync.Mutex
	began, over := false, false
	elect, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   e.options.leaseDuration(),
		RenewDeadline:   e.options.deadline(),
		RetryPeriod:     e.options.leaseDuration() * 2 / 15,
		ReleaseOnCancel: true,
		Name:            e.options.ID,
		Callbacks: leaderelection.LeaderCallbacks{
			// client-go calls this in a goroutine of its own, possibly when the term is over.
			OnStartedLeading: func(term context.Context) {
				mu.Lock()
				defer mu.Unlock()
				if !over {
					began = true
					e.log.Info("this replica writes status and Events from now on")
					e.leadership.begin(term)
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elect.Run(logr.NewContext(ctx, logr.Discard()))
	mu.Lock()
	defer mu.Unlock()
	over = true
	// At the end of the process the term is not taken back: the farewell depends on who led.
	if began && ctx.Err() == nil {
		e.log.Info("this replica does not write status and Events any more")
		e.leadership.end()
	}
	return nil
}
