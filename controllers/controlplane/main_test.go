// Package controlplane tests the controllers against a real API server.
package controlplane

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"podlane.dev/podlane/controllers"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/endpoints"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/test/cluster"
)

const controllerClass = "podlane.dev/ingress-controller"

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	ctrl.SetLogger(logr.Discard())
	os.Exit(cluster.Main(m))
}

var shared struct {
	sync.Mutex
	cluster *cluster.Cluster
}

// server returns the API server that most tests share. It ends with the process.
func server(t *testing.T) *cluster.Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		c, err := cluster.Start(context.Background(), cluster.Options{APIServerOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		shared.cluster = c
		access(t, c)
	}
	return shared.cluster
}

// access gives the user "podlane" the rights that the package's markers list, and no more.
func access(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "podlane"}, Rules: markers(t)}
	if _, err := c.Client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "podlane"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "podlane"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "podlane"}},
	}
	if _, err := c.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// markers reads the rules from the package comment of controllers.
func markers(t *testing.T) []rbacv1.PolicyRule {
	t.Helper()
	f, err := os.Open("../doc.go")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rules []rbacv1.PolicyRule
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		marker, ok := strings.CutPrefix(lines.Text(), "// +kubebuilder:rbac:")
		if !ok {
			continue
		}
		var rule rbacv1.PolicyRule
		for part := range strings.SplitSeq(marker, ",") {
			key, value, _ := strings.Cut(part, "=")
			values := strings.Split(strings.Trim(value, `"`), ";")
			switch key {
			case "groups":
				rule.APIGroups = values
			case "resources":
				rule.Resources = values
			case "verbs":
				rule.Verbs = values
			default:
				t.Fatalf("marker %q", marker)
			}
		}
		rules = append(rules, rule)
	}
	if len(rules) == 0 {
		t.Fatal("no markers")
	}
	return rules
}

// as returns a configuration for a user without further rights.
func as(c *cluster.Cluster, user string) *rest.Config {
	config := c.RESTConfig()
	config.Impersonate.UserName = user
	return config
}

// replica is one running instance of the controllers.
type replica struct {
	*controllers.Controllers
	plane *plane
	// cut, when set, makes every request of the replica fail, as a network partition does.
	cut  atomic.Bool
	stop func()

	mu       sync.Mutex
	snapshot ingress.Snapshot // what Build was given last
	logged   []string
	// configMaps are the requests for ConfigMaps, but for those that ask for metadata only.
	configMaps []string
	// writes are the requests that change something, but for those of the lease.
	writes   []string
	live     []time.Duration // event to live
	set      []time.Duration // event to set
	problems map[ingress.Reason]int
}

// options takes the Ingresses of a class that is the test's own, in its namespace.
func options(namespace string) controllers.Options {
	return controllers.Options{
		Namespaces: []string{namespace},
		Ingress:    ingress.Options{ControllerClass: controllerClass, EveryClass: true},
	}
}

// run starts a replica and waits for its first table. It ends with the test at the latest.
func run(t *testing.T, config *rest.Config, o controllers.Options) *replica {
	t.Helper()
	r := &replica{plane: &plane{pools: map[router.Service]map[string]struct{}{}}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return partition{r, next} })
	o.Observer = controllers.Observer{
		OnBrake: o.Observer.OnBrake,
		OnPublish: func(generation uint64, _, eventToLive time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if generation > 1 {
				r.live = append(r.live, eventToLive)
			}
		},
		OnAddresses: func(_ router.Service, eventToSet time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.set = append(r.set, eventToSet)
		},
		OnProblems: func(problems []ingress.Problem) {
			byReason := map[ingress.Reason]int{}
			for i := range problems {
				byReason[problems[i].Reason]++
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.problems = byReason
		},
	}
	builder := ingress.NewBuilder(nil)
	build := func(s ingress.Snapshot) (*router.Table, []ingress.Problem) {
		r.mu.Lock()
		r.snapshot = s
		r.mu.Unlock()
		return builder.Build(s)
	}
	o.Remember = builder.Remember
	r.Controllers = controllers.New(o, build, endpoints.Cluster.Addresses, r.plane)
	options := r.ManagerOptions()
	options.Logger = funcr.New(func(_, args string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.logged = append(r.logged, args)
	}, funcr.Options{})
	several := true
	options.Controller.SkipNameValidation = &several
	m, err := ctrl.NewManager(config, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetupWithManager(m); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Start(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	})
	t.Cleanup(r.stop)
	select {
	case <-r.FirstPublish():
	case err := <-ended:
		t.Fatalf("the manager ended with %v", err)
	case <-time.After(cluster.Patience):
		t.Fatalf("no first table: %v", r.Ready())
	}
	return r
}

// partition fails the requests of a replica that is cut off, and writes down which ConfigMaps it asks for.
type partition struct {
	of   *replica
	next http.RoundTripper
}

func (p partition) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.of.cut.Load() {
		return nil, fmt.Errorf("%s is cut off", r.URL.Host)
	}
	if strings.Contains(r.URL.Path, "/configmaps") && !strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata") {
		p.of.mu.Lock()
		p.of.configMaps = append(p.of.configMaps, r.URL.Path+" "+r.URL.Query().Get("fieldSelector"))
		p.of.mu.Unlock()
	}
	if r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/leases") {
		p.of.mu.Lock()
		p.of.writes = append(p.of.writes, r.Method+" "+r.URL.Path)
		p.of.mu.Unlock()
	}
	return p.next.RoundTrip(r)
}

// plane is a DataPlane that keeps what is live and what was taken away.
type plane struct {
	table atomic.Pointer[router.Table]

	mu    sync.Mutex
	pools map[router.Service]map[string]struct{}
	// removed counts the addresses and routes that were ever taken away.
	removed int
	// early counts tables that went live with a pool whose addresses had not been set.
	early int
}

func (p *plane) Prepare(t *router.Table) []router.Service {
	p.mu.Lock()
	defer p.mu.Unlock()
	var fresh []router.Service
	for port := range t.Ports() {
		s := port.Service()
		if _, ok := p.pools[s]; !ok {
			p.pools[s] = nil
			fresh = append(fresh, s)
		}
	}
	return fresh
}

func (p *plane) SetAddresses(s router.Service, byPort map[string][]router.Address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, ok := p.pools[s]
	if !ok {
		return
	}
	current := map[string]struct{}{}
	for _, addresses := range byPort {
		for _, a := range addresses {
			current[a.AddrPort.String()] = struct{}{}
		}
	}
	for a := range old {
		if _, kept := current[a]; !kept {
			p.removed++
		}
	}
	p.pools[s] = current
}

func (p *plane) Publish(t *router.Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.pools {
		if pool == nil {
			p.early++
		}
	}
	if old := p.table.Load(); old != nil && t.Len() < old.Len() {
		p.removed += old.Len() - t.Len()
	}
	p.table.Store(t)
}

// losses returns how many addresses and routes were ever taken away.
func (p *plane) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removed
}

// addresses returns the addresses of a Service, sorted.
func (p *plane) addresses(namespace, name string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for a := range p.pools[router.Service{Namespace: namespace, Name: name}] {
		all = append(all, a)
	}
	slices.Sort(all)
	return all
}

// has reports whether a host has a route.
func (p *plane) has(host string) bool {
	_, ok := p.table.Load().Lookup(host, "/")
	return ok
}

// written returns the requests that changed something.
func (r *replica) written() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.writes)
}

// waitFor fails the test unless ok becomes true.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	cluster.Until(t, what, func(context.Context) error {
		if !ok() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// percentiles prints a distribution.
func percentiles(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	d = slices.Sorted(slices.Values(d))
	at := func(q int) time.Duration { return d[min(len(d)-1, len(d)*q/100)].Round(time.Microsecond) }
	return fmt.Sprintf("n=%d p50=%v p90=%v p99=%v max=%v", len(d), at(50), at(90), at(99), at(100))
}
