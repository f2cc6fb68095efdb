package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// clientsOf makes an authority for clients: its Secret as a manifest, and a certificate that it has signed.
func clientsOf(t *testing.T, secret string) (manifest string, client tls.Certificate) {
	t.Helper()
	template := func(name string, authority bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: authority, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
	}
	sign := func(c, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		if by == nil {
			by = key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
		must(t, err)
		return der, key
	}
	authority := template(secret, true)
	authorityDER, authorityKey := sign(authority, authority, nil)
	clientDER, clientKey := sign(template("alice", false), authority, authorityKey)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER})
	manifest = fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: default}\ndata: {ca.crt: %s}\n", secret, base64.StdEncoding.EncodeToString(text))
	return manifest, tls.Certificate{Certificate: [][]byte{clientDER}, PrivateKey: clientKey}
}

// visit asks for https://secure.example/ over a connection of its own.
func visit(t *testing.T, s *serving, config *tls.Config) answer {
	t.Helper()
	conn, err := tls.Dial("tcp", s.https, config)
	must(t, err)
	defer func() { _ = conn.Close() }()
	req, err := http.NewRequest(http.MethodGet, "https://secure.example/", nil)
	must(t, err)
	req.Close = true
	must(t, req.Write(conn))
	text, err := io.ReadAll(conn)
	must(t, err)
	head, body, _ := strings.Cut(string(text), "\r\n\r\n")
	state := conn.ConnectionState()
	a := answer{body: body, tls: &state}
	if _, err := fmt.Sscanf(head, "HTTP/1.1 %d", &a.status); err != nil {
		t.Fatalf("%v in %q", err, head)
	}
	return a
}

// TestServeClientCertificates: from the manifests to what the Pod is told, and a Secret that goes while everything runs.
func TestServeClientCertificates(t *testing.T) {
	certificate, _ := secretOf(t, "tls", "secure.example")
	authority, alice := clientsOf(t, "clients")
	_, stranger := clientsOf(t, "others")
	port := podOf(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "%s %s", q.Header.Get("ssl-client-verify"), q.Header.Get("ssl-client-subject-dn"))
	}))
	s := serve(t, map[string]string{
		"web.yaml": serviceOf("web", port), "tls.yaml": certificate, "clients.yaml": authority,
		"ingress.yaml": strings.Replace(withTLS("web", "secure.example", "web", "tls"), "  namespace: default\n",
			"  namespace: default\n  annotations: {nginx.ingress.kubernetes.io/auth-tls-secret: default/clients}\n", 1),
	})
	config := func(pair ...tls.Certificate) *tls.Config {
		return &tls.Config{ServerName: "secure.example", InsecureSkipVerify: true, Certificates: pair} //nolint:gosec // the server's is no matter here
	}
	if a := visit(t, s, config()); a.status != 400 {
		t.Errorf("without a certificate: %d", a.status)
	}
	if a := visit(t, s, config(stranger)); a.status != 400 {
		t.Errorf("with a stranger's: %d", a.status)
	}
	if a := visit(t, s, config(alice)); a.status != 200 || a.body != "SUCCESS CN=alice" {
		t.Errorf("with a good one: %d, the Pod saw %q", a.status, a.body)
	}
	fronted := config(alice)
	fronted.ServerName = "other.example"
	if a := visit(t, s, fronted); a.status != 421 {
		t.Errorf("with another server name: %d", a.status)
	}
	s.write(t, "clients.yaml", strings.Replace(authority, "ca.crt", "other.crt", 1))
	s.says(`SecretInvalid \(RouteDenied\).*ca\.crt: there is no certificate`)
	eventually(t, "the route is closed", func() bool { return visit(t, s, config(alice)).status == 503 })
}

// TestServeClientCertificateAnnotations: each annotation beside auth-tls-secret, over TLS.
func TestServeClientCertificateAnnotations(t *testing.T) {
	certificate, _ := secretOf(t, "tls", "secure.example")
	authority, alice := clientsOf(t, "clients")
	_, stranger := clientsOf(t, "others")
	port := podOf(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "%s %.30s", q.Header.Get("ssl-client-verify"), q.Header.Get("ssl-client-cert"))
	}))
	ingressWith := func(annotations string) string {
		return strings.Replace(withTLS("web", "secure.example", "web", "tls"), "  namespace: default\n",
			"  namespace: default\n  annotations: {nginx.ingress.kubernetes.io/auth-tls-secret: default/clients"+annotations+"}\n", 1)
	}
	const invalid = `, nginx.ingress.kubernetes.io/auth-tls-verify-client: "maybe"`
	s := serve(t, map[string]string{"web.yaml": serviceOf("web", port), "tls.yaml": certificate, "clients.yaml": authority, "ingress.yaml": ingressWith(invalid)})
	// With no earlier form that could hold on, nobody is let in.
	if a := visit(t, s, &tls.Config{ServerName: "secure.example", InsecureSkipVerify: true, Certificates: []tls.Certificate{alice}}); a.status != 503 { //nolint:gosec // as above
		t.Errorf("%s: %d, want 503", invalid, a.status)
	}
	for _, c := range []struct {
		annotation string
		pair       []tls.Certificate
		status     int
		body       string
	}{
		{"", []tls.Certificate{alice}, 200, "SUCCESS "},
		{`auth-tls-verify-client: "optional"`, nil, 200, "NONE "},
		{`auth-tls-match-cn: "CN=bob"`, []tls.Certificate{alice}, 403, ""},
		{`auth-tls-match-cn: "CN=al.*"`, []tls.Certificate{alice}, 200, "SUCCESS "},
		{`auth-tls-error-page: "https://help.example/"`, nil, 302, ""},
		{`auth-tls-pass-certificate-to-upstream: "true"`, []tls.Certificate{alice}, 200, "SUCCESS -----BEGIN%20CERTIFICATE-----"},
		{`auth-tls-verify-depth: "0"`, []tls.Certificate{alice}, 200, "SUCCESS "},
		{`auth-tls-verify-client: "optional"`, []tls.Certificate{stranger}, 400, ""},
		{`auth-tls-verify-client: "optional_no_ca"`, []tls.Certificate{stranger}, 200, "FAILED:"},
		{`auth-tls-verify-client: "optional_no_ca"`, nil, 200, "NONE "},
		{`auth-tls-verify-client: "off"`, nil, 200, ""},
	} {
		text := c.annotation
		if text != "" {
			text = ", nginx.ingress.kubernetes.io/" + text
		}
		s.write(t, "ingress.yaml", ingressWith(text))
		config := &tls.Config{ServerName: "secure.example", InsecureSkipVerify: true, Certificates: c.pair} //nolint:gosec // the server's is no matter here
		var last answer
		eventually(t, fmt.Sprintf("%s: %d %s", c.annotation, c.status, c.body), func() bool {
			last = visit(t, s, config)
			return last.status == c.status && (c.body == "" || strings.HasPrefix(last.body, c.body))
		})
	}
	// The last form, which verifies nobody, holds on.
	s.write(t, "ingress.yaml", ingressWith(invalid))
	s.says(`InvalidAnnotation \(Kept\): auth-tls-verify-client: "maybe" is not valid`)
	if a := visit(t, s, &tls.Config{ServerName: "secure.example", InsecureSkipVerify: true}); a.status != 200 { //nolint:gosec // as above
		t.Errorf("what held before %s: %d, want 200", invalid, a.status)
	}
}

// TestServeAuthServiceKnowsTheCertificate: who asks a service about clients tells it what their certificates say.
func TestServeAuthServiceKnowsTheCertificate(t *testing.T) {
	certificate, _ := secretOf(t, "tls", "secure.example")
	authority, alice := clientsOf(t, "clients")
	asked := make(chan string, 1)
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		asked <- fmt.Sprintf("%q %q %.29s", q.Header.Values("ssl-client-verify"), q.Header.Values("ssl-client-subject-dn"), q.Header.Get("ssl-client-cert"))
	}))
	defer service.Close()
	annotations := fmt.Sprintf("  annotations: {auth-tls-secret: default/clients, auth-tls-pass-certificate-to-upstream: %q, auth-url: %q}\n", "true", service.URL)
	annotations = strings.ReplaceAll(annotations, "auth-", "nginx.ingress.kubernetes.io/auth-")
	s := serve(t, map[string]string{
		"web.yaml": serviceOf("web", pod(t, "in")), "tls.yaml": certificate, "clients.yaml": authority,
		"ingress.yaml": strings.Replace(withTLS("web", "secure.example", "web", "tls"), "  namespace: default\n", "  namespace: default\n"+annotations, 1),
	}, "--external-name-allow=127.0.0.0/8")
	config := &tls.Config{ServerName: "secure.example", InsecureSkipVerify: true, Certificates: []tls.Certificate{alice}} //nolint:gosec // the server's is no matter here
	if a := visit(t, s, config); a.status != 200 || a.body != "this is in" {
		t.Fatalf("%d %q", a.status, a.body)
	}
	if got, want := <-asked, `["SUCCESS"] ["CN=alice"] -----BEGIN%20CERTIFICATE-----`; got != want {
		t.Errorf("the service is told %s, want %s", got, want)
	}
}

// TestServeSharesSessions: two replicas with the keys of one Secret take each other's sessions, without them they do not.
func TestServeSharesSessions(t *testing.T) {
	certificate, _ := secretOf(t, "tls", "secure.example")
	keys := fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: tickets, namespace: default}\ndata: {key: %s}\n",
		base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 80))))
	for name, args := range map[string][]string{"shared": {"--ssl-session-ticket-key-secret=default/tickets"}, "each its own": nil} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{ServerName: "secure.example", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)} //nolint:gosec // it is not verified
			for i := range 2 {
				s := serve(t, map[string]string{
					"web.yaml": serviceOf("web", pod(t, "one")), "tls.yaml": certificate, "keys.yaml": keys, "ingress.yaml": withTLS("web", "secure.example", "web", "tls"),
				}, args...)
				a := visit(t, s, config)
				if want := i == 1 && args != nil; a.status != 200 || a.tls.DidResume != want {
					t.Errorf("replica %d: %d, resumed %v, want %v", i, a.status, a.tls.DidResume, want)
				}
			}
		})
	}
}
