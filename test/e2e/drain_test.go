package e2e_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/test/e2e/load"
)

// F20: SIGTERM under load, with a second replica and a load balancer that follows /readyz: not ready at once, still
// accepting for the drain delay, what is in flight ends, exit status 0, no failed request. The other replica takes over the
// writing of status.
func TestF20Drain(t *testing.T) {
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	const delay = 2 * time.Second
	args := []string{"--drain-delay=" + delay.String(), "--shutdown-timeout=20s", "--publish-status-address=192.0.2.20"}
	leaving := i.start(t, args...)
	staying := i.start(t, args...)
	ns.Apply(workload{Name: "web", Replicas: 2}.yaml() + ingressOf(i.class, "web", "drain.goweb.com", "web-svc"))
	ns.WaitRollout("web")
	waitAddress(ns, "web", "192.0.2.20")
	for _, l := range []*lane{leaving, staying} {
		l.waitStatus(t, "http://drain.goweb.com/", http.StatusOK)
	}

	b := newBalancer(leaving, staying)
	defer b.close()
	var loads []*load.Load
	for _, keep := range []bool{true, false} {
		loads = append(loads, load.Start(load.Options{
			Name: map[bool]string{true: "keep", false: "close"}[keep], Address: b.address, Host: "drain.goweb.com", Rate: 150, KeepAlive: keep, Download: 3000,
		}))
	}
	time.Sleep(500 * time.Millisecond)
	slow := make(chan error, 1)
	go func() {
		_, err := slowRequest(t.Context(), leaving, 5000)
		slow <- err
	}()
	time.Sleep(200 * time.Millisecond)

	began := time.Now()
	if err := leaving.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	status, _, err := waitUnready(t.Context(), leaving)
	t.Logf("/readyz answers %d %s after SIGTERM", status, time.Since(began).Round(time.Millisecond))
	if err != nil || status != http.StatusServiceUnavailable || time.Since(began) > delay/2 {
		t.Errorf("/readyz: status %d %v after %s, want 503 at once", status, err, time.Since(began))
	}
	for time.Since(began) < delay-200*time.Millisecond {
		if status, _, err := fetchHost(t.Context(), leaving, "drain.goweb.com"); err != nil || status != http.StatusOK {
			t.Fatalf("%s after SIGTERM, within the drain delay: status %d %v", time.Since(began), status, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for leaving.listens() {
		if time.Since(began) > 4*delay {
			t.Fatal("the listener stays open")
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("the listener closed %s after SIGTERM (drain delay %s)", time.Since(began).Round(time.Millisecond), delay)
	if err := <-slow; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if err := leaving.Wait(10 * time.Second); err != nil {
		t.Errorf("the end: %v", err)
	}
	t.Logf("ended %s after SIGTERM, with a request of 5 s in flight", time.Since(began).Round(time.Millisecond))
	stopAll(t, loads)

	ns.Apply(ingressOf(i.class, "later", "drain-later.goweb.com", "web-svc"))
	waitAddress(ns, "later", "192.0.2.20")
}

// A second SIGTERM ends what is in flight at once.
func TestSecondSIGTERM(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	ns.Apply(workload{Name: "web"}.yaml() + ingressOf(i.class, "web", "drain.goweb.com", "web-svc"))
	l := i.start(t, "--drain-delay=20s", "--shutdown-timeout=60s")
	ns.WaitRollout("web")
	l.waitStatus(t, "http://drain.goweb.com/", http.StatusOK)
	slow := make(chan error, 1)
	go func() {
		_, err := slowRequest(t.Context(), l, 60_000)
		slow <- err
	}()
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	for range 2 {
		if err := l.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
	}
	if err := l.Wait(10 * time.Second); err != nil && l.State() == "running" {
		t.Errorf("after a second SIGTERM: %v", err)
	}
	t.Logf("ended %s after the first SIGTERM: %s", time.Since(began).Round(time.Millisecond), l.State())
	if err := <-slow; err == nil {
		t.Error("the request of 60 s was answered")
	}
}

// slowRequest asks for an answer that takes ms milliseconds.
func slowRequest(ctx context.Context, l *lane, ms int) (string, error) {
	a, err := l.tryCurl(ctx, "http://drain.goweb.com/slow?ms="+strconv.Itoa(ms), "--max-time", "90")
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusOK {
		return "", errors.New(a.Body)
	}
	return a.Body, nil
}

// waitUnready asks /readyz until it does not say 200.
func waitUnready(ctx context.Context, l *lane) (status int, body string, err error) {
	for range 1000 {
		status, body, err = fetch(ctx, l.url(9090, "/readyz"))
		if err != nil || status != http.StatusOK {
			return status, body, err
		}
		time.Sleep(time.Millisecond)
	}
	return status, body, err
}

// A balancer sends clients to replicas in turn, as long as their /readyz says so: it asks ten times a second.
type balancer struct {
	lanes []*lane
	ready []atomic.Bool
	turn  atomic.Uint64
	stop  context.CancelFunc
	ended chan struct{}
}

func newBalancer(lanes ...*lane) *balancer {
	ctx, stop := context.WithCancel(context.Background())
	b := &balancer{lanes: lanes, ready: make([]atomic.Bool, len(lanes)), stop: stop, ended: make(chan struct{})}
	for i := range lanes {
		b.ready[i].Store(true)
	}
	go func() {
		defer close(b.ended)
		for ctx.Err() == nil {
			for i, l := range lanes {
				status, _, err := fetch(ctx, l.url(9090, "/readyz"))
				b.ready[i].Store(err == nil && status == http.StatusOK)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return b
}

func (b *balancer) close() {
	b.stop()
	<-b.ended
}

func (b *balancer) address() string {
	// One number per call: with one per lane, two callers could push each other past the only lane that is ready.
	turn := int(b.turn.Add(1))
	for k := range b.lanes {
		if i := (turn + k) % len(b.lanes); b.ready[i].Load() {
			return b.lanes[i].address(80)
		}
	}
	return b.lanes[0].address(80)
}
