package explain_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/ingress"
)

// dice are a source of random choices.
type dice struct{ *mathrand.Rand }

func newDice(seed, stream uint64) dice { return dice{mathrand.New(mathrand.NewPCG(seed, stream))} }

// one reports true once in n times.
func (d dice) one(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d dice, values []T) T { return values[d.IntN(len(values))] }

// What the worlds are made of. Requests come to some paths and hosts that no Ingress has.
var (
	hosts = []string{"a.example.com", "b.example.com", "www.a.example.com", "*.example.com", "c.test", "*.c.test", ""}
	paths = []string{"/", "/a", "/a/", "/a/b", "/a/b/c", "/api", "/api/v1", "/.well-known/acme-challenge", "/A"}
	// patterns are for paths of type ImplementationSpecific.
	patterns = []string{"/a(/|$)(.*)", "/api/(.*)", "/re/[0-9]+", "/(.+)", "/a/b", "/x"}
	services = []string{"svc0", "svc1", "svc2", "svc3", "missing", "empty"}
)

// keys are annotations, and what may be written there: some of it cannot be used.
var keys = []struct {
	name   string
	values []string
}{
	{"permanent-redirect", []string{"https://new.example.org/x", "/moved", "not a url"}},
	{"permanent-redirect-code", []string{"308", "301", "404"}},
	{"temporal-redirect", []string{"https://soon.example.org/"}},
	{"ssl-redirect", []string{"true", "false", "maybe"}},
	{"force-ssl-redirect", []string{"true", "false"}},
	{"preserve-trailing-slash", []string{"true"}},
	{"relative-redirects", []string{"true"}},
	{"use-port-in-redirects", []string{"true"}},
	{"app-root", []string{"/a/b", "/start", "no slash"}},
	{"whitelist-source-range", []string{"127.0.0.0/8", "10.0.0.0/8", "everyone"}},
	{"denylist-source-range", []string{"203.0.113.0/24", "127.0.0.1"}},
	{"rewrite-target", []string{"/$1", "/$2", "/new", "https://else.example.org/$1", "/$1/$2"}},
	{"use-regex", []string{"true", "false"}},
	{"x-forwarded-prefix", []string{"/shop"}},
	{"enable-cors", []string{"true"}},
	{"cors-allow-origin", []string{"https://o.example", "*"}},
	{"auth-type", []string{"basic"}},
	{"auth-secret", []string{"users", "nobody"}},
	{"auth-realm", []string{"Staff"}},
	{"satisfy", []string{"any", "all"}},
	{"proxy-body-size", []string{"10", "1m", "0"}},
	{"upstream-vhost", []string{"inner.example", "$namespace.local", "$http_x_none"}},
	{"connection-proxy-header", []string{"close", "keep-alive"}},
	{"affinity", []string{"cookie"}},
	{"affinity-mode", []string{"persistent", "balanced"}},
	{"affinity-canary-behavior", []string{"legacy", "sticky"}},
	{"upstream-hash-by", []string{"$request_uri", "$remote_addr"}},
	{"load-balance", []string{"ewma", "round_robin"}},
	{"custom-http-errors", []string{"503", "404,503"}},
	{"default-backend", []string{"svc3", "empty"}},
	{"server-alias", []string{"alias.test", "b.example.com", `~^r[0-9]+\.test$`}},
	{"from-to-www-redirect", []string{"true"}},
	{"limit-rps", []string{"100000"}},
	{"limit-connections", []string{"1000"}},
	{"limit-whitelist", []string{"127.0.0.1"}},
	{"hsts", []string{"max-age=60"}},
	{"custom-headers", []string{"default/fields", "default/nothing"}},
	{"auth-tls-secret", []string{"default/ca"}},
	{"auth-tls-verify-client", []string{"on", "optional", "off"}},
	{"auth-signin", []string{"https://login.example.org/", "https://login.example.org/?to=$escaped_request_uri"}},
	{"auth-tls-pass-certificate-to-upstream", []string{"true"}},
	{"auth-tls-match-cn", []string{"CN=alice", "CN=bob"}},
	{"auth-tls-error-page", []string{"https://help.example.org/"}},
	{"server-snippet", []string{"return 418;"}},
	{"proxy-read-timeout", []string{"5", "soon"}},
	{"proxy-next-upstream", []string{"error timeout http_503", "off"}},
	{"proxy-request-buffering", []string{"off", "on"}},
	{"backend-protocol", []string{"HTTP", "FTP"}},
	{"limit-rate", []string{"100000"}},
}

// canaryKeys are those of a canary.
var canaryKeys = []struct {
	name   string
	values []string
}{
	{"canary-weight", []string{"0", "10", "50", "100"}},
	{"canary-weight-total", []string{"100", "200"}},
	{"canary-by-header", []string{"X-Canary"}},
	{"canary-by-header-value", []string{"beta"}},
	{"canary-by-header-pattern", []string{"^b"}},
	{"canary-by-cookie", []string{"canary"}},
}

// settings are what the operator may say.
var settings = map[string][]string{
	"block-user-agents": {"EvilBot"}, "block-cidrs": {"203.0.113.7"}, "hsts": {"true"}, "ssl-redirect": {"false"},
	"proxy-add-original-uri-header": {"true"}, "generate-request-id": {"false"}, "http-redirect-code": {"307"}, "whitelist-source-range": {"127.0.0.1", "nonsense"},
	"proxy-set-headers": {"default/fields"}, "use-forwarded-headers": {"true", "false"}, "compute-full-forwarded-for": {"true"},
	"no-auth-locations": {"/api"}, "no-tls-redirect-locations": {"/a"},
}

// material are certificates and passwords, which are made once.
type material struct {
	cert, key []byte
	// auth is the URL of the authentication service.
	auth string
}

func newMaterial(t testing.TB) material {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"*.example.com", "*.a.example.com", "c.test", "*.c.test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.Header.Get(authField))
		if err != nil {
			status = http.StatusOK
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(service.Close)
	return material{
		auth: service.URL + "/auth",
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// newWorld returns a cluster at random.
func newWorld(d dice, m material) ingress.Snapshot {
	s := ingress.Snapshot{Options: config.ServeIngress().Options()}
	s.Options.Compat = pick(d, []ingress.Compat{ingress.CompatNginx, ingress.CompatByClass, ingress.CompatOff})
	s.Options.Settings = "podlane/settings"
	if d.one(3) {
		s.Options.DefaultBackend = "default/svc2"
	}
	named := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.Unix(int64(d.IntN(3)), 0)}
	}
	for _, name := range services {
		if name != "missing" {
			s.Services = append(s.Services, &corev1.Service{ObjectMeta: named(name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
		}
	}
	s.Secrets = []*corev1.Secret{
		{ObjectMeta: named("tls"), Data: map[string][]byte{corev1.TLSCertKey: m.cert, corev1.TLSPrivateKeyKey: m.key}},
		{ObjectMeta: named("ca"), Data: map[string][]byte{"ca.crt": m.cert}},
		{ObjectMeta: named("users"), Data: map[string][]byte{"auth": []byte("alice:{PLAIN}secret\n")}},
	}
	s.ConfigMaps = []*corev1.ConfigMap{{ObjectMeta: named("fields"), Data: map[string]string{"X-Set": "$request_method $host", "X-Drop": ""}}}
	operator := &corev1.ConfigMap{ObjectMeta: named("settings"), Data: map[string]string{}}
	operator.Namespace = "podlane"
	for name, values := range settings {
		if d.one(12) {
			operator.Data[name] = pick(d, values)
		}
	}
	s.ConfigMaps = append(s.ConfigMaps, operator)
	for i := range 2 + d.IntN(8) {
		name := "ing" + strconv.Itoa(i)
		made := newIngress(d, named(name))
		if d.one(6) {
			annotate(d, made, "auth-url", []string{m.auth})
		}
		s.Ingresses = append(s.Ingresses, made)
		if d.one(3) {
			s.Ingresses = append(s.Ingresses, newCanary(d, named(name+"-canary"), s.Ingresses[len(s.Ingresses)-1]))
		}
	}
	return s
}

// annotate adds annotations at random, under one of the two prefixes.
func annotate(d dice, i *networkingv1.Ingress, name string, values []string) {
	prefix := pick(d, []string{config.CompatPrefix, config.AnnotationPrefix})
	i.Annotations[prefix+"/"+name] = pick(d, values)
}

func newIngress(d dice, meta metav1.ObjectMeta) *networkingv1.Ingress {
	i := &networkingv1.Ingress{ObjectMeta: meta}
	i.Annotations = map[string]string{}
	for range d.IntN(4) {
		k := pick(d, keys)
		annotate(d, i, k.name, k.values)
		if k.name == "auth-type" {
			annotate(d, i, "auth-secret", []string{"users"})
		}
		if strings.HasPrefix(k.name, "auth-tls-") {
			annotate(d, i, "auth-tls-secret", []string{"default/ca"})
		}
		if k.name == "rewrite-target" {
			annotate(d, i, "use-regex", []string{"true"})
		}
	}
	for range 1 + d.IntN(2) {
		rule := networkingv1.IngressRule{Host: pick(d, hosts)}
		rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
		for range 1 + d.IntN(3) {
			typ := pick(d, []networkingv1.PathType{networkingv1.PathTypePrefix, networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific})
			path := pick(d, paths)
			if typ == networkingv1.PathTypeImplementationSpecific && d.one(2) {
				path = pick(d, patterns)
			}
			rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{Path: path, PathType: &typ, Backend: backendTo(pick(d, services))})
		}
		i.Spec.Rules = append(i.Spec.Rules, rule)
	}
	if d.one(3) {
		entry := networkingv1.IngressTLS{SecretName: "tls"}
		for _, r := range i.Spec.Rules {
			if r.Host != "" {
				entry.Hosts = append(entry.Hosts, r.Host)
			}
		}
		i.Spec.TLS = append(i.Spec.TLS, entry)
		if d.one(3) {
			annotate(d, i, "ssl-ciphers", []string{"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"})
		}
	}
	if d.one(4) {
		b := backendTo(pick(d, services))
		i.Spec.DefaultBackend = &b
	}
	return i
}

// newCanary returns a canary of another Ingress.
func newCanary(d dice, meta metav1.ObjectMeta, of *networkingv1.Ingress) *networkingv1.Ingress {
	i := &networkingv1.Ingress{ObjectMeta: meta}
	i.Annotations = map[string]string{config.CompatPrefix + "/canary": "true"}
	for _, k := range canaryKeys {
		if d.one(2) {
			annotate(d, i, k.name, k.values)
		}
	}
	of.Spec.DeepCopyInto(&i.Spec)
	for r := range i.Spec.Rules {
		for p := range i.Spec.Rules[r].HTTP.Paths {
			i.Spec.Rules[r].HTTP.Paths[p].Backend = backendTo(pick(d, services))
		}
	}
	i.Spec.TLS = nil
	return i
}

func backendTo(service string) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}}}
}

// text is what went wrong in, for who looks for the cause.
func worldText(s ingress.Snapshot) string {
	text := fmt.Sprintf("compat %q, default backend %q, settings %v\n", s.Options.Compat, s.Options.DefaultBackend, s.ConfigMaps[len(s.ConfigMaps)-1].Data)
	for _, i := range s.Ingresses {
		text += fmt.Sprintf("%s %v\n", i.Name, i.Annotations)
		for _, r := range i.Spec.Rules {
			for _, p := range r.HTTP.Paths {
				text += fmt.Sprintf("   %s %s %s -> %s\n", r.Host, *p.PathType, p.Path, p.Backend.Service.Name)
			}
		}
	}
	return text
}
