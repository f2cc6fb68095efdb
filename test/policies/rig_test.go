package policies_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/subrequest"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/manifest"
)

// podAnnotation says, on a Service, how many Pods it has.
const podAnnotation = "test/pods"

// asideAnnotation says, on a Service, that its Pods are not where requests go but are asked about them: they look at fields that begin with its
// value in place of Pod, and what they get is shown with the answer.
const asideAnnotation = "test/aside"

// rig is an engine that serves what a file says.
type rig struct {
	engine *proxy.Engine
	addr   string
	// names are where the names of Services lead: NAME.NAMESPACE.svc to a Pod's address.
	names map[string]string

	mu     sync.Mutex
	asides []string // what those who are asked got since the last answer
}

// dial connects to a Service by its name.
func (r *rig) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	pod, ok := r.names[strings.TrimSuffix(host, ".cluster.local")]
	if !ok {
		return nil, fmt.Errorf("there is no %s", host)
	}
	return new(net.Dialer).DialContext(ctx, network, pod)
}

// takeAsides returns what was shown since it was called last.
func (r *rig) takeAsides() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := strings.Join(r.asides, "")
	r.asides = nil
	return text
}

// section returns a section of an archive, nil where it is not there.
func section(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

// read returns the Snapshot of a file.
func read(tb testing.TB, a *txtar.Archive) ingress.Snapshot {
	tb.Helper()
	set, err := manifest.Read(fstest.MapFS{"in.yaml": {Data: section(a, "in.yaml")}})
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range set.Problems {
		tb.Errorf("in.yaml: %v", p)
	}
	s := set.Snapshot
	s.Options = config.ServeIngress().Options()
	if err := yaml.UnmarshalStrict(section(a, "options.yaml"), &s.Options); err != nil {
		tb.Fatal(err)
	}
	addServices(&s)
	return s
}

// addServices adds the Services that Ingresses name and that are not there.
func addServices(s *ingress.Snapshot) {
	have := map[string]bool{}
	for _, svc := range s.Services {
		have[svc.Namespace+"/"+svc.Name] = true
	}
	add := func(namespace string, b *networkingv1.IngressBackend) {
		if b == nil || b.Service == nil || have[namespace+"/"+b.Service.Name] {
			return
		}
		have[namespace+"/"+b.Service.Name] = true
		s.Services = append(s.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: b.Service.Name},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: b.Service.Port.Name, Port: max(b.Service.Port.Number, 1)}}},
		})
	}
	for _, i := range s.Ingresses {
		add(i.Namespace, i.Spec.DefaultBackend)
		for _, r := range i.Spec.Rules {
			if r.HTTP == nil {
				continue
			}
			for p := range r.HTTP.Paths {
				add(i.Namespace, &r.HTTP.Paths[p].Backend)
			}
		}
	}
}

// start serves a Table.
func start(t *testing.T, s ingress.Snapshot, table *router.Table) *rig {
	t.Helper()
	r := &rig{names: map[string]string{}}
	e := proxy.New(proxy.Options{
		Policies: config.Policies(), TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Subrequests: subrequest.Options{Dial: r.dial},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(&proxy.Listener{Listener: l}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	e.Prepare(table)
	for _, svc := range s.Services {
		e.SetAddresses(router.Service{Namespace: svc.Namespace, Name: svc.Name}, r.pods(t, svc))
	}
	e.Publish(table)
	r.engine, r.addr = e, l.Addr().String()
	return r
}

// pods starts the Pods of a Service, and returns their addresses by port.
func (r *rig) pods(t *testing.T, svc *corev1.Service) map[string][]router.Address {
	t.Helper()
	count := 1
	if text, ok := svc.Annotations[podAnnotation]; ok {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	var addresses []router.Address
	for i := range count {
		name := fmt.Sprintf("%s-%d", svc.Name, i)
		pod := pod{name: name, fields: "Pod"}
		if aside := svc.Annotations[asideAnnotation]; aside != "" {
			pod.fields, pod.rig = aside, r
		}
		s := httptest.NewServer(pod)
		t.Cleanup(s.Close)
		r.names[svc.Name+"."+svc.Namespace+".svc"] = s.Listener.Addr().String()
		addresses = append(addresses, router.Address{AddrPort: netip.MustParseAddrPort(s.Listener.Addr().String()), UID: name, Pod: name, Ready: true, Serving: true})
	}
	byPort := map[string][]router.Address{}
	for _, p := range svc.Spec.Ports {
		byPort[p.Name] = addresses
	}
	return byPort
}

// pod answers as fields of the request say that begin with fields.
type pod struct {
	name, fields string
	rig          *rig // that is shown what was got, or nil
}

// ServeHTTP says what the Pod got, unless it is told otherwise.
func (p pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the test sees that the answer is missing
	}
	if p.rig != nil {
		p.rig.mu.Lock()
		p.rig.asides = append(p.rig.asides, seen(r, p.name, body))
		p.rig.mu.Unlock()
	}
	for _, h := range r.Header.Values(p.fields + "-Header") {
		key, value, _ := strings.Cut(h, ":")
		w.Header().Add(key, strings.TrimSpace(value))
	}
	w.Header()["Date"] = nil
	text := r.Header.Get(p.fields + "-Body")
	if len(r.Header[p.fields+"-Body"]) == 0 {
		text = seen(r, p.name, body)
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "text/plain")
	}
	status := http.StatusOK
	if s, err := strconv.Atoi(r.Header.Get(p.fields + "-Status")); err == nil {
		status = s
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a client that has gone is the test's to see
}

// seen is what a Pod says of a request.
func seen(r *http.Request, name string, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s got\n%s %s\nHost: %s\n", name, r.Method, r.RequestURI, r.Host)
	fields := maps.Clone(r.Header)
	for key := range fields {
		if _, what, _ := strings.Cut(key, "-"); what == "Header" || what == "Status" || what == "Body" {
			delete(fields, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		for _, value := range fields[key] {
			fmt.Fprintf(&b, "%s: %s\n", key, steady(key, value))
		}
	}
	if len(body) > 0 {
		fmt.Fprintf(&b, "\n%s\n", body)
	}
	return b.String()
}

var (
	randomID  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	stickyKey = regexp.MustCompile(`=[0-9a-f]{32}\|`)
	highPort  = regexp.MustCompile(`^[0-9]{5}$`)
)

// steady returns a field's value without what differs from run to run.
func steady(key, value string) string {
	switch {
	case randomID.MatchString(value):
		return "(an ID)"
	case key == "Set-Cookie":
		return stickyKey.ReplaceAllString(value, "=(a key)|")
	case key == "X-Forwarded-Port" && highPort.MatchString(value):
		return "(the port)"
	}
	return value
}
