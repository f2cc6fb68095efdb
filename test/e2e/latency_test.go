package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"podlane.dev/podlane/test/cluster"
)

// The bar for a change is 50 ms from the watch event to the first request that sees it. A test machine may be slower than
// that at times, so that only a debounce that is broken fails the test.
const latencyLimit = 5 * time.Second

// firstEvent tells when the first event of a watch comes that is wanted.
func firstEvent(t *testing.T, w watch.Interface, wanted func(watch.Event) bool) <-chan time.Time {
	t.Helper()
	at := make(chan time.Time, 1)
	go func() {
		defer close(at)
		for e := range w.ResultChan() {
			if wanted(e) {
				at <- time.Now()
				return
			}
		}
	}()
	t.Cleanup(w.Stop)
	return at
}

// firstAnswer asks without a pause and tells when an answer is wanted.
func firstAnswer(ctx context.Context, l *lane, host string, wanted func(*http.Response) bool) <-chan time.Time {
	at := make(chan time.Time, 1)
	go func() {
		defer close(at)
		for ctx.Err() == nil {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url(80, "/"), nil)
			if err != nil {
				return
			}
			request.Host = host
			answer, err := web.Do(request)
			if err != nil {
				continue
			}
			answer.Body.Close()
			if wanted(answer) {
				at <- time.Now()
				return
			}
			time.Sleep(500 * time.Microsecond)
		}
	}()
	return at
}

// measure runs change, several times, and logs the time from the event to the answer.
func measure(t *testing.T, what string, once func(round int) (event, answer time.Time)) {
	t.Helper()
	var all []time.Duration
	for round := range 9 {
		event, answer := once(round)
		if event.IsZero() || answer.IsZero() {
			t.Fatalf("%s: round %d: event at %v, answer at %v", what, round, event, answer)
		}
		// This test's watch may get the event a little later than podlane's.
		all = append(all, max(0, answer.Sub(event)))
	}
	slices.Sort(all)
	t.Logf("%s: watch event to first request that sees it: median %s, min %s, max %s (bar 50 ms)", what,
		all[len(all)/2].Round(10*time.Microsecond), all[0].Round(10*time.Microsecond), all[len(all)-1].Round(10*time.Microsecond))
	if all[len(all)/2] > latencyLimit {
		t.Errorf("%s took %s", what, all[len(all)/2])
	}
}

// kubectl apply of an Ingress, to the first request on the new route.
func TestLatencyOfAnIngress(t *testing.T) {
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{Name: "web"}.yaml())
	ns.WaitRollout("web")
	measure(t, "a new Ingress", func(round int) (time.Time, time.Time) {
		host := fmt.Sprintf("new-%d.latency.test", round)
		ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
		defer cancel()
		w, err := c.Client.NetworkingV1().Ingresses(ns.Name).Watch(ctx, metav1.ListOptions{FieldSelector: fmt.Sprintf("metadata.name=new-%d", round)})
		if err != nil {
			t.Fatal(err)
		}
		event := firstEvent(t, w, func(e watch.Event) bool { return e.Type == watch.Added })
		answer := firstAnswer(ctx, lane, host, func(a *http.Response) bool {
			// A route is never live before the addresses of its Service are.
			if a.StatusCode != http.StatusOK && a.StatusCode != http.StatusNotFound {
				t.Errorf("%s answered %d while it became live", host, a.StatusCode)
			}
			return a.StatusCode == http.StatusOK
		})
		ns.Apply(ingress(fmt.Sprintf("new-%d", round), host, "web-svc"))
		return <-event, <-answer
	})
}

// An EndpointSlice that leads from one Pod to another, to the first request that the other answers.
func TestLatencyOfAnEndpoint(t *testing.T) {
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	slice := func(address string) string {
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: hand, labels: {kubernetes.io/service-name: hand-svc}}\n" +
			"addressType: IPv4\nports: [{port: 8000}]\nendpoints: [{addresses: [" + address + "]}]\n---\n"
	}
	ns.Apply(pod("one", "app: hand") + pod("two", "app: hand"))
	pods := ns.WaitPods("app=hand", 2)
	ns.Apply("apiVersion: v1\nkind: Service\nmetadata: {name: hand-svc}\nspec: {ports: [{port: 80, targetPort: 8000}]}\n---\n" +
		slice(pods[0].Status.PodIP) + ingress("hand", "endpoint.latency.test", "hand-svc"))
	lane.waitPods(t, "http://endpoint.latency.test/", pods[0].Name)
	measure(t, "an endpoint", func(round int) (time.Time, time.Time) {
		next := pods[(round+1)%2]
		ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
		defer cancel()
		w, err := c.Client.DiscoveryV1().EndpointSlices(ns.Name).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=hand"})
		if err != nil {
			t.Fatal(err)
		}
		event := firstEvent(t, w, func(e watch.Event) bool { return e.Type == watch.Modified })
		answer := firstAnswer(ctx, lane, "endpoint.latency.test", func(a *http.Response) bool { return a.Header.Get("X-Pod") == next.Name })
		ns.Apply(slice(next.Status.PodIP))
		return <-event, <-answer
	})
}
