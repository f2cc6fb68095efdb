package ingress_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// testOptions are the options of a test that says nothing else: podlane's own class.
func testOptions() ingress.Options {
	return ingress.Options{
		ControllerClass:    "podlane.dev/ingress-controller",
		IngressClass:       "podlane",
		EveryClass:         true,
		AnnotationPrefixes: []string{"nginx.ingress.kubernetes.io", "podlane.dev"},
	}
}

type limit struct{ RPS, Burst int }

// testFamilies are one family that is ignored when it is invalid, one that denies, one that panics, and those that Build knows.
func testFamilies() []policy.Family {
	return []policy.Family{
		clientAuthFamily(), podSchemeFamily(), podTLSFamily(), ciphersFamily(),
		&policy.Of[router.Passthrough]{
			Name: router.PassthroughFamily, Doc: "TLS to Pods.", IfInvalid: policy.Ignore,
			Keys: []policy.Key{{Name: "ssl-passthrough", Kind: policy.Bool, Doc: "On or off.", Example: "true"}},
			Parse: func(v policy.Values) (router.Passthrough, error) {
				on, err := v.Bool("ssl-passthrough", false)
				return router.Passthrough{On: on}, err
			},
		},
		&policy.Of[limit]{
			Name: "limit", Doc: "Limits requests.", IfInvalid: policy.Ignore,
			Keys: []policy.Key{
				{Name: "limit-rps", Kind: policy.Int, Where: policy.Everywhere, Doc: "Rate.", Example: "10", Compat: "5"},
				{Name: "limit-burst", Kind: policy.Int, Doc: "Burst.", Example: "20"},
			},
			Parse: func(v policy.Values) (limit, error) {
				rps, err1 := v.Int("limit-rps", 0)
				burst, err2 := v.Int("limit-burst", 0)
				return limit{rps, burst}, errors.Join(err1, err2)
			},
		},
		&policy.Refused{Name: "refused", Doc: "Nothing.", List: []policy.Refusal{
			{Name: "server-snippet", Why: "there is no nginx that could run it", Instead: "write annotations"},
			{Name: "worker-processes", Where: policy.ConfigMap, Why: "there are no worker processes", Harmless: true},
			{Name: "early-data", Where: policy.Everywhere, Default: "false", Why: "it can be replayed"},
			{Name: "http-snippet", Where: policy.ConfigMap, Why: "there is no nginx that could run it"},
		}},
		headersFamily(), rewriteFamily(), canaryFamily(), errorsFamily(),
		&policy.Of[router.ServerNames]{
			Name: router.ServerNamesFamily, Doc: "Names.", IfInvalid: policy.Ignore,
			Keys: []policy.Key{{Name: "server-alias", Kind: policy.List, Doc: "Names.", Example: "a.example"}, {Name: "from-to-www-redirect", Kind: policy.Bool, Doc: "WWW.", Example: "true"}},
			Parse: func(v policy.Values) (n router.ServerNames, err error) {
				n.Aliases = v.List("server-alias")
				n.WWW, err = v.Bool("from-to-www-redirect", false)
				return n, err
			},
		},
		&policy.Of[router.Rules]{
			Name: router.RulesFamily, Doc: "Rules.", IfInvalid: policy.Ignore, Global: true,
			Keys: []policy.Key{{Name: "allow-cross-namespace-resources", Kind: policy.Bool, Where: policy.ConfigMap, Doc: "Secrets of others.", Example: "true"}, {Name: "word-blocklist", Kind: policy.List, Where: policy.ConfigMap, Doc: "Words.", Example: "a"}},
			Parse: func(v policy.Values) (router.Rules, error) {
				cross, err := v.Bool("allow-cross-namespace-resources", false)
				return router.Rules{CrossNamespace: cross, Blocklist: v.List("word-blocklist")}, err
			},
		},
		&policy.Of[string]{
			Name: "guard", Doc: "Keeps strangers out.", IfInvalid: policy.Deny,
			Keys: []policy.Key{{Name: "guard-by", Alias: "watched-by", Setting: "guards", Kind: policy.String, Where: policy.Everywhere, Closes: true, Doc: "Who guards.", Example: "dog"}},
			Parse: func(v policy.Values) (string, error) {
				if v["guard-by"] != "dog" {
					return "", &policy.ValueError{Key: "guard-by", Value: v["guard-by"], Want: `"dog"`}
				}
				return v["guard-by"], nil
			},
		},
		&policy.Of[string]{
			Name: router.AppRootFamily, Doc: "Start.", IfInvalid: policy.Ignore,
			Keys:  []policy.Key{{Name: "app-root", Kind: policy.String, Doc: "Where.", Example: "/start"}},
			Parse: func(v policy.Values) (string, error) { return v.Text("app-root", ""), nil },
		},
		&policy.Of[string]{
			Name: "crash", Doc: "Panics.", IfInvalid: policy.Ignore,
			Keys:  []policy.Key{{Name: "crash", Kind: policy.String, Doc: "Why.", Example: "x"}},
			Parse: func(policy.Values) (string, error) { panic("index out of range") },
		},
	}
}

func rewriteFamily() policy.Family {
	return &policy.Of[router.Rewrite]{
		Name: router.RewriteFamily, Doc: "Rewrites.", IfInvalid: policy.Ignore,
		Keys: []policy.Key{{Name: "rewrite-target", Kind: policy.String, Doc: "To.", Example: "/"}, {Name: "use-regex", Kind: policy.Bool, Doc: "Patterns.", Example: "true"}},
		Parse: func(v policy.Values) (r router.Rewrite, err error) {
			if v.Has("rewrite-target") {
				if r.Target, err = router.NewTarget(v["rewrite-target"]); err != nil {
					return r, err
				}
			}
			r.Regex, err = v.Bool("use-regex", false)
			return r, err
		},
	}
}

func canaryFamily() policy.Family {
	return &policy.Of[router.Canary]{
		Name: router.CanaryFamily, Doc: "Canaries.", IfInvalid: policy.Ignore,
		Keys: []policy.Key{{Name: "canary", Kind: policy.Bool, Doc: "On.", Example: "true"}, {Name: "canary-weight", Kind: policy.Int, Doc: "Share.", Example: "10"}},
		Parse: func(v policy.Values) (c router.Canary, err error) {
			if c.On, err = v.Bool("canary", false); err != nil {
				return c, err
			}
			c.Total = 100
			c.Weight, err = v.Int("canary-weight", 0)
			return c, err
		},
	}
}

func errorsFamily() policy.Family {
	return &policy.Of[router.CustomErrors]{
		Name: router.CustomErrorsFamily, Doc: "Errors.", IfInvalid: policy.Ignore,
		Keys: []policy.Key{
			{Name: "custom-http-errors", Kind: policy.Int, Where: policy.Everywhere, Doc: "Status.", Example: "404"},
			{Name: "default-backend", Kind: policy.ServiceName, Doc: "Service.", Example: "errors"},
		},
		Parse: func(v policy.Values) (router.CustomErrors, error) {
			e := router.CustomErrors{Service: v.Text("default-backend", "")}
			status, err := v.Int("custom-http-errors", 0)
			if status > 0 {
				e.Statuses = []int{status}
			}
			return e, err
		},
	}
}

// headersFamily reads a ConfigMap, or a Secret.
func headersFamily() policy.Family {
	return &policy.Of[string]{
		Name: "headers", Doc: "Adds headers.", IfInvalid: policy.Deny,
		Keys: []policy.Key{
			{Name: "custom-headers", Kind: policy.ConfigMapName, Doc: "Which.", Example: "headers"},
			{Name: "secret-headers", Kind: policy.SecretName, Doc: "Which.", Example: "headers"},
			{Name: "add-headers", Kind: policy.ConfigMapName, Where: policy.ConfigMap, Doc: "Which.", Example: "headers"},
		},
		Resolve: func(v policy.Values, from policy.Source) (string, error) {
			var all []string
			for _, key := range []string{"add-headers", "custom-headers"} {
				if v.Has(key) {
					data, err := from.ConfigMap(key)
					if err != nil {
						return "", err
					}
					all = append(all, fmt.Sprint(data))
				}
			}
			if v.Has("secret-headers") {
				data, err := from.Secret("secret-headers")
				if err != nil {
					return "", err
				}
				all = append(all, fmt.Sprintf("%d secret", len(data)))
			}
			return strings.Join(all, " "), nil
		},
	}
}

// parseYAML reads the objects of a test: Kubernetes objects, and some that stand for more than a golden has room for.
//
//	kind: Certificate  a Secret with a certificate for hosts; equal hosts and serial give an equal certificate, keySerial a wrong key,
//	                   rsa one with an RSA key
//	kind: Authority    a Secret with the certificate of an authority; equal serials give an equal one, crl is what is in its list
//	kind: Big          an Ingress with `paths` paths, `tlsHosts` hosts and `annotation` bytes of one annotation
func parseYAML(tb testing.TB, text []byte) ingress.Snapshot {
	tb.Helper()
	var s ingress.Snapshot
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			tb.Fatal(err)
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			tb.Fatal(err)
		}
		var meta *metav1.ObjectMeta
		switch kind.Kind {
		case "Ingress":
			meta = &appendTo(tb, &s.Ingresses, doc).ObjectMeta
		case "IngressClass":
			meta = &appendTo(tb, &s.Classes, doc).ObjectMeta
		case "Service":
			meta = &appendTo(tb, &s.Services, doc).ObjectMeta
		case "Secret":
			meta = &appendTo(tb, &s.Secrets, doc).ObjectMeta
		case "ConfigMap":
			meta = &appendTo(tb, &s.ConfigMaps, doc).ObjectMeta
		case "Certificate":
			secret := certificateSecret(tb, doc)
			s.Secrets, meta = append(s.Secrets, secret), &secret.ObjectMeta
		case "Authority":
			secret := authoritySecret(tb, doc)
			s.Secrets, meta = append(s.Secrets, secret), &secret.ObjectMeta
		case "Big":
			big := bigIngress(tb, doc)
			s.Ingresses, meta = append(s.Ingresses, big), &big.ObjectMeta
		default:
			tb.Fatalf("there is no kind %q", kind.Kind)
		}
		if meta.Namespace == "" && kind.Kind != "IngressClass" {
			meta.Namespace = "default"
		}
		if meta.CreationTimestamp.IsZero() {
			meta.CreationTimestamp = metav1.NewTime(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
		}
	}
}

// appendTo decodes doc, strictly, and appends it.
func appendTo[T any](tb testing.TB, list *[]*T, doc []byte) *T {
	tb.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict(doc, o); err != nil {
		tb.Fatalf("%v in\n%s", err, doc)
	}
	*list = append(*list, o)
	return o
}

func bigIngress(tb testing.TB, doc []byte) *networkingv1.Ingress {
	tb.Helper()
	var big struct {
		Metadata                    metav1.ObjectMeta
		Paths, TLSHosts, Annotation int
	}
	if err := yaml.Unmarshal(doc, &big); err != nil {
		tb.Fatal(err)
	}
	exact := networkingv1.PathTypeExact
	rule := networkingv1.IngressRule{Host: "big.example"}
	rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
	for i := range big.Paths {
		rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{Path: fmt.Sprintf("/p%d", i), PathType: &exact, Backend: backendTo("web", 80)})
	}
	i := &networkingv1.Ingress{ObjectMeta: big.Metadata}
	i.Spec.Rules = []networkingv1.IngressRule{rule}
	if big.TLSHosts > 0 {
		t := networkingv1.IngressTLS{SecretName: "tls"}
		for n := range big.TLSHosts {
			t.Hosts = append(t.Hosts, fmt.Sprintf("h%d.example", n))
		}
		i.Spec.TLS = []networkingv1.IngressTLS{t}
	}
	if big.Annotation > 0 {
		i.Annotations = map[string]string{"podlane.dev/guard-by": "dog", "example.com/notes": strings.Repeat("x", big.Annotation)}
	}
	return i
}

func backendTo(name string, port int32) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: name, Port: networkingv1.ServiceBackendPort{Number: port}}}
}

func certificateSecret(tb testing.TB, doc []byte) *corev1.Secret {
	tb.Helper()
	var c struct {
		Metadata metav1.ObjectMeta
		Hosts    []string
		// KeySerial, where it is set, is the serial of the certificate whose key is put beside this one.
		Serial, KeySerial int64
		RSA               bool
		// Life, where it is set, is from when to when the certificate is valid, in seconds since 1970.
		Life [2]int64
	}
	if err := yaml.Unmarshal(doc, &c); err != nil {
		tb.Fatal(err)
	}
	cert, key := makePair(tb, c.Serial, c.Hosts...)
	if c.RSA {
		cert, key = makeRSAPair(tb, c.Serial, c.Hosts...)
	}
	if c.Life[1] != 0 {
		cert, key = makeTimedPair(tb, c.Life, c.Hosts...)
	}
	if c.KeySerial != 0 {
		_, key = makePair(tb, c.KeySerial, c.Hosts...)
	}
	return &corev1.Secret{
		ObjectMeta: c.Metadata, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	}
}

// pairs remembers the certificates that were made, because making keys is slow.
var pairs sync.Map

// makePair returns a certificate and its key as PEM: the same ones for the same arguments.
func makePair(tb testing.TB, serial int64, hosts ...string) (cert, key []byte) {
	tb.Helper()
	return remembered(fmt.Sprint(serial, hosts), func() (cert, key []byte) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		return signPair(tb, private, serial, hosts...)
	})
}

// makeTimedPair is makePair with a certificate that is valid for a time, in seconds since 1970.
func makeTimedPair(tb testing.TB, life [2]int64, hosts ...string) (cert, key []byte) {
	tb.Helper()
	return remembered(fmt.Sprint(life, hosts), func() (cert, key []byte) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		template := pairTemplate(1000*life[0]+life[1], hosts)
		template.NotBefore, template.NotAfter = time.Unix(life[0], 0), time.Unix(life[1], 0)
		return signTemplate(tb, private, template)
	})
}

// makeRSAPair is makePair with an RSA key.
func makeRSAPair(tb testing.TB, serial int64, hosts ...string) (cert, key []byte) {
	tb.Helper()
	return remembered(fmt.Sprint("rsa", serial, hosts), func() (cert, key []byte) {
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			tb.Fatal(err)
		}
		return signPair(tb, private, serial, hosts...)
	})
}

// remembered returns the pair of an id, and makes it where there is none.
func remembered(id string, made func() (cert, key []byte)) (cert, key []byte) {
	if old, ok := pairs.Load(id); ok {
		pair := old.([2][]byte)
		return pair[0], pair[1]
	}
	cert, key = made()
	first, _ := pairs.LoadOrStore(id, [2][]byte{cert, key})
	pair := first.([2][]byte)
	return pair[0], pair[1]
}

// signPair returns a certificate that private signs itself, and private, as PEM.
func signPair(tb testing.TB, private crypto.Signer, serial int64, hosts ...string) (cert, key []byte) {
	tb.Helper()
	return signTemplate(tb, private, pairTemplate(serial, hosts))
}

func pairTemplate(serial int64, hosts []string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial + 1), Subject: pkix.Name{CommonName: "test"}, DNSNames: slices.Clone(hosts),
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
}

func signTemplate(tb testing.TB, private crypto.Signer, template *x509.Certificate) (cert, key []byte) {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		tb.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER})
	return cert, key
}

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
