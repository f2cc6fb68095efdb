package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/e2e/load"
)

// many is how many further Services there are in S14, each with an Ingress.
const many = 500

// S14: no rule chains, and no hop between Podlane and a Pod: a Pod sees Podlane's own Pods as its clients, and what a request takes does not
// grow with the number of Services.
func TestS14ManyServices(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s14-many.yaml")
	p.rollout("web")
	p.lane.waitPods(t, "http://one.of-many.test/", names(p.pods("app=web", 2))...)
	var own []string
	for pod := range strings.FieldsSeq(must(t, "kubectl", "-n", p.lane.name, "get", "pods", "-o", "jsonpath={.items[*].status.podIP}")) {
		own = append(own, pod+":")
	}
	for range 8 {
		e := p.lane.curl(t, "http://one.of-many.test/echo").echo(t)
		if !slices.ContainsFunc(own, func(ip string) bool { return strings.HasPrefix(e.Remote, ip) }) {
			t.Errorf("the Pod's client was %s; Podlane is at %v", e.Remote, own)
		}
	}
	few := p.median("one.of-many.test")
	var text strings.Builder
	for i := range many {
		fmt.Fprintf(&text, "apiVersion: v1\nkind: Service\nmetadata: {name: s%[1]d}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}\n---\n"+
			"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i%[1]d}\nspec:\n  ingressClassName: podlane\n  rules:\n    - host: h%[1]d.of-many.test\n"+
			"      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s%[1]d, port: {number: 80}}}}]}\n---\n", i)
	}
	if _, err := command(t.Context(), p.adapt(text.String()), "kubectl", "-n", p.ns, "create", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	until(t, "the last of the Services", func(ctx context.Context) error {
		a, err := p.lane.tryCurl(ctx, fmt.Sprintf("http://h%d.of-many.test/", many-1))
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("status %d", a.Status)
		}
		return err
	})
	const tries = 4
	var after []time.Duration
	for range tries { // the machine is busy with the Services for a while, and Podlane is not what that shows
		after = append(after, p.median("one.of-many.test"))
		if slices.Min(after) < 2*few {
			break
		}
	}
	t.Logf("median of a request: %s with one Service, %v with %d more", few, after, many)
	if slices.Min(after) > 3*few {
		t.Errorf("the median grew from %s to %v", few, after)
	}
}

// median is what a request takes from outside, of a thousand.
func (p *place) median(host string) time.Duration {
	p.t.Helper()
	l := p.load(host, 200)
	for l.count((*load.Load).Sent) < 1000 {
		time.Sleep(10 * time.Millisecond)
	}
	return l.stop(p.t).Quantile(0.5)
}

// must runs a program and returns what it prints.
func must(t *testing.T, words ...string) string {
	t.Helper()
	out, err := command(t.Context(), "", words...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
