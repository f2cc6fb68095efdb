package ingress_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// world is a cluster that is edited at random. Objects are replaced, never changed, as in an informer's cache.
type world struct {
	tb        testing.TB
	ingresses map[types.NamespacedName]*networkingv1.Ingress
	services  map[types.NamespacedName]*corev1.Service
	secrets   map[types.NamespacedName]*corev1.Secret
	classes   map[string]*networkingv1.IngressClass
	maps      map[types.NamespacedName]*corev1.ConfigMap
	options   ingress.Options
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{
		tb:        tb,
		ingresses: map[types.NamespacedName]*networkingv1.Ingress{},
		services:  map[types.NamespacedName]*corev1.Service{},
		secrets:   map[types.NamespacedName]*corev1.Secret{},
		classes:   map[string]*networkingv1.IngressClass{},
		maps:      map[types.NamespacedName]*corev1.ConfigMap{},
		options:   testOptions(),
	}
	w.options.EveryClass = false
	w.options.WithoutClass = true
	return w
}

// snapshot lists the objects in a random order.
func (w *world) snapshot(t dice) ingress.Snapshot {
	s := ingress.Snapshot{
		Ingresses: slices.Collect(maps.Values(w.ingresses)), Services: slices.Collect(maps.Values(w.services)),
		Secrets: slices.Collect(maps.Values(w.secrets)), Classes: slices.Collect(maps.Values(w.classes)), Options: w.options,
		ConfigMaps: slices.Collect(maps.Values(w.maps)),
	}
	shuffle(&s, t.Rand)
	return s
}

// dice draws from a seed that rapid chooses, all values alike: rapid itself prefers small ones, which makes dull worlds.
type dice struct{ *rand.Rand }

// below returns a number in [0,n).
func (d dice) below(n int) int { return d.IntN(n) }

// pick draws one of values.
func pick[T any](d dice, values ...T) T { return values[d.below(len(values))] }

// edit changes the world in one random way.
func (w *world) edit(t dice) {
	name := types.NamespacedName{Namespace: pick(t, "a", "b"), Name: pick(t, "x", "y", "z")}
	switch t.below(20) {
	case 0, 1, 2, 3, 4:
		w.ingresses[name] = genIngress(t, name)
	case 5:
		delete(w.ingresses, name)
	case 6:
		if i := w.ingresses[name]; i != nil {
			w.ingresses[name] = touch(t, i)
		}
	case 7, 8:
		w.services[name] = genService(t, name)
	case 9:
		delete(w.services, name)
	case 10, 11:
		w.secrets[name] = w.genSecret(t, name)
	case 12:
		delete(w.secrets, name)
	case 13:
		w.editEnvironment(t)
	case 14, 15:
		w.maps[name] = genConfigMap(t, name)
	case 16:
		delete(w.maps, name)
	case 17, 18, 19:
		w.breakOrMend(t)
	}
}

// breakOrMend makes good guards bad, or bad ones good, in half of the Ingresses.
func (w *world) breakOrMend(t dice) {
	guard := pick(t, "dog", "cat")
	for name, i := range w.ingresses {
		if _, guarded := i.Annotations["podlane.dev/guard-by"]; guarded && (name.Name == "x") == (guard == "dog") {
			w.ingresses[name] = i.DeepCopy()
			w.ingresses[name].Annotations["podlane.dev/guard-by"] = guard
		}
	}
}

// touch returns a copy of i that differs in one thing, which Build may not care about.
func touch(t dice, i *networkingv1.Ingress) *networkingv1.Ingress {
	next := i.DeepCopy()
	switch t.below(6) {
	case 0:
		next.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}
		next.ResourceVersion += "1"
	case 1:
		next.Labels = map[string]string{"label": "x"}
	case 2:
		next.CreationTimestamp = metav1.NewTime(time.Unix(int64(1+t.below(3)), 0))
	case 3:
		next.UID = types.UID(pick(t, "1", "2"))
	case 4:
		next.Spec.TLS = nil
	case 5:
		next.Spec.TLS = append(next.Spec.TLS, networkingv1.IngressTLS{Hosts: []string{pick(t, "www.example", "x.a.example", "*.example")}, SecretName: pick(t, "x", "y", "z")})
	}
	return next
}

// editEnvironment changes a class or an option.
func (w *world) editEnvironment(t dice) {
	switch pick(t, "class", "no class", "default", "external", "certificate", "backend", "tickets", "settings", "settings", "compat") {
	case "class":
		c := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: pick(t, "ours", "theirs")}}
		c.Spec.Controller = pick(t, w.options.ControllerClass, "example.com/other", ingress.NginxClass)
		w.classes[c.Name] = c
	case "no class":
		clear(w.classes)
	case "default":
		w.options.WithoutClass = !w.options.WithoutClass
	case "external":
		w.options.AllowExternalName = !w.options.AllowExternalName
	case "certificate":
		w.options.DefaultCertificate = pick(t, "", "a/x", "b/z", "bad")
	case "backend":
		w.options.DefaultBackend = pick(t, "", "a/x", "b/z", "bad")
	case "settings":
		w.options.Settings = pick(t, "", "a/x", "b/y", "bad")
	case "compat":
		w.options.ClaimNginx, w.options.Compat = t.below(2) == 0, pick(t, ingress.CompatByClass, ingress.CompatNginx, ingress.CompatOff)
	case "tickets":
		w.options.TicketKeys = pick(t, "", "a/x", "a/y", "bad")
	}
}

func genIngress(t dice, name types.NamespacedName) *networkingv1.Ingress {
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	i.UID = types.UID(pick(t, "1", "2"))
	i.CreationTimestamp = metav1.NewTime(time.Unix(int64(1+t.below(3)), 0))
	hosts := []string{"", "www.api.example", "www.example", "www.example", "api.example", "*.example", "*.example", "x.a.example", "BAD", "localhost"}
	if class := pick(t, "", "", "ours", "theirs", "unknown"); class != "" {
		i.Spec.IngressClassName = &class
	}
	i.Annotations = pick(t, nil, nil, map[string]string{"podlane.dev/limit-rps": "5"}, map[string]string{"podlane.dev/guard-by": pick(t, "cat", "dog", "dog")},
		map[string]string{"podlane.dev/guard-by": "dog"}, map[string]string{"podlane.dev/guard-by": "dog", "podlane.dev/server-alias": "alias.example"},
		map[string]string{"podlane.dev/limit-rps": "x", "podlane.dev/unknown": ""},
		map[string]string{"podlane.dev/custom-headers": pick(t, "x", "y", "b/x"), "podlane.dev/watched-by": pick(t, "dog", "cat")},
		map[string]string{"podlane.dev/secret-headers": pick(t, "x", "y", "b/x")},
		map[string]string{"podlane.dev/use-regex": pick(t, "true", "true", "false", "bad")},
		map[string]string{"podlane.dev/rewrite-target": pick(t, "/$1", "/a", "/$x")},
		map[string]string{"podlane.dev/canary": "true", "podlane.dev/canary-weight": pick(t, "1", "2", "x")},
		map[string]string{"podlane.dev/canary": "true", "podlane.dev/limit-rps": "5"},
		map[string]string{"podlane.dev/custom-http-errors": pick(t, "404", "x")},
		map[string]string{"podlane.dev/default-backend": pick(t, "x", "y", "z")},
		map[string]string{"podlane.dev/server-alias": pick(t, "alias.example", "api.example,*.alias.example", "~^a", "x.a.example,BAD!")},
		map[string]string{"podlane.dev/app-root": "/start"},
		map[string]string{"podlane.dev/from-to-www-redirect": "true", "podlane.dev/server-alias": "alias.example"},
		map[string]string{"podlane.dev/auth-tls-secret": pick(t, "x", "y", "a/x", "b/z"), "podlane.dev/auth-tls-match-cn": pick(t, "", "CN=a")},
		map[string]string{"podlane.dev/backend-protocol": pick(t, "HTTPS", "GRPC", "HTTP", "bad"), "podlane.dev/proxy-ssl-secret": pick(t, "x", "y", "b/z")},
		map[string]string{"podlane.dev/proxy-ssl-secret": pick(t, "x", "y", "z"), "podlane.dev/proxy-ssl-verify": pick(t, "on", "off")},
		map[string]string{"podlane.dev/ssl-ciphers": pick(t, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:x", "x")},
		map[string]string{"podlane.dev/ssl-passthrough": pick(t, "true", "true", "false", "maybe")},
		map[string]string{"podlane.dev/auth-tls-secret": "x", "podlane.dev/auth-tls-verify-client": pick(t, "off", "on", "bad", "optional")})
	if t.below(3) == 0 {
		i.Spec.DefaultBackend = genBackend(t)
	}
	for range t.below(4) {
		rule := networkingv1.IngressRule{Host: pick(t, hosts...)}
		for range t.below(3) {
			if rule.HTTP == nil {
				rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
			}
			typ := pick(t, networkingv1.PathTypePrefix, networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific)
			rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{Path: pick(t, "/", "/a", "/a/", "/a/b", "bad", "/(a|b)?", "/a(?!b)"), PathType: &typ, Backend: *genBackend(t)})
		}
		i.Spec.Rules = append(i.Spec.Rules, rule)
	}
	for range t.below(3) {
		tls := networkingv1.IngressTLS{SecretName: pick(t, "x", "x", "y", "y", "z", "", "b/x")}
		for range t.below(3) {
			tls.Hosts = append(tls.Hosts, pick(t, hosts...))
		}
		i.Spec.TLS = append(i.Spec.TLS, tls)
	}
	return i
}

func genBackend(t dice) *networkingv1.IngressBackend {
	port := networkingv1.ServiceBackendPort{Number: 80}
	if t.below(2) == 0 {
		port = networkingv1.ServiceBackendPort{Name: pick(t, "http", "gone")}
	}
	return &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: pick(t, "x", "y", "z"), Port: port}}
}

func genConfigMap(t dice, name types.NamespacedName) *corev1.ConfigMap {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	c.Data = pick(t, nil, map[string]string{"X-A": pick(t, "1", "2")}, map[string]string{"limit-rps": pick(t, "1", "2", "x")},
		map[string]string{"guards": pick(t, "dog", "cat"), "worker-processes": "1"},
		map[string]string{"add-headers": pick(t, "a/x", "b/y", "a/none")},
		map[string]string{"allow-cross-namespace-resources": pick(t, "true", "bad"), "word-blocklist": pick(t, "cat", "zzz")})
	return c
}

func genService(t dice, name types.NamespacedName) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	s.Spec.Ports = []corev1.ServicePort{{Name: pick(t, "http", "other"), Port: 80, TargetPort: intstr.FromInt32(8080)}}
	if t.below(5) == 0 {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "db.example"
	}
	return s
}

func (w *world) genSecret(t dice, name types.NamespacedName) *corev1.Secret {
	hosts := pick(t, []string{"*.example"}, []string{"www.example", "x.a.example"}, nil)
	cert, key := makePair(w.tb, int64(t.below(2)), hosts...)
	if t.below(2) == 0 {
		cert, key = makeTimedPair(w.tb, pick(t, [2]int64{0, 4}, [2]int64{3, 8}, [2]int64{6, 100}), hosts...)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	s.Data = map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key}
	switch t.below(6) {
	case 0:
		s.Data[corev1.TLSCertKey] = []byte("broken")
	case 1, 2:
		s.Data["ca.crt"], _ = makeAuthority(w.tb, int64(t.below(2)))
	case 3:
		s.Data = map[string][]byte{"keys": bytes.Repeat([]byte{byte(t.below(3))}, 32)}
	}
	return s
}

// TestBuilderEqualsBuild edits a world at random: what Builder makes of its memory is what Build makes of nothing. Routes,
// Hosts and Certificates that are equal before and after are the same pointers, and nothing is kept in the end.
func TestBuilderEqualsBuild(t *testing.T) {
	held := 0
	rapid.Check(t, func(rt *rapid.T) {
		d := dice{rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))}
		w := newWorld(t)
		for range 20 {
			w.edit(d)
		}
		builder := ingress.NewBuilder(testFamilies())
		good := &ingress.LastGood{}
		last, _ := builder.Build(w.snapshot(d))
		builder.Remember(good)
		for n := range 12 {
			for range d.below(4) {
				w.edit(d)
			}
			s := w.snapshot(d)
			s.LastGood, s.Taken = good, time.Unix(int64(n+d.below(3)), 0) // clocks are set back, too
			before := mustJSON(rt, s)
			interrupted := d.below(20) == 0
			if interrupted {
				builder.Interrupt()
			}
			table, problems := builder.Build(s)
			want, wantProblems := ingress.Build(s, testFamilies())
			builder.Remember(good)
			held += good.Held()
			if text(table) != text(want) || !slices.Equal(problems, wantProblems) {
				rt.Fatalf("Builder:\n%s%s\nBuild:\n%s%s", text(table), problemText(problems), text(want), problemText(wantProblems))
			}
			if table.Len() != want.Len() || mustJSON(rt, s) != before {
				rt.Fatal("the number of routes differs, or the Snapshot was changed")
			}
			if !interrupted {
				checkShared(rt, last, table)
			}
			last = table
		}
		clear(w.ingresses)
		if builder.Build(w.snapshot(d)); builder.KeyPairs() > 1 {
			rt.Fatalf("%d key pairs are kept, of which at most the default certificate is used", builder.KeyPairs())
		}
		builder.Remember(good)
		clear(w.services)
		clear(w.secrets)
		clear(w.classes)
		clear(w.maps)
		w.options.DefaultBackend, w.options.DefaultCertificate, w.options.TicketKeys, w.options.Settings = "", "", "", ""
		builder.Build(w.snapshot(d))
		if builder.Remember(good); builder.Remembers()+good.Forms() != 0 {
			rt.Fatalf("%d things are remembered of objects that are gone", builder.Remembers()+good.Forms())
		}
	})
	if held == 0 {
		t.Error("nothing was ever held in an earlier form")
	}
}

// text is the text of a Table, with what its canonical form leaves out: UIDs, and which key pair a certificate has.
func text(t *router.Table) string {
	var lines []string
	for r := range t.Routes() {
		lines = append(lines, fmt.Sprintf("%#v %s %s %s", r.ID, r.UID, r, tlsText(r)+writtenText(r)))
	}
	if k := t.TicketKeys(); k != nil {
		lines = append(lines, fmt.Sprintf("ticket keys %x", k.Keys()))
	}
	for _, c := range append(slices.Clone(t.Certificates()), t.DefaultCertificate()) {
		if c != nil && c.KeyPair != nil {
			lines = append(lines, fmt.Sprintf("%s serial %s", c, c.KeyPair.Leaf.SerialNumber))
		}
	}
	slices.Sort(lines)
	return t.String() + strings.Join(lines, "\n") + "\n"
}

// writtenText is how a Route's ports are written.
func writtenText(r *router.Route) string {
	var b strings.Builder
	for i := range r.Backends {
		b.WriteString(" " + r.Backends[i].Written)
	}
	if r.ErrorBackend != nil {
		b.WriteString(" " + r.ErrorBackend.Written)
	}
	return b.String()
}

// tlsText is what a Route's TLS policy is, as far as its text does not say it.
func tlsText(r *router.Route) string {
	if r.TLS == nil {
		return ""
	}
	return fmt.Sprintf("%x %s %s", r.TLS.ID(), r.TLS.Owner, r.TLS.ClientAuth)
}

func mustJSON(t *rapid.T, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkShared compares two Tables of one Builder: what is equal must be the same.
func checkShared(t *rapid.T, old, next *router.Table) {
	key := func(r *router.Route) string {
		return fmt.Sprintf("%#v %s", r.ID, r.UID) + r.String() + tlsText(r) + writtenText(r)
	}
	known := map[string]*router.Route{}
	for r := range old.Routes() {
		known[key(r)] = r
	}
	for r := range next.Routes() {
		// A family's value has no identity, so a Route with another annotation than before may be new though its text is equal.
		if was := known[key(r)]; was != nil && was != r && len(r.Policies) == 0 {
			t.Fatalf("Route %s is new, but nothing of it is", key(r))
		}
	}
	certs := map[string]*router.Certificate{}
	for _, c := range old.Certificates() {
		certs[c.String()+fmt.Sprintf("%p", c.KeyPair)] = c
	}
	for _, c := range next.Certificates() {
		if was := certs[c.String()+fmt.Sprintf("%p", c.KeyPair)]; was != nil && was != c {
			t.Fatalf("%s is new, but nothing of it is", c)
		}
	}
	if old.String() == next.String() && old.Compat() == next.Compat() && old.TicketKeys() == next.TicketKeys() && len(slices.Collect(next.RoutesNotIn(old))) == 0 && old.DefaultCertificate() == next.DefaultCertificate() &&
		slices.Equal(old.Certificates(), next.Certificates()) && old != next {
		t.Fatal("nothing changed, but the Table did")
	}
}
