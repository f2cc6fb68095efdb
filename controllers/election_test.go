package controllers

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lease is a Lease that several candidates share.
type lease struct {
	mu     sync.Mutex
	record *resourcelock.LeaderElectionRecord
	// away makes requests fail; those of stuck wait for their context.
	away  bool
	stuck string
}

// candidate is one replica's view of a lease.
type candidate struct {
	*lease
	name string
}

func (c *candidate) enter(ctx context.Context) error {
	c.mu.Lock()
	away, stuck := c.away, c.stuck == c.name
	c.mu.Unlock()
	if stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	if away {
		return errors.New("connection refused")
	}
	return nil
}

func (c *candidate) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if err := c.enter(ctx); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.record == nil {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, "podlane")
	}
	r := *c.record
	return &r, []byte(r.HolderIdentity + r.RenewTime.String()), nil
}

func (c *candidate) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return c.Update(ctx, r)
}

func (c *candidate) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record = &r
	return nil
}

func (c *candidate) RecordEvent(string) {}
func (c *candidate) Identity() string   { return c.name }
func (c *candidate) Describe() string   { return "lease" }

// stand lets a replica campaign to the end of the test.
func stand(t *testing.T, on *lease, name string) *leadership {
	t.Helper()
	o := ElectionOptions{ID: "podlane"}
	l := &leadership{changed: func(bool) {}, lasts: o.leaseDuration()}
	e := &elector{options: o, leadership: l, log: logr.Discard()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := e.campaign(ctx, &renewals{Interface: &candidate{on, name}, leadership: l}); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l
}

func leads(l *leadership) bool {
	_, ok := l.current()
	return ok
}

func TestElectionGoesOnAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &lease{}
		l := stand(t, on, "a")
		time.Sleep(5 * time.Second)
		if !leads(l) {
			t.Fatal("the only candidate does not lead")
		}
		term, _ := l.current()
		on.mu.Lock()
		on.away = true
		on.mu.Unlock()
		time.Sleep(defaultLeaseDuration)
		if leads(l) {
			t.Error("leads without a lease")
		}
		time.Sleep(5 * time.Minute)
		if term.Err() == nil {
			t.Error("the context of the lost term goes on")
		}
		on.mu.Lock()
		on.away = false
		on.mu.Unlock()
		time.Sleep(defaultLeaseDuration)
		if !leads(l) {
			t.Error("does not lead again when the API server is back")
		}
	})
}

// TestElectionNeverTwo lets the API server hang for the leader only: it must have given up before the other takes over.
func TestElectionNeverTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &lease{}
		a := stand(t, on, "a")
		time.Sleep(5 * time.Second)
		b := stand(t, on, "b")
		time.Sleep(time.Minute)
		if !leads(a) || leads(b) {
			t.Fatalf("a leads %t, b leads %t", leads(a), leads(b))
		}
		on.mu.Lock()
		on.stuck = "a"
		on.mu.Unlock()
		for range 6000 {
			time.Sleep(10 * time.Millisecond)
			if leads(a) && leads(b) {
				t.Fatal("two replicas lead")
			}
		}
		if leads(a) || !leads(b) {
			t.Errorf("a minute after a got stuck: a leads %t, b leads %t", leads(a), leads(b))
		}
	})
}

// TestElectionAfterStandstill lets the whole process stand still, as on a machine that sleeps.
func TestElectionAfterStandstill(t *testing.T) {
	var told []bool
	l := &leadership{changed: func(leading bool) { told = append(told, leading) }, lasts: time.Minute}
	l.begin(t.Context())
	r := &renewals{leadership: l}
	r.renewed(time.Now().Add(-time.Hour), nil)
	if leads(l) {
		t.Error("leads with a lease of an hour ago")
	}
	told = nil
	r.renewed(time.Now(), nil)
	r.renewed(time.Now(), nil)
	if !leads(l) || len(told) != 1 || !told[0] {
		t.Errorf("leads %t, told %v, want once that it leads", leads(l), told)
	}
}

func TestElectionDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := make(chan bool, 1)
		l := &leadership{changed: func(leading bool) { changes <- leading }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- (&elector{options: ElectionOptions{Disabled: true}, leadership: l}).Start(ctx) }()
		if !<-changes || !leads(l) {
			t.Error("a replica without election does not lead")
		}
		time.Sleep(time.Hour)
		if !leads(l) {
			t.Error("its term ended")
		}
		cancel()
		if err := <-done; err != nil || leads(l) || !l.led() {
			t.Errorf("%v; leads %t, led %t", err, leads(l), l.led())
		}
	})
}
