package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/e2e/load"
)

// A place is a test's own namespace, and the lane that serves it.
type place struct {
	t    *testing.T
	lane *lane
	ns   string
}

// newPlace makes a namespace that goes with the test.
func newPlace(t *testing.T, l *lane) *place {
	t.Helper()
	name := strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-"))
	p := &place{t: t, lane: l, ns: strings.Trim(fmt.Sprintf("%.40s", name), "-") + "-" + world.run}
	if _, err := command(t.Context(), "", "kubectl", "create", "namespace", p.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if t.Failed() {
			out, err := command(ctx, "", "kubectl", "-n", p.ns, "get", "pods,services,endpointslices,ingresses,events", "-o", "wide")
			t.Log(out, err)
		}
		// The hosts are free for others at once, the rest goes by itself.
		err := world.client.NetworkingV1().Ingresses(p.ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		_, gone := command(ctx, "", "kubectl", "delete", "namespace", p.ns, "--wait=false")
		if err := errors.Join(err, gone); err != nil {
			t.Error(err)
		}
	})
	return p
}

// manifest reads a file of testdata.
func (p *place) manifest(file string) string {
	p.t.Helper()
	content, err := os.ReadFile(filepath.Join(world.root, "test", "scenarios", "testdata", file))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(content)
}

// adapt makes manifests fit the run: the class podlane, the image of the backend, and NAMESPACE.
func (p *place) adapt(manifests string) string {
	return strings.NewReplacer("ingressClassName: podlane", "ingressClassName: "+p.lane.name, backendImage, world.backend, "NAMESPACE", p.ns).Replace(manifests)
}

// apply applies files of testdata.
func (p *place) apply(files ...string) {
	p.t.Helper()
	for _, file := range files {
		p.applyText(p.manifest(file))
	}
}

// applyText applies manifests.
func (p *place) applyText(manifests string) {
	p.t.Helper()
	if _, err := command(p.t.Context(), p.adapt(manifests), "kubectl", "-n", p.ns, "apply", "-f", "-"); err != nil {
		p.t.Fatal(err)
	}
}

// kubectl runs kubectl in the namespace and returns what it prints.
func (p *place) kubectl(words ...string) string {
	p.t.Helper()
	out, err := command(p.t.Context(), "", append([]string{"kubectl", "-n", p.ns}, words...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// rollout waits until Deployments are rolled out.
func (p *place) rollout(deployments ...string) {
	p.t.Helper()
	for _, d := range deployments {
		p.kubectl("rollout", "status", "deployment/"+d, "--timeout=3m")
	}
}

// pods are the Pods that run, ready or not, and are not being deleted, when there are n of them.
func (p *place) pods(selector string, n int) []corev1.Pod {
	p.t.Helper()
	var found []corev1.Pod
	until(p.t, fmt.Sprintf("%d Pods of %s", n, selector), func(ctx context.Context) error {
		list, err := world.client.CoreV1().Pods(p.ns).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool {
			return pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning
		})
		if len(found) != n {
			return fmt.Errorf("%d run", len(found))
		}
		return nil
	})
	return found
}

// names are the names of Pods.
func names(pods []corev1.Pod) []string {
	var all []string
	for _, pod := range pods {
		all = append(all, pod.Name)
	}
	return all
}

// event waits for an Event about an object of the namespace.
func (p *place) event(object, reason string) string {
	p.t.Helper()
	var note string
	until(p.t, "Event "+reason+" on "+object, func(ctx context.Context) error {
		list, err := world.client.EventsV1().Events(p.ns).List(ctx, metav1.ListOptions{FieldSelector: "regarding.name=" + object + ",reason=" + reason})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("none yet")
		}
		if err == nil {
			note = list.Items[0].Note
		}
		return err
	})
	return note
}

// reconnects is how often a client whose connection broke connects again before its request has failed. Tests see how often that was.
const reconnects = 10

// load puts GETs on a host, half of them over connections that are kept, half over one each.
func (p *place) load(host string, rate int) loads {
	p.t.Helper()
	var all loads
	for i, name := range []string{"keep", "close"} {
		o := load.Options{Name: p.ns + "-" + name, Address: load.Fixed(p.lane.address(80)), Host: host, Rate: rate / 2, Clients: 16, KeepAlive: i == 0, Download: 2000, Reconnects: reconnects}
		if os.Getenv("PODLANE_NODE") != "" {
			o.Source = netip.AddrFrom4([4]byte{10, 240, 0, byte(4 + i)}) // addresses that test/node gives its users
		}
		all = append(all, load.Start(o))
	}
	return all
}

// loads are loads that belong together.
type loads []*load.Load

// stop ends loads, logs what became of them, and fails the test if a request has failed.
func (all loads) stop(t *testing.T) *load.Result {
	t.Helper()
	sum := &load.Result{}
	for _, l := range all {
		sum.Add(l.Stop())
	}
	t.Log(sum)
	if sum.Failed > 0 || sum.Sent == 0 {
		t.Errorf("%d of %d requests have failed, %d of them corrupt", sum.Failed, sum.Sent, sum.Corrupt)
	}
	return sum
}

// count adds up a number of each load.
func (all loads) count(of func(*load.Load) int) int {
	sum := 0
	for _, l := range all {
		sum += of(l)
	}
	return sum
}
