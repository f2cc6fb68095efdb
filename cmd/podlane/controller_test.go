package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/controllers"
)

// apiServer is a Kubernetes API server as far as an empty cluster needs one: lists of nothing, and watches that say nothing. hold,
// where it is not nil, makes it wait before it answers lists.
func apiServer(t *testing.T, hold <-chan struct{}) (kubeconfig string) {
	t.Helper()
	kinds := map[string]string{
		"ingresses": "Ingress", "ingressclasses": "IngressClass", "services": "Service", "endpoints": "Endpoints",
		"secrets": "Secret", "configmaps": "ConfigMap", "endpointslices": "EndpointSlice",
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		kind, known := kinds[parts[len(parts)-1]]
		query := r.URL.Query()
		status := func(code int, reason string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
				Status: "Failure", Reason: metav1.StatusReason(reason), Code: int32(code)})
		}
		switch {
		case !known || r.Method != http.MethodGet:
			status(http.StatusNotFound, "NotFound")
		case query.Get("sendInitialEvents") == "true":
			status(http.StatusUnprocessableEntity, "Invalid") // then the client lists
		case query.Get("watch") == "true":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			if hold != nil {
				select {
				case <-hold:
				case <-r.Context().Done():
					return
				}
			}
			group := strings.Join(parts[1:len(parts)-1], "/")
			if strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList") {
				kind, group = "PartialObjectMetadata", "meta.k8s.io/v1"
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"kind":"%sList","apiVersion":%q,"metadata":{"resourceVersion":"1"},"items":[]}`, kind, group)
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // before Close, which waits for watches
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	write(t, kubeconfig, fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","namespace":"ns"}}]}`, s.URL))
	return kubeconfig
}

// logged waits for a line of the JSON log and returns it.
func (c *command) logged(message string) map[string]any {
	c.t.Helper()
	var found map[string]any
	eventually(c.t, "log has "+message, func() bool {
		for line := range strings.Lines(c.stderr.String()) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == message {
				found = entry
				return true
			}
		}
		return false
	})
	return found
}

func TestControllerInAnEmptyCluster(t *testing.T) {
	metrics, traffic := freeAddress(t), freeAddress(t)
	hold := make(chan struct{})
	c := start(t, "controller", "--kubeconfig", apiServer(t, hold), "--disable-leader-election", "--access-log=off", "--update-status=false",
		"--http-address="+traffic, "--https-address=127.0.0.1:0", "--admin-address=127.0.0.1:0", "--metrics-address="+metrics, "--drain-delay=0")
	eventually(t, "the metrics server is up before the cluster is known", func() bool {
		a, err := sockets{http: metrics}.ask("http://localhost/readyz")
		return err == nil && a.status == http.StatusServiceUnavailable
	})
	if code, body := adminPage(t, metrics, "/healthz"); code != 200 {
		t.Errorf("/healthz %d %s while it starts, want 200", code, body)
	}
	if a, err := (sockets{http: traffic}).ask("http://a.example/"); err == nil {
		t.Errorf("before the cluster is known requests are answered with %d, want no listener: a 404 would be a lie", a.status)
	}
	close(hold)
	serving := c.logged("serving")
	front := sockets{http: serving["http"].(string), https: serving["https"].(string)}
	if a, err := front.ask("http://a.example/"); err != nil || a.status != 404 {
		t.Errorf("without an Ingress: %d, %v, want 404", a.status, err)
	}
	if a, err := front.ask("https://a.example/"); err != nil || a.status != 404 {
		t.Errorf("without an Ingress over TLS: %d, %v, want 404", a.status, err)
	}
	if code, body := adminPage(t, metrics, "/readyz"); code != 200 {
		t.Errorf("/readyz %d %s, want 200", code, body)
	}
	if code, _ := adminPage(t, metrics, "/debug/routes"); code != 404 {
		t.Errorf("/debug/routes on the metrics address: %d, want 404", code)
	}
	if code, body := adminPage(t, serving["admin"].(string), "/debug/problems"); code != 200 || body != "no problems\n" {
		t.Errorf("/debug/problems: %d %q", code, body)
	}
	if code, body := adminPage(t, metrics, "/metrics"); code != 200 || !strings.Contains(body, "podlane_table_publishes_total 1") || !strings.Contains(body, "\npodlane_leader 1\n") {
		t.Errorf("/metrics: %d, want one publish and the election in it:\n%.2000s", code, body)
	}
	c.signals <- syscall.SIGTERM
	if code := c.wait(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	for line := range strings.Lines(c.stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a line of JSON: %s", line)
		}
	}
}

func TestControllerStopsWhileItWaits(t *testing.T) {
	c := start(t, "controller", "--kubeconfig", apiServer(t, make(chan struct{})), "--disable-leader-election", "--access-log=off",
		"--http-address=127.0.0.1:0", "--https-address=off", "--admin-address=off", "--metrics-address=off", "--drain-delay=1h")
	c.signals <- syscall.SIGTERM
	if code := c.wait(); code != 0 {
		t.Errorf("exit %d, want 0 at once: nobody was served", code)
	}
}

func TestControllerPortTaken(t *testing.T) {
	taken, err := listen(t.Context(), "x", config.Addresses{"127.0.0.1:0"})
	must(t, err)
	defer closeAll(taken)
	address := taken[0].Addr().String()
	for _, flag := range []string{"http-address", "https-address", "admin-address", "metrics-address"} {
		args := []string{"controller", "--kubeconfig", apiServer(t, nil), "--disable-leader-election", "--access-log=off", "--log-level=error"}
		for _, f := range []string{"http-address", "https-address", "admin-address", "metrics-address"} {
			if f == flag {
				args = append(args, "--"+f+"="+address)
				continue
			}
			args = append(args, "--"+f+"=127.0.0.1:0")
		}
		code, _, stderr := podlane(t, args...)
		if want := "podlane: --" + flag + ": " + address + " is taken by another program"; code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, stderr %q, want %q in it", code, stderr, want)
		}
	}
}

func TestControllersOptions(t *testing.T) {
	self := types.NamespacedName{Namespace: "podlane", Name: "podlane-0"}
	of := func(args ...string) controllers.Options {
		o := &controllerOptions{ingress: config.ControllerIngress(), cluster: config.NewCluster()}
		cmd := newRoot(&process{})
		bind(cmd, o.ingress, o.cluster)
		must(t, cmd.ParseFlags(args))
		got, err := controllersOptions(o, self, "here")
		must(t, err)
		return got
	}
	defaults := controllers.Options{
		Ingress:  config.ControllerIngress().Options(),
		Status:   controllers.StatusOptions{Update: true, Self: self},
		Election: controllers.ElectionOptions{ID: "podlane-leader", Namespace: "here", Identity: "podlane-0", LeaseDuration: 10 * time.Second},
		Brake:    controllers.BrakeOptions{Percent: 50},
	}
	for args, change := range map[string]func(*controllers.Options){
		"":                      func(*controllers.Options) {},
		"--watch-namespace=a,b": func(o *controllers.Options) { o.Namespaces = []string{"a", "b"} },
		"--configmap=a/b":       func(o *controllers.Options) { o.Ingress.Settings = "a/b" },
		"--publish-service=a/b": func(o *controllers.Options) {
			o.Status.PublishService = types.NamespacedName{Namespace: "a", Name: "b"}
		},
		"--publish-status-address=192.0.2.1,lb": func(o *controllers.Options) { o.Status.Addresses = []string{"192.0.2.1", "lb"} },
		"--publish-node-addresses":              func(o *controllers.Options) { o.Status.Nodes = &controllers.NodeAddresses{} },
		"--publish-node-addresses --report-node-internal-ip-address": func(o *controllers.Options) {
			o.Status.Nodes = &controllers.NodeAddresses{Internal: true}
		},
		"--update-status=false":       func(o *controllers.Options) { o.Status.Update = false },
		"--update-status-on-shutdown": func(o *controllers.Options) { o.Status.RemoveOnShutdown = true },
		"--election-id=x":             func(o *controllers.Options) { o.Election.ID = "x" },
		"--election-namespace=x":      func(o *controllers.Options) { o.Election.Namespace = "x" },
		"--election-ttl=1m":           func(o *controllers.Options) { o.Election.LeaseDuration = time.Minute },
		"--brake-percent=20 --brake-hold=30s": func(o *controllers.Options) {
			o.Brake = controllers.BrakeOptions{Percent: 20, Hold: 30 * time.Second}
		},
		"--disable-leader-election":     func(o *controllers.Options) { o.Election.Disabled = true },
		"--ingress-class=nginx":         func(o *controllers.Options) { o.Ingress.IngressClass = "nginx" },
		"--default-backend-service=a/b": func(o *controllers.Options) { o.Ingress.DefaultBackend = "a/b" },
	} {
		want := defaults
		change(&want)
		if diff := cmp.Diff(want, of(strings.Fields(args)...), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", args, diff)
		}
	}

	for _, flag := range []string{"--publish-node-addresses", "--update-status-on-shutdown"} {
		o := &controllerOptions{ingress: config.ControllerIngress(), cluster: config.NewCluster()}
		cmd := newRoot(&process{})
		bind(cmd, o.cluster)
		must(t, cmd.ParseFlags([]string{flag}))
		if _, err := controllersOptions(o, types.NamespacedName{}, "here"); err == nil || !strings.Contains(err.Error(), "POD_NAME") {
			t.Errorf("%s outside of a Pod: %v, want an error that says what it needs", flag, err)
		}
	}
}

func TestFindCluster(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", filepath.Join(home, "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := findCluster(""); err == nil || !strings.Contains(err.Error(), "--kubeconfig") || !strings.Contains(err.Error(), "podlane serve") {
		t.Errorf("without a cluster: %v, want an error that says what to do", err)
	}
	c, err := findCluster(apiServer(t, nil))
	must(t, err)
	if c.namespace != "ns" || c.config.QPS != -1 || !strings.HasPrefix(c.config.UserAgent, "podlane/") {
		t.Errorf("cluster %+v", c)
	}
}

func TestAPIServers(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	for host, want := range map[string][]string{
		"https://192.0.2.1:6443": {"10.96.0.1/32", "192.0.2.1/32"}, "https://[2001:db8::1]:6443": {"10.96.0.1/32", "2001:db8::1/128"},
		"https://api.example:6443": {"10.96.0.1/32"}, "": {"10.96.0.1/32"},
	} {
		var got []string
		for _, p := range apiServers(&rest.Config{Host: host}) {
			got = append(got, netip.Prefix.String(p))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", host, diff)
		}
	}
}

// freeAddress is an address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := listen(t.Context(), "x", config.Addresses{"127.0.0.1:0"})
	must(t, err)
	closeAll(l)
	return l[0].Addr().String()
}
