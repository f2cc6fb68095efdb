package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"podlane.dev/podlane/test/cluster"
)

var waitTrials = flag.Int("wait-trials", 24, "how many changes TestWaitIsNeverEarly makes")

// lateAPI is the API server as a replica sees it whose network is slow: what it says comes up to delay later, differently each time.
func lateAPI(t *testing.T, kubeconfig string, delay time.Duration) (late string) {
	t.Helper()
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	server := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	at, err := url.Parse(server.Server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(at.Hostname(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { carryLate(ctx, c, at.Host, delay) })
		}
	})
	server.Server = "https://" + l.Addr().String()
	late = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, late); err != nil {
		t.Fatal(err)
	}
	return late
}

func carryLate(ctx context.Context, c net.Conn, to string, delay time.Duration) {
	server, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		_ = c.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() { _, _ = c.Close(), server.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, c)
		_ = server.Close()
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		select {
		case <-time.After(rand.N(delay)):
		case <-ctx.Done():
		}
		if _, failed := c.Write(buffer[:n]); err != nil || failed != nil {
			break
		}
	}
	_, _ = c.Close(), server.Close()
	both.Wait()
}

// waited runs `podlane wait` and returns what it printed.
func waited(t *testing.T, c *cluster.Cluster, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cluster.Program("podlane"), append([]string{"wait", "--kubeconfig=" + c.Kubeconfig(), "--timeout=60s"}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// answersOf asks a replica on a connection that was there before, and on a new one.
func answersOf(t *testing.T, kept *http.Client, l *lane, host, path string) [2]string {
	t.Helper()
	fresh := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}, CheckRedirect: kept.CheckRedirect}
	var both [2]string
	for i, client := range []*http.Client{kept, fresh} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.url(80, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		both[i] = fmt.Sprint(answer.StatusCode, " ", answer.Header.Get("Location"))
		if answer.StatusCode == http.StatusOK {
			both[i] = string(body)
		}
	}
	return both
}

// fixedPod is a server that always answers with its name.
func fixedPod(t *testing.T, c *cluster.Cluster, name string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(c.NodeIP(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// waitRig is two replicas, one of which learns late, and an Ingress that is changed.
type waitRig struct {
	t         *testing.T
	c         *cluster.Cluster
	ns, host  string
	replicas  []*lane
	admin     string
	kept      *http.Client
	pods      map[string]netip.AddrPort
	authority *authority
}

func newWaitRig(t *testing.T) *waitRig {
	t.Helper()
	c := cluster.Shared(t)
	i := install(t, c)
	ns := namespace(t, c).Name
	r := &waitRig{t: t, c: c, ns: ns, host: ns + ".example", pods: map[string]netip.AddrPort{}, authority: newAuthority(t)}
	// The first replica writes status, so that versions change for no reason that matters.
	first := i.start(t, "--publish-status-address=192.0.2.1")
	slow := *i
	slow.kubeconfig = lateAPI(t, i.kubeconfig, 150*time.Millisecond)
	r.replicas = []*lane{first, slow.start(t, "--update-status=false", "--disable-leader-election")}
	r.admin = "--admin=" + r.replicas[0].url(9091, "") + "," + r.replicas[1].url(9091, "")
	r.kept = &http.Client{
		Timeout: 30 * time.Second, Transport: &http.Transport{Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(r.kept.CloseIdleConnections)
	for _, name := range []string{"one", "two"} {
		r.pods[name] = fixedPod(t, c, name)
		r.create(name)
	}
	class := i.class
	prefix := networkingv1.PathTypePrefix
	ingress := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	ingress.Spec.IngressClassName = &class
	ingress.Spec.Rules = []networkingv1.IngressRule{{Host: r.host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
		Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: backendOf("one")}},
	}}}}
	if _, err := c.Client.NetworkingV1().Ingresses(ns).Create(t.Context(), ingress, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.wait("ingress/web")
	return r
}

func backendOf(service string) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}}}
}

// create makes a Service whose one endpoint is the Pod of that name.
func (r *waitRig) create(name string) {
	r.t.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	if _, err := r.c.Client.CoreV1().Services(r.ns).Create(r.t.Context(), service, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.c.Client.DiscoveryV1().EndpointSlices(r.ns).Create(r.t.Context(), r.slice(name, name), metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// slice is the EndpointSlice of a Service whose traffic goes to a Pod.
func (r *waitRig) slice(service, pod string) *discoveryv1.EndpointSlice {
	name, port, ready := "http", int32(r.pods[pod].Port()), true
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{r.pods[pod].Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}
}

// change changes the Ingress.
func (r *waitRig) change(how func(*networkingv1.Ingress)) {
	r.t.Helper()
	cluster.Until(r.t, "a change of the Ingress", func(ctx context.Context) error {
		client := r.c.Client.NetworkingV1().Ingresses(r.ns)
		i, err := client.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if i.Annotations == nil {
			i.Annotations = map[string]string{}
		}
		how(i)
		_, err = client.Update(ctx, i, metav1.UpdateOptions{}) // fails where the status was written meanwhile
		return err
	})
}

func (r *waitRig) wait(args ...string) {
	r.t.Helper()
	if out, err := waited(r.t, r.c, append([]string{"-n", r.ns, r.admin}, args...)...); err != nil {
		r.t.Fatalf("wait %v: %v\n%s", args, err, out)
	}
}

// expect asks every replica.
func (r *waitRig) expect(what, path, want string) {
	r.t.Helper()
	for i, l := range r.replicas {
		if got := answersOf(r.t, r.kept, l, r.host, path); got != [2]string{want, want} {
			r.t.Errorf("%s: replica %d answers %q right after wait, want %q", what, i, got, want)
		}
	}
}

const redirect = "podlane.dev/permanent-redirect"

// trial makes the nth change, waits for it, and asks.
func (r *waitRig) trial(n int) {
	first := func(i *networkingv1.Ingress) *networkingv1.HTTPIngressPath { return &i.Spec.Rules[0].HTTP.Paths[0] }
	services := []string{"one", "two"}
	other := services[n/6%2]
	switch n % 6 {
	case 0:
		to := fmt.Sprintf("http://other.example/%d", n)
		r.change(func(i *networkingv1.Ingress) { i.Annotations[redirect] = to })
		r.wait("ingress/web")
		r.expect("annotation", "/", "301 "+to)
		r.change(func(i *networkingv1.Ingress) { delete(i.Annotations, redirect) })
		r.wait("--for=applied", "ingress/web")
		r.expect("annotation gone", "/", "one")
	case 1:
		r.change(func(i *networkingv1.Ingress) { first(i).Path = fmt.Sprint("/", n) })
		r.wait("ingress/web")
		r.expect("path", fmt.Sprint("/", n), "one")
		r.expect("path before", "/", "404 ")
		r.change(func(i *networkingv1.Ingress) { first(i).Path = "/" })
		r.wait("ingress/web")
	case 2:
		r.change(func(i *networkingv1.Ingress) { first(i).Backend = backendOf("two") })
		r.wait("ingress/web")
		r.expect("backend", "/", "two")
		r.change(func(i *networkingv1.Ingress) { first(i).Backend = backendOf("one") })
		r.wait("ingress/web")
		r.expect("backend back", "/", "one")
	case 3:
		if _, err := r.c.Client.DiscoveryV1().EndpointSlices(r.ns).Update(r.t.Context(), r.slice("one", other), metav1.UpdateOptions{}); err != nil {
			r.t.Fatal(err)
		}
		r.wait("service/one")
		r.expect("endpoints", "/", other)
		if _, err := r.c.Client.DiscoveryV1().EndpointSlices(r.ns).Update(r.t.Context(), r.slice("one", "one"), metav1.UpdateOptions{}); err != nil {
			r.t.Fatal(err)
		}
		r.wait("service/one")
	case 4:
		// Service, endpoints and rule are all new: the Ingress alone is waited for.
		name := fmt.Sprint("new-", n)
		r.pods[name] = r.pods["two"]
		r.create(name)
		r.change(func(i *networkingv1.Ingress) { first(i).Backend = backendOf(name) })
		r.wait("ingress/web")
		r.expect("new Service", "/", "two")
		r.change(func(i *networkingv1.Ingress) { first(i).Backend = backendOf("one") })
		r.wait("ingress/web")
	case 5:
		r.certificate(n)
	}
}

// certificate changes the certificate of the host, and waits for the Secret, or for the Ingress that names a new one.
func (r *waitRig) certificate(n int) {
	serial := fmt.Sprint(n + 1000)
	cert, key := r.authority.issue(int64(n+1000), r.host)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("tls-", n/12)}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": cert, "tls.key": key}}
	secrets := r.c.Client.CoreV1().Secrets(r.ns)
	if n/6%2 == 0 {
		if _, err := secrets.Create(r.t.Context(), secret, metav1.CreateOptions{}); err != nil {
			r.t.Fatal(err)
		}
		r.change(func(i *networkingv1.Ingress) {
			i.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{r.host}, SecretName: secret.Name}}
			i.Annotations["podlane.dev/ssl-redirect"] = "false"
		})
		r.wait("ingress/web")
	} else {
		if _, err := secrets.Update(r.t.Context(), secret, metav1.UpdateOptions{}); err != nil {
			r.t.Fatal(err)
		}
		r.wait("secret/" + secret.Name)
	}
	for i, l := range r.replicas {
		shown, err := l.shown(r.host)
		if err != nil {
			r.t.Fatal(err)
		}
		if got := shown.SerialNumber.String(); got != serial {
			r.t.Errorf("certificate: replica %d shows %s right after wait, want %s", i, got, serial)
		}
	}
}

// TestWaitIsNeverEarly: when `podlane wait` returns, every replica answers by the change, also the one that learns of it last.
func TestWaitIsNeverEarly(t *testing.T) {
	t.Parallel()
	r := newWaitRig(t)
	start := time.Now()
	for n := range *waitTrials {
		r.trial(n)
		if t.Failed() {
			t.Fatalf("trial %d", n)
		}
	}
	if err := r.c.Client.NetworkingV1().Ingresses(r.ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.wait("--for=deleted", "ingress/web")
	r.expect("deleted", "/", "404 ")
	t.Logf("%d changes in %v, the present version on every replica after each wait", *waitTrials, time.Since(start).Round(time.Millisecond))
}

// TestWaitSaysWhatCannotBe: what no waiting mends is an error at once.
func TestWaitSaysWhatCannotBe(t *testing.T) {
	t.Parallel()
	r := newWaitRig(t)
	file := filepath.Join(t.TempDir(), "ingress.yaml")
	manifest := func(name, more, path, service string) string {
		return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: %s%s}\nspec:\n  ingressClassName: %s\n  rules:\n"+
			"  - {host: %s, http: {paths: [{path: %s, pathType: Prefix, backend: {service: {name: %s, port: {number: 80}}}}]}}\n",
			name, more, classOf(r), r.host, path, service)
	}
	apply := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.c.Kubectl(t.Context(), "", "apply", "-n", r.ns, "-f", file); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string, args ...string) {
		t.Helper()
		out, err := waited(t, r.c, append([]string{"-n", r.ns, r.admin, "--timeout=10m"}, args...)...)
		if err == nil || !strings.Contains(out, want) || strings.Count(out, "podlane: ") != 1 {
			t.Errorf("wait %v: %v, %q, want an error with %q", args, err, out, want)
		}
	}
	refused("there is no ingress "+r.ns+"/nothing", "ingress/nothing")
	apply(manifest("younger", "", "/", "one"))
	refused("PathConflict", "ingress/younger")
	apply(manifest("nowhere", "", "/x", "nothing"))
	refused("ServiceMissing", "-f", file)
	apply(strings.Replace(manifest("foreign", "", "/y", "one"), classOf(r), "somebody-elses", 1))
	refused("foreign is not Podlane's: its ingressClassName is \"somebody-elses\"", "ingress/foreign")
	if _, err := r.c.Kubectl(t.Context(), "", "create", "secret", "generic", "unused", "-n", r.ns); err != nil {
		t.Fatal(err)
	}
	refused("no Ingress that it serves names secret "+r.ns+"/unused", "secret/unused")

	// A replica that does not answer holds everything up, and is named.
	out, err := waited(t, r.c, "-n", r.ns, r.admin+",http://127.0.0.1:1", "--timeout=3s", "ingress/web")
	if err == nil || !strings.Contains(out, "not in time") || !strings.Contains(out, "http://127.0.0.1:1 does not answer") || !strings.Contains(out, "waiting: ") {
		t.Errorf("a replica that does not answer: %v, %q", err, out)
	}
	apply(manifest("warned", ", annotations: {podlane.dev/no-such-thing: x}", "/z", "one"))
	if out, err := waited(t, r.c, "-n", r.ns, r.admin, "ingress/warned"); err != nil || !strings.Contains(out, "UnsupportedAnnotation") {
		t.Errorf("with an annotation that has no effect: %v, %q, want a warning", err, out)
	}
	if out, err := waited(t, r.c, "-n", r.ns, r.admin, "-o", "json", "ingress/web", "service/one"); err != nil || strings.Count(out, `"state": "applied"`) != 4 {
		t.Errorf("-o json: %v, %s, want two objects on two replicas", err, out)
	}
}

// TestDiffOfTheCluster: what would change is what does change.
func TestDiffOfTheCluster(t *testing.T) {
	t.Parallel()
	r := newWaitRig(t)
	class := classOf(r)
	file := filepath.Join(t.TempDir(), "new.yaml")
	text := fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\nspec:\n  ingressClassName: %s\n  rules:\n"+
		"  - {host: %s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: two, port: {number: 80}}}}, {path: /new, pathType: Prefix, backend: {service: {name: one, port: {number: 80}}}}]}}\n", class, r.host)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	diff := func() (string, int) {
		cmd := exec.CommandContext(t.Context(), cluster.Program("podlane"), "diff", "--kubeconfig="+r.c.Kubeconfig(), "-n", r.ns, "-f", file,
			"--ingress-class="+class, "--controller-class="+controllerOf(class))
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := diff()
	for _, want := range []string{"+ http://" + r.host + "/new", "~ http://" + r.host + "/\n  - Prefix / -> " + r.ns + "/one", "  + Prefix / -> " + r.ns + "/two", "1 route added, 0 removed, 1 changed; 0 problems new"} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("exit %d, %q is not in\n%s", code, want, out)
		}
	}
	if _, err := r.c.Kubectl(t.Context(), "", "apply", "-n", r.ns, "-f", file); err != nil {
		t.Fatal(err)
	}
	r.wait("-f", file)
	r.expect("applied", "/", "two")
	r.expect("applied", "/new", "one")
	if out, code := diff(); code != 0 || !strings.Contains(out, "0 routes added, 0 removed, 0 changed; 0 problems new, 0 solved") {
		t.Errorf("after it was applied: exit %d\n%s", code, out)
	}
}

func classOf(r *waitRig) string {
	i, err := r.c.Client.NetworkingV1().Ingresses(r.ns).Get(r.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return *i.Spec.IngressClassName
}
