package replicas

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// admin is a replica's admin server.
func admin(t *testing.T, ready int, text string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(ready)
		}
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s
}

// pod is one Pod of the fake API server.
type pod struct {
	corev1.Pod
	// at is where connections to its port are sent; "" refuses them.
	at string
}

func newPod(namespace, name, at string, isReady corev1.ConditionStatus, args ...string) *pod {
	p := &pod{at: at}
	p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	p.Namespace, p.Name, p.UID = namespace, name, types.UID(namespace+name)
	p.Status.Phase = corev1.PodRunning
	p.Spec.Containers = []corev1.Container{{Name: "controller", Args: args}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: isReady}}
	return p
}

// api is an API server with Pods, whose ports it forwards as API servers did before WebSocket: over SPDY.
type api struct {
	t *testing.T
	*httptest.Server

	mu   sync.Mutex
	pods []*pod
	// forbidden are the parts of paths that are forbidden.
	forbidden string
	// queries are those of lists, ports those that were asked for.
	queries, ports []string
	opened         int
	serving        sync.WaitGroup
}

func newAPI(t *testing.T, pods ...*pod) *api {
	t.Helper()
	a := &api{t: t, pods: pods}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
		a.serving.Wait()
	})
	return a
}

func (a *api) options() Options { return Options{Config: &rest.Config{Host: a.URL}} }

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	forbidden := a.forbidden != "" && strings.Contains(r.URL.Path, a.forbidden)
	a.mu.Unlock()
	switch {
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		http.Error(w, "no WebSocket here", http.StatusBadRequest)
	case forbidden:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status:   "Failure", Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden, Message: "user may not",
		})
	case strings.HasSuffix(r.URL.Path, "/pods"):
		a.list(w, r)
	case strings.HasSuffix(r.URL.Path, "/portforward"):
		a.portforward(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (a *api) list(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queries = append(a.queries, r.URL.Path+"?"+r.URL.RawQuery)
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, p := range a.pods {
		if strings.Contains(r.URL.Path, "/namespaces/") && !strings.Contains(r.URL.Path, "/namespaces/"+p.Namespace+"/") {
			continue
		}
		list.Items = append(list.Items, p.Pod)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}

func (a *api) portforward(w http.ResponseWriter, r *http.Request) {
	at := ""
	a.mu.Lock()
	for _, p := range a.pods {
		if strings.HasSuffix(r.URL.Path, "/namespaces/"+p.Namespace+"/pods/"+p.Name+"/portforward") {
			at = p.at
		}
	}
	a.opened++
	a.mu.Unlock()
	if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
		return
	}
	var mu sync.Mutex
	failures := map[string]httpstream.Stream{}
	c := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		mu.Lock()
		defer mu.Unlock()
		id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
		if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
			failures[id] = s
			return nil
		}
		failure := failures[id]
		a.mu.Lock()
		a.ports = append(a.ports, s.Headers().Get(corev1.PortHeader))
		a.mu.Unlock()
		a.serving.Go(func() { carry(s, failure, at) })
		return nil
	})
	if c != nil {
		<-c.CloseChan()
		_ = c.Close()
	}
}

// carry joins a stream with a connection to where the Pod's port is.
func carry(s, failure httpstream.Stream, at string) {
	defer func() { _ = failure.Close() }()
	to, err := net.Dial("tcp", at)
	if err != nil {
		// Closed and not reset, as the kubelet does it: a reset may overtake the reason.
		_, _ = fmt.Fprint(failure, "connection refused in the Pod")
		_ = s.Close()
		return
	}
	defer func() { _ = s.Reset() }()
	defer func() { _ = to.Close() }()
	go func() { _, _ = io.Copy(to, s) }()
	_, _ = io.Copy(s, to)
}

func finder(t *testing.T, o Options) *Finder {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func page(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func hostOf(t *testing.T, s *httptest.Server) string {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func TestPodsAreForwarded(t *testing.T) {
	one, two := admin(t, 200, "this is one"), admin(t, 200, "this is two")
	gone := newPod("podlane", "gone", "", corev1.ConditionTrue)
	now := metav1.Now()
	gone.DeletionTimestamp = &now
	pending := newPod("podlane", "pending", "", corev1.ConditionFalse)
	pending.Status.Phase = corev1.PodPending
	a := newAPI(t, newPod("podlane", "b", hostOf(t, two), corev1.ConditionTrue, "controller", "--admin-address=127.0.0.1:9191"), newPod("podlane", "a", hostOf(t, one), corev1.ConditionTrue),
		newPod("podlane", "late", "", corev1.ConditionFalse), gone, pending)
	f := finder(t, a.options())
	found, err := f.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range found {
		names = append(names, fmt.Sprintf("%v ready=%v url=%v %v", &found[i], found[i].Ready, found[i].URL != "", found[i].Err))
	}
	if diff := cmp.Diff([]string{"podlane/a ready=true url=true <nil>", "podlane/b ready=true url=true <nil>", "podlane/late ready=false url=false <nil>"}, names); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if got := page(t, found[0].URL+"/x") + ", " + page(t, found[1].URL+"/x"); got != "this is one, this is two" {
		t.Errorf("pages %q", got)
	}
	if again, err := f.All(t.Context()); err != nil || again[0].URL != found[0].URL {
		t.Errorf("looked again: %v, %v, want the same URL", again, err)
	}
	a.mu.Lock()
	if a.opened != 2 {
		t.Errorf("%d forwards, want one for each ready Pod", a.opened)
	}
	if diff := cmp.Diff([]string{"/api/v1/pods?labelSelector=app.kubernetes.io%2Fname%3Dpodlane"}, a.queries[:1]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	seen := strings.Join(a.ports, " ")
	// A Pod that is gone is not forwarded to any more; one that takes its place is.
	a.pods[1].Name, a.pods[1].UID, a.pods[1].at = "c", "c", hostOf(t, two)
	a.mu.Unlock()
	if !strings.Contains(seen, "9091") || !strings.Contains(seen, "9191") {
		t.Errorf("ports %s, want the default and that of --admin-address", seen)
	}
	if again, err := f.All(t.Context()); err != nil || page(t, again[1].URL) != "this is two" {
		t.Errorf("after a Pod was replaced: %v, %v", again, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	if answer, err := client.Get(found[0].URL); err == nil {
		_ = answer.Body.Close()
		t.Error("the forward to the Pod that is gone is still open")
	}
	if r, err := f.Any(t.Context()); err != nil || r.String() != "podlane/b" {
		t.Errorf("any: %v, %v", r, err)
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	off := newPod("podlane", "off", "", corev1.ConditionTrue, "--admin-address", "off")
	refuses := newPod("podlane", "refuses", "127.0.0.1:1", corev1.ConditionTrue)
	unready := newPod("podlane", "unready", "", corev1.ConditionFalse)
	crashed := newPod("podlane", "crashed", "", corev1.ConditionFalse)
	crashed.Status.Phase = corev1.PodFailed
	for name, tc := range map[string]struct {
		pods      []*pod
		forbidden string
		options   Options
		want      []string
	}{
		"no Pods":                    {nil, "", Options{}, []string{"no Pod with the labels app.kubernetes.io/name=podlane in all namespaces", "--podlane-namespace", "--selector"}},
		"no Pods in a namespace":     {nil, "", Options{Namespace: "x", Selector: "app=y"}, []string{"labels app=y in namespace x"}},
		"Pods that do not run":       {[]*pod{crashed}, "", Options{}, []string{"none of the 1 Pods"}},
		"no list in all":             {nil, "/pods", Options{}, []string{"list on pods in all namespaces", "--podlane-namespace"}},
		"no list in one":             {nil, "/pods", Options{Namespace: "x"}, []string{"list on pods in namespace x", "user may not"}},
		"no forward":                 {[]*pod{newPod("podlane", "a", "", corev1.ConditionTrue)}, "/portforward", Options{}, []string{"Pod podlane/a", "create on pods/portforward in namespace podlane", "user may not"}},
		"admin pages are off":        {[]*pod{off}, "", Options{}, []string{"Pod podlane/off", "--admin-address is off"}},
		"nobody listens in the Pod":  {[]*pod{refuses}, "", Options{}, []string{"Pod podlane/refuses", "port 9091", "connection refused in the Pod"}},
		"nobody listens on the flag": {[]*pod{refuses}, "", Options{Port: 7}, []string{"port 7"}},
		"none is allowed": {
			[]*pod{newPod("podlane", "a", "", corev1.ConditionTrue), newPod("podlane", "b", "", corev1.ConditionTrue)}, "/portforward", Options{},
			[]string{"no replica of Podlane can be asked: Pod podlane/a: your RBAC rights lack the verb create on pods/portforward in namespace podlane", "--admin URL"},
		},
		"many fail": {
			[]*pod{newPod("p", "a", "127.0.0.1:1", corev1.ConditionTrue), newPod("p", "b", "127.0.0.1:1", corev1.ConditionTrue), newPod("p", "c", "127.0.0.1:1", corev1.ConditionTrue), newPod("p", "d", "127.0.0.1:1", corev1.ConditionTrue)},
			"", Options{}, []string{"; Pod p/c: ", "; and 1 more"},
		},
		"none is ready": {[]*pod{unready}, "", Options{}, []string{"podlane/unready is not ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, tc.pods...)
			a.forbidden = tc.forbidden
			tc.options.Config = a.options().Config
			r, err := finder(t, tc.options).Any(t.Context())
			if err == nil {
				t.Fatalf("found %+v", r)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %q", want, err)
				}
			}
		})
	}
}

func TestOneThatFailsDoesNotHideTheOthers(t *testing.T) {
	one := admin(t, 200, "one")
	a := newAPI(t, newPod("podlane", "a", "127.0.0.1:1", corev1.ConditionTrue), newPod("podlane", "b", hostOf(t, one), corev1.ConditionTrue))
	f := finder(t, a.options())
	all, err := f.All(t.Context())
	if err != nil || len(all) != 2 || all[0].Err == nil || !all[0].Ready || all[1].Err != nil {
		t.Errorf("all: %+v, %v", all, err)
	}
	if r, err := f.Any(t.Context()); err != nil || r.Pod.Name != "b" {
		t.Errorf("any: %+v, %v", r, err)
	}
}

func TestAddressesThatTheUserNames(t *testing.T) {
	ready, starting, other := admin(t, 200, "ok\n"), admin(t, 503, "the first table is being built\n"), admin(t, 404, "")
	f := finder(t, Options{Admin: []string{hostOf(t, starting), ready.URL + "/", other.URL, "http://127.0.0.1:1", ready.URL}})
	all, err := f.All(t.Context())
	if err != nil || len(all) != 4 {
		t.Fatalf("%+v, %v", all, err)
	}
	if all[0].Ready || all[0].Err == nil || !strings.Contains(all[0].Err.Error(), "is not ready: the first table is being built") {
		t.Errorf("starting: %+v", all[0])
	}
	if !all[1].Ready || all[1].Err != nil || all[1].URL != ready.URL || all[1].String() != ready.URL {
		t.Errorf("ready: %+v", all[1])
	}
	if all[2].Err == nil || !strings.Contains(all[2].Err.Error(), "answers 404") {
		t.Errorf("another server: %+v", all[2])
	}
	if !all[3].Ready || all[3].Err == nil || !strings.Contains(all[3].Err.Error(), "does not answer") {
		t.Errorf("nobody there: %+v, want an error, and not to be passed over", all[3])
	}
	if r, err := f.Any(t.Context()); err != nil || r.URL != ready.URL {
		t.Errorf("any: %+v, %v", r, err)
	}
	for _, bad := range []string{"", "ftp://x", "http://", "http://x/?q", "http://u:p@x", "http://[::1"} {
		if _, err := New(Options{Admin: []string{bad}}); err == nil || !strings.Contains(err.Error(), "--admin") {
			t.Errorf("%q: %v, want an error", bad, err)
		}
	}
}

func TestPortOf(t *testing.T) {
	for args, want := range map[string]string{
		"":                            "0 false <nil>",
		"--admin-address=:1":          "1 true <nil>",
		"--admin-address 127.0.0.1:2": "2 true <nil>",
		"--admin-address=:1 --admin-address=[::1]:3,:4": "3 true <nil>",
		"--admin-address=":     "0 true " + errAdminOff.Error(),
		"--admin-addresses=:7": "0 false <nil>",
		"--admin-address":      "0 false <nil>",
	} {
		port, named, err := portOf(strings.Fields(args))
		if got := fmt.Sprint(port, " ", named, " ", err); got != want {
			t.Errorf("%q: %s, want %s", args, got, want)
		}
	}
	for _, bad := range []string{"--admin-address=x", "--admin-address=:http", "--admin-address=:0"} {
		if _, _, err := portOf([]string{bad}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestCloseEndsForwards(t *testing.T) {
	one := admin(t, 200, "one")
	a := newAPI(t, newPod("podlane", "a", hostOf(t, one), corev1.ConditionTrue))
	f, err := New(a.options())
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Any(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := new(net.Dialer).DialContext(context.Background(), "tcp", strings.TrimPrefix(r.URL, "http://")); err == nil {
		_ = c.Close()
		t.Error("the forward listens after Close")
	}
	if _, err := f.Any(t.Context()); err == nil {
		t.Error("a closed Finder found a replica")
	}
}
