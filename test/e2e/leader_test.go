package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
)

// ledger is every status that was written to an Ingress of a namespace, by address.
type ledger struct {
	mu     sync.Mutex
	now    map[string]string
	writes map[string]map[string]int // address to Ingress to number
}

// keepLedger writes down from now on, until the test ends.
func keepLedger(t *testing.T, c *cluster.Cluster, namespace string) *ledger {
	t.Helper()
	stream, err := c.Client.NetworkingV1().Ingresses(namespace).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stream.Stop)
	g := &ledger{now: map[string]string{}, writes: map[string]map[string]int{}}
	go func() {
		for event := range stream.ResultChan() {
			if i, ok := event.Object.(*networkingv1.Ingress); ok {
				g.note(i)
			}
		}
	}()
	return g
}

func (g *ledger) note(i *networkingv1.Ingress) {
	var addresses []string
	for _, a := range i.Status.LoadBalancer.Ingress {
		addresses = append(addresses, a.IP+a.Hostname)
	}
	address := strings.Join(addresses, ",")
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now[i.Name] == address {
		return
	}
	g.now[i.Name] = address
	if g.writes[address] == nil {
		g.writes[address] = map[string]int{}
	}
	g.writes[address][i.Name]++
}

// count is how often an address was written.
func (g *ledger) count(address string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	sum := 0
	for _, n := range g.writes[address] {
		sum += n
	}
	return sum
}

// most is how often an address was written to one Ingress, at most.
func (g *ledger) most(address string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := 0
	for _, n := range g.writes[address] {
		most = max(most, n)
	}
	return most
}

// wait waits until n Ingresses have an address.
func (g *ledger) wait(t *testing.T, address string, n int) {
	t.Helper()
	cluster.Until(t, fmt.Sprintf("%d Ingresses with the address %s", n, address), func(context.Context) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		have := 0
		for _, a := range g.now {
			if a == address {
				have++
			}
		}
		if have != n {
			return fmt.Errorf("%d have it", have)
		}
		return nil
	})
}

func waitLeads(t *testing.T, l *lane, want float64) {
	t.Helper()
	waitMetric(t, l, "podlane_leader", func(value float64) bool { return value == want })
}

// F26 and C7: two replicas, each of which would write an address of its own. The leader stands still in the middle of its writing, for longer than its
// lease, and goes on: it writes nothing more. Then the other is killed. Each time one replica goes on alone, with status and with Events,
// nobody writes twice, and the requests through the replica that is left never notice.
func TestF26SplitBrain(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	i := install(t, c)
	ns := namespace(t, c)
	const first, second, many = "192.0.2.1", "192.0.2.2", 200
	s := newShelf(t, i, ns, 6)
	g := keepLedger(t, c, ns.Name)
	a := i.start(t, "--publish-status-address="+first)
	waitLeads(t, a, 1)
	b := i.start(t, "--publish-status-address="+second)
	g.wait(t, first, s.size)
	b.waitStatus(t, "http://"+s.host(0)+"/", http.StatusOK)
	loads := s.loads(b)

	// The limiter lets a hundred writes through at once, and the rest waits for its turn.
	var created sync.WaitGroup
	created.Go(func() {
		each(t, many, func(ctx context.Context, n int) error {
			name := fmt.Sprintf("many%03d", n)
			_, err := c.Client.NetworkingV1().Ingresses(ns.Name).Create(ctx, ingressObject(i.class, name, name+".shelf.test", "s00"), metav1.CreateOptions{})
			return err
		})
	})
	cluster.Until(t, "the leader to be in the middle of its writing", func(context.Context) error {
		if n := g.count(first); n < s.size+105 {
			return fmt.Errorf("%d written", n)
		}
		return nil
	})
	freeze(t, a)
	began := time.Now()
	created.Wait()
	written := g.count(first)
	waitLeads(t, b, 1)
	t.Logf("the leader stands still after %d of %d writes; the other leads after %s", written, s.size+many, time.Since(began).Round(time.Millisecond))
	ns.Apply(ingressOf(i.class, "bad", "bad.shelf.test", "missing"))
	g.wait(t, second, s.size+many+1)
	waitEvent(t, c, waitProblem(t, b, problem{Kind: "Ingress", Namespace: ns.Name, Name: "bad", Reason: "ServiceMissing"}))

	written = g.count(first)
	thaw(t, a)
	ns.Apply(ingressOf(i.class, "after", "after.shelf.test", "s00"))
	a.waitStatus(t, "http://after.shelf.test/", http.StatusOK)
	waitLeads(t, a, 0)
	g.wait(t, second, s.size+many+2)
	waitLeads(t, b, 1)
	if n := g.count(first) - written; n > 0 {
		t.Errorf("the old leader wrote %d statuses more", n)
	}
	if n := g.most(second); n != 1 {
		t.Errorf("the new leader wrote the status of an Ingress %d times", n)
	}
	stopAll(t, loads)
	killLeader(t, i, killed{ns: ns, ledger: g, leader: b, other: a, addresses: [2]string{second, first}, ingresses: s.size + many + 2, shelf: s})
}

func freeze(t *testing.T, l *lane) {
	t.Helper()
	if err := l.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

func thaw(t *testing.T, l *lane) {
	t.Helper()
	if err := l.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// killed is who leads, and who is left. The addresses are the leader's and the other's.
type killed struct {
	ns            *cluster.Namespace
	ledger        *ledger
	leader, other *lane
	addresses     [2]string
	ingresses     int
	shelf         *shelf
}

// killLeader kills the leader, which comes back as the second.
func killLeader(t *testing.T, i *installation, k killed) {
	t.Helper()
	loads := k.shelf.loads(k.other)
	events := podlaneEvents(t, i.cluster, k.ns.Name)
	began := time.Now()
	k.leader.Kill()
	waitLeads(t, k.other, 1)
	t.Logf("the leader is killed; the other leads after %s (lease 10 s)", time.Since(began).Round(time.Millisecond))
	k.ledger.wait(t, k.addresses[1], k.ingresses)
	t.Logf("and has written all %d statuses after %s", k.ingresses, time.Since(began).Round(time.Millisecond))
	written := k.ledger.count(k.addresses[0])
	back := i.start(t, "--publish-status-address="+k.addresses[0])
	k.ns.Apply(ingressOf(i.class, "last", "last.shelf.test", "s00") + ingressOf(i.class, "worse", "worse.shelf.test", "missing"))
	back.waitStatus(t, "http://last.shelf.test/", http.StatusOK)
	k.ledger.wait(t, k.addresses[1], k.ingresses+2)
	waitEvent(t, i.cluster, waitProblem(t, k.other, problem{Kind: "Ingress", Namespace: k.ns.Name, Name: "worse", Reason: "ServiceMissing"}))
	waitLeads(t, back, 0)
	if n := k.ledger.count(k.addresses[0]) - written; n > 0 {
		t.Errorf("a replica that does not lead wrote %d statuses", n)
	}
	if have := podlaneEvents(t, i.cluster, k.ns.Name); len(have) != len(events)+1 {
		t.Errorf("Events %q, and before %q: want one more", have, events)
	}
	for _, e := range podlaneEvents(t, i.cluster, k.ns.Name) {
		if !strings.HasSuffix(e, " 1") {
			t.Errorf("an Event was told twice: %s", e)
		}
	}
	stopAll(t, loads)
}

// podlaneEvents are Podlane's Events of a namespace, with how often each was told.
func podlaneEvents(t *testing.T, c *cluster.Cluster, namespace string) []string {
	t.Helper()
	list, err := c.Client.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		count := int32(1)
		if e.Series != nil {
			count = e.Series.Count
		}
		if strings.HasPrefix(e.ReportingController, "podlane.dev/") {
			out = append(out, fmt.Sprintf("%s %s %d", e.Regarding.Name, e.Reason, count))
		}
	}
	return out
}
