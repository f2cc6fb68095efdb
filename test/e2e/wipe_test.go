package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster"
	"podlane.dev/podlane/test/e2e/load"
)

// A shelf is many Services by hand, each with an Ingress and one address of its own, all of which one program answers.
type shelf struct {
	class string
	size  int
}

// shelfPort is no other Pod's, for the program listens at every address.
const shelfPort = 8123

func newShelf(t *testing.T, i *installation, ns *cluster.Namespace, size int) *shelf {
	t.Helper()
	addAddresses(t, "10.238.0.1/24")
	i.cluster.Start(t, cluster.Command("backend", "--name=shelf", fmt.Sprintf("--listen=0.0.0.0:%d", shelfPort), "--shutdown=abrupt"))
	s := &shelf{class: i.class, size: size}
	ns.Apply(s.services() + s.slices() + s.ingresses())
	return s
}

func (s *shelf) host(i int) string { return fmt.Sprintf("s%02d.shelf.test", i) }

// manifests are those of one kind, of all Services.
func (s *shelf) manifests(one func(i int, name string) string) string {
	var b strings.Builder
	for i := range s.size {
		b.WriteString(one(i, fmt.Sprintf("s%02d", i)))
	}
	return b.String()
}

func (s *shelf) ingresses() string {
	return s.manifests(func(i int, name string) string { return ingressOf(s.class, name, s.host(i), name) })
}

func (s *shelf) services() string {
	return s.manifests(func(_ int, name string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {clusterIP: None, ports: [{port: 80}]}\n---\n"
	})
}

func (s *shelf) slices() string {
	return s.manifests(func(i int, name string) string {
		return fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %[1]s, labels: {kubernetes.io/service-name: %[1]s}}\n"+
			"addressType: IPv4\nports: [{name: '', port: %d}]\nendpoints: [{addresses: [10.238.0.%d]}]\n---\n", name, shelfPort, i+1)
	})
}

// loads are requests to some of the hosts, of clients that keep their connections and of clients that do not.
func (s *shelf) loads(l *lane) []*load.Load {
	var all []*load.Load
	for i := 0; i < s.size; i += 6 {
		all = append(all, bothKinds(s.host(i), s.host(i), l, 40)...)
	}
	return all
}

// F12: the API server comes back with nothing of what it had stored. A replica with --brake-hold serves on as if nothing had happened, and says so
// aloud, until the objects are back, whatever their order: the last to come are the Services behind the routes, and their endpoints. One
// without it obeys.
func TestF12EtcdWiped(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	i := install(t, c)
	ns := namespace(t, c)
	s := newShelf(t, i, ns, 30)
	class := ns.Kubectl("get", "ingressclass", i.class, "-o", "yaml", "--show-managed-fields=false")
	holds, obeys := i.start(t, "--brake-hold=5m"), i.start(t)
	for n := range s.size {
		for _, l := range []*lane{holds, obeys} {
			l.waitStatus(t, "http://"+s.host(n)+"/", http.StatusOK)
		}
	}

	loads := s.loads(holds)
	w := watchLane(t, holds, ns.Name)
	wipe(t, c, holds, "ingress/"+ns.Name+"/", "services/specs/"+ns.Name+"/", "endpointslices/"+ns.Name+"/", "ingressclasses/"+i.class)
	obeys.waitStatus(t, "http://"+s.host(0)+"/", http.StatusNotFound)
	waitProblem(t, holds, problem{Reason: "MassRemoval", Message: "hosts"})
	waitProblem(t, holds, problem{Reason: "MassRemoval", Message: "endpoints"})
	waitMetric(t, holds, "podlane_brake_held", func(held float64) bool { return held > 0 })
	if !strings.Contains(holds.Output(), "too much is removed at once: it stays for now") || !strings.Contains(obeys.Output(), "--brake-hold is not set: it goes") {
		t.Error("the logs do not say what has happened")
	}

	ns.Apply(unowned(class) + "\n---\n" + s.ingresses())
	waitProblem(t, holds, problem{Kind: "Ingress", Name: "s29", Reason: "ServiceMissing"})
	ns.Apply(s.services())
	waitNoProblem(t, holds, problem{Kind: "Ingress", Reason: "ServiceMissing"})
	waitProblem(t, holds, problem{Reason: "MassRemoval", Message: "endpoints"})
	ns.Apply(s.slices())
	waitNoProblem(t, holds, problem{Reason: "MassRemoval"})
	waitMetric(t, holds, "podlane_brake_held", func(held float64) bool { return held == 0 })
	ns.Apply(ingressOf(i.class, "later", "later.shelf.test", "s01"))
	for _, l := range []*lane{holds, obeys} {
		l.waitStatus(t, "http://later.shelf.test/", http.StatusOK)
	}
	obeys.waitStatus(t, "http://"+s.host(0)+"/", http.StatusOK)
	if unready, fewest, polls := w.stop(); unready > 0 || fewest < s.size {
		t.Errorf("of %d polls %d were not ready, and the fewest routes were %d of %d", polls, unready, fewest, s.size)
	}
	stopAll(t, loads)
}

// syncAge is the metric of how old what podlane knows may be, in seconds.
const syncAge = "podlane_last_sync_age_seconds"

// wipe kills the API server, removes what is stored under the keys, and starts it again.
func wipe(t *testing.T, c *cluster.Cluster, l *lane, keys ...string) {
	t.Helper()
	waitMetric(t, l, syncAge, func(age float64) bool { return age < 1 })
	back := make(chan error, 1)
	go func() { back <- c.RestartAPIServer(t.Context(), 5*time.Second) }()
	waitMetric(t, l, syncAge, func(age float64) bool { return age > 1 })
	for _, key := range keys {
		if err := c.WipeEtcd(t.Context(), "/registry/"+key); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	waitMetric(t, l, syncAge, func(age float64) bool { return age < 1 })
}

// waitMetric waits until the sum of a metric's samples is as it should be.
func waitMetric(t *testing.T, l *lane, name string, is func(value float64) bool) {
	t.Helper()
	cluster.Until(t, name+" as it should be", func(ctx context.Context) error {
		value, err := l.metric(ctx, name)
		if err == nil && !is(value) {
			err = fmt.Errorf("it is %g", value)
		}
		return err
	})
}

// unowned is a manifest as kubectl printed it, without what only the API server may say.
func unowned(manifest string) string {
	var b strings.Builder
	for line := range strings.Lines(manifest) {
		field, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch field {
		case "creationTimestamp", "resourceVersion", "uid", "generation":
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}
