package controllers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"podlane.dev/podlane/router/ingress"
)

func balancer(ip, hostname string) corev1.LoadBalancerIngress {
	return corev1.LoadBalancerIngress{IP: ip, Hostname: hostname}
}

// text is addresses as one word.
func text(addresses []networkingv1.IngressLoadBalancerIngress) string {
	var s []string
	for _, a := range addresses {
		s = append(s, a.IP+a.Hostname)
	}
	return strings.Join(s, ",")
}

func TestStatusOfService(t *testing.T) {
	tests := []struct {
		name    string
		service corev1.Service
		want    string
	}{
		{"load balancer", corev1.Service{
			Spec:   corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ExternalIPs: []string{"192.0.2.9", "192.0.2.2"}},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{balancer("192.0.2.2", ""), balancer("", "lb.example")}}},
		}, "lb.example,192.0.2.2,192.0.2.9"},
		{"load balancer that has no address yet", corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1"}}, ""},
		{"node port", corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.1"}}, "10.96.0.1"},
		{"node port with external IPs", corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.1", ExternalIPs: []string{"192.0.2.1"}}}, "192.0.2.1"},
		{"cluster IP", corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.1"}}, "10.96.0.1"},
		{"headless", corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone}}, ""},
		{"external name", corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "x.example"}}, "x.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := text(normalAddresses(statusOfService(&tt.service))); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestStatusAddresses(t *testing.T) {
	s := &statusSource{options: StatusOptions{Addresses: []string{"lb.example", " 192.0.2.1", "192.0.2.1", "2001:db8::1", ""}}}
	got, ok := s.addresses()
	if !ok || text(got) != "lb.example,192.0.2.1,2001:db8::1" || got[1].IP == "" || got[0].Hostname == "" {
		t.Errorf("%v, %t", got, ok)
	}
	s.options = StatusOptions{}
	if _, ok := s.addresses(); ok {
		t.Error("addresses are known without a source")
	}
	s.options.PublishService = named("ns", "lb")
	s.mirror = newMirror(Options{})
	if _, ok := s.addresses(); ok {
		t.Error("the addresses of a Service that does not exist are known: they would empty every status")
	}
}

func TestNodeAddress(t *testing.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	if got := nodeAddress(n, false); got != "n" {
		t.Errorf("a node without addresses is %q", got)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}
	if got := nodeAddress(n, false); got != "10.0.0.1" {
		t.Errorf("without an external address: %q", got)
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "192.0.2.1"})
	if got := nodeAddress(n, false); got != "192.0.2.1" {
		t.Errorf("external: %q", got)
	}
	if got := nodeAddress(n, true); got != "10.0.0.1" {
		t.Errorf("internal: %q", got)
	}
}

// statusFixture is a status writer that leads, over a fake API server that counts patches.
type statusFixture struct {
	*status
	patches []string
	fail    error
	api     client.WithWatch
}

// versions matches what a patch says of the version that it is for.
var versions = regexp.MustCompile(`"metadata":\{"resourceVersion":"\d+"\},`)

func newStatusFixture(t *testing.T, objects ...client.Object) *statusFixture {
	t.Helper()
	f := newFixture(t, newTable)
	s := &statusFixture{}
	s.api = fake.NewClientBuilder().WithObjects(objects...).WithStatusSubresource(&networkingv1.Ingress{}).WithInterceptorFuncs(interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if s.fail != nil {
				return s.fail
			}
			data, err := p.Data(o)
			s.patches = append(s.patches, o.GetName()+" "+versions.ReplaceAllString(string(data), ""))
			return errors.Join(err, c.SubResource(sub).Patch(ctx, o, p, opts...))
		},
	}).Build()
	leaders := &leadership{changed: func(bool) {}}
	leaders.begin(t.Context())
	s.status = &status{
		enabled: true, mirror: f.mirror, leadership: leaders, writer: s.api.Status(), log: f.log,
		limiter: flowcontrol.NewFakeAlwaysRateLimiter(), written: map[types.NamespacedName]statusWrite{},
	}
	s.source = &statusSource{options: StatusOptions{Addresses: []string{"192.0.2.1"}}, mirror: f.mirror, leadership: leaders, reader: s.api, log: f.log, changed: s.enqueueAll}
	return s
}

// write reconciles one Ingress and returns how long to wait for the next time.
func (s *statusFixture) reconcile(t *testing.T, name string) time.Duration {
	t.Helper()
	result, err := s.Reconcile(t.Context(), named("ns", name))
	if err != nil {
		t.Error(err)
	}
	return result.RequeueAfter
}

// see makes the mirror catch up with the API server.
func (s *statusFixture) see(t *testing.T, name string) *networkingv1.Ingress {
	t.Helper()
	i := &networkingv1.Ingress{}
	if err := s.api.Get(t.Context(), named("ns", name), i); err != nil {
		t.Fatal(err)
	}
	s.mirror.ingresses.put(i)
	return i
}

func (s *statusFixture) wantPatches(t *testing.T, want ...string) {
	t.Helper()
	if got := fmt.Sprint(s.patches); got != fmt.Sprint(want) {
		t.Errorf("patches %v, want %v", got, want)
	}
	s.patches = nil
}

func bareIngress(name string) *networkingv1.Ingress {
	i := newIngress(name)
	i.ResourceVersion = ""
	return i
}

func TestStatusIsWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStatusFixture(t, bareIngress("i"))
		s.see(t, "i")
		s.reconcile(t, "i")
		s.wantPatches(t, `i {"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`)

		// The mirror has not seen the write yet, for however long.
		time.Sleep(time.Hour)
		s.reconcile(t, "i")
		s.wantPatches(t)
		if got := s.see(t, "i"); text(got.Status.LoadBalancer.Ingress) != "192.0.2.1" {
			t.Fatalf("status is %v", got.Status)
		}
		s.reconcile(t, "i")
		s.wantPatches(t)

		// Another address is written at once.
		s.source.options.Addresses = []string{"lb.example", "192.0.2.1"}
		s.reconcile(t, "i")
		s.wantPatches(t, `i {"status":{"loadBalancer":{"ingress":[{"hostname":"lb.example"},{"ip":"192.0.2.1"}]}}}`)
	})
}

func TestStatusWritersDoNotFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStatusFixture(t, bareIngress("i"))
		s.see(t, "i")
		s.reconcile(t, "i")
		s.patches = nil
		other := s.see(t, "i").DeepCopy()
		other.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "203.0.113.9"}}
		if err := s.api.Status().Update(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		s.see(t, "i")
		time.Sleep(time.Second)
		if wait := s.reconcile(t, "i"); wait != statusPatience-time.Second {
			t.Errorf("comes again after %v", wait)
		}
		s.wantPatches(t)
		time.Sleep(statusPatience)
		s.reconcile(t, "i")
		s.wantPatches(t, `i {"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`)
	})
}

func TestStatusIsNotWritten(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(s *statusFixture, i *networkingv1.Ingress)
	}{
		{"for an Ingress of another controller", func(s *statusFixture, i *networkingv1.Ingress) {
			s.mirror.options.Ingress.EveryClass = false
			s.mirror.classChanged(nil, newClass("other", "other"))
		}},
		{"by a replica that does not lead", func(s *statusFixture, _ *networkingv1.Ingress) { s.leadership.end() }},
		{"while the addresses are not known", func(s *statusFixture, _ *networkingv1.Ingress) {
			s.source.options = StatusOptions{PublishService: named("ns", "missing")}
		}},
		{"for an Ingress that is gone", func(s *statusFixture, i *networkingv1.Ingress) { s.mirror.ingresses.remove(i) }},
		{"where the addresses are there in another order", func(s *statusFixture, i *networkingv1.Ingress) {
			s.source.options.Addresses = []string{"192.0.2.1", "192.0.2.2"}
			i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.2"}, {IP: "192.0.2.1"}}
			s.mirror.ingresses.put(i)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStatusFixture(t, bareIngress("i"))
			tt.prepare(s, s.see(t, "i").DeepCopy())
			s.reconcile(t, "i")
			s.wantPatches(t)
		})
	}
}

// TestStatusOfAnotherVersion lets somebody change the Ingress before the mirror knows: what was decided by the old form is not written, and no error either.
func TestStatusOfAnotherVersion(t *testing.T) {
	s := newStatusFixture(t, bareIngress("i"))
	behind := s.see(t, "i").DeepCopy()
	other := behind.DeepCopy()
	other.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.2"}}
	if err := s.api.Status().Update(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	s.reconcile(t, "i")
	if got := text(s.see(t, "i").Status.LoadBalancer.Ingress); got != "192.0.2.2" {
		t.Errorf("status is %s: the other's was overwritten unseen", got)
	}
	s.patches = nil
	s.reconcile(t, "i")
	s.wantPatches(t, `i {"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`)
	if got := text(s.see(t, "i").Status.LoadBalancer.Ingress); got != "192.0.2.1" {
		t.Errorf("status is %s once the mirror has caught up", got)
	}
}

// standstill is a limiter whose callers wait while the whole process stands still.
type standstill struct {
	flowcontrol.RateLimiter
	lasts time.Duration
}

func (s standstill) Wait(context.Context) error {
	time.Sleep(s.lasts)
	return nil
}

// TestStatusAfterStandstill freezes the leader between its decision to write and the write: another leads when it goes on, and what it had
// decided is not written.
func TestStatusAfterStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStatusFixture(t, bareIngress("i"))
		s.see(t, "i")
		s.leadership.lasts, s.leadership.renewed = 10*time.Second, time.Now()
		s.limiter = standstill{s.limiter, 10 * time.Second}
		s.reconcile(t, "i")
		s.wantPatches(t)
		s.leadership.renewed = time.Now()
		s.limiter = standstill{s.limiter, 9 * time.Second}
		s.reconcile(t, "i")
		s.wantPatches(t, `i {"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`)
	})
}

func TestStatusErrorIsTriedAgain(t *testing.T) {
	s := newStatusFixture(t, bareIngress("i"))
	s.see(t, "i")
	s.fail = errors.New("etcd is away")
	if _, err := s.Reconcile(t.Context(), named("ns", "i")); !errors.Is(err, s.fail) {
		t.Errorf("Reconcile returned %v", err)
	}
	s.fail = nil
	s.reconcile(t, "i")
	if len(s.patches) != 1 {
		t.Errorf("patches %v", s.patches)
	}
}

// TestStatusOfClaimedClasses: an Ingress of ingress-nginx's class gets our addresses if the class is claimed and status is written at all.
func TestStatusOfClaimedClasses(t *testing.T) {
	for _, c := range []struct {
		story           string
		claimed, writes bool
		queued          int
	}{
		{"not claimed", false, true, 0},
		{"claimed, but status is the other controller's", true, false, 0},
		{"claimed", true, true, 1},
	} {
		i := bareIngress("i")
		i.Spec.IngressClassName = new("nginx")
		s := newStatusFixture(t, i)
		s.enabled = c.writes
		o := &s.mirror.options.Ingress
		o.EveryClass, o.ControllerClass, o.ClaimNginx = false, "podlane.dev/ingress-controller", c.claimed
		s.mirror.classChanged(nil, newClass("nginx", ingress.NginxClass))
		s.see(t, "i")
		s.enqueueAll()
		if len(s.feed.waiting) != c.queued {
			t.Errorf("%s: %d Ingresses are queued, want %d", c.story, len(s.feed.waiting), c.queued)
		}
		for range c.queued {
			s.reconcile(t, "i")
			s.wantPatches(t, `i {"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`)
		}
		if s.enqueue(named("ns", "i")); !c.writes && len(s.feed.waiting) != 0 {
			t.Errorf("%s: an Ingress that changed is queued", c.story)
		}
	}
}

func TestStatusOfManyIsQueuedWhenLeading(t *testing.T) {
	s := newStatusFixture(t)
	for i := range 3 {
		s.mirror.ingresses.put(newIngress(fmt.Sprint("i", i)))
	}
	s.leadership.end()
	s.enqueueAll()
	s.enqueue(named("ns", "i0"))
	if len(s.feed.waiting) != 0 {
		t.Error("a replica that does not lead queues writes")
	}
	s.leadership.begin(t.Context())
	s.enqueueAll()
	if len(s.feed.waiting) != 3 {
		t.Errorf("%d Ingresses are queued", len(s.feed.waiting))
	}
}

func pod(name, node string, phase corev1.PodPhase, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: name, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Phase: phase},
	}
}

func node(name, address string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: address}}},
	}
}

func TestStatusFromNodes(t *testing.T) {
	app := func(hash string) map[string]string {
		return map[string]string{"app": "podlane", "pod-template-hash": hash}
	}
	s := newStatusFixture(t,
		pod("self", "n1", corev1.PodRunning, app("new")), pod("old", "n2", corev1.PodRunning, app("old")), pod("twin", "n1", corev1.PodRunning, app("new")),
		pod("pending", "n3", corev1.PodPending, app("new")), pod("other", "n3", corev1.PodRunning, map[string]string{"app": "other"}),
		node("n1", "192.0.2.1"), node("n2", "192.0.2.2"), node("n3", "192.0.2.3"))
	s.source.options = StatusOptions{Nodes: &NodeAddresses{}, Self: named("system", "self")}
	if _, ok := s.source.addresses(); ok {
		t.Error("the nodes are known before they were read")
	}
	s.mirror.ingresses.put(newIngress("i"))
	s.source.poll(t.Context())
	if got, ok := s.source.addresses(); !ok || text(got) != "192.0.2.1,192.0.2.2" {
		t.Errorf("%v, %t", got, ok)
	}
	if len(s.feed.waiting) != 1 {
		t.Error("new addresses do not wake the writer")
	}
	if n, err := s.source.siblings(t.Context()); n != 2 || err != nil {
		t.Errorf("%d siblings, %v", n, err)
	}
	s.source.options.Self = named("system", "unknown")
	s.source.poll(t.Context())
	if got, ok := s.source.addresses(); !ok || text(got) != "192.0.2.1,192.0.2.2" {
		t.Errorf("after an error: %v, %t", got, ok)
	}
}

func TestFarewell(t *testing.T) {
	tests := []struct {
		name    string
		pods    []client.Object
		led     bool
		emptied bool
	}{
		{"of the last replica", nil, true, true},
		{"with a sibling", []client.Object{pod("sibling", "n", corev1.PodRunning, map[string]string{"app": "podlane"})}, true, false},
		{"of one that does not lead", nil, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := bareIngress("i")
			i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}
			objects := append(tt.pods, i, pod("self", "n", corev1.PodRunning, map[string]string{"app": "podlane"}))
			s := newStatusFixture(t, objects...)
			s.see(t, "i")
			s.source.options.Self = named("system", "self")
			if !tt.led {
				s.leadership.end()
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := (&statusFarewell{status: s.status, source: s.source, timeout: time.Second}).Start(ctx); err != nil {
				t.Fatal(err)
			}
			if got := len(s.see(t, "i").Status.LoadBalancer.Ingress) == 0; got != tt.emptied {
				t.Errorf("emptied: %t, want %t", got, tt.emptied)
			}
		})
	}
}
