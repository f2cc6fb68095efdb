package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TLS passes through where the process and the Ingress both want it, and the client meets the Pod's own certificate.
func TestServePassthrough(t *testing.T) {
	secret := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "from the Pod itself") }))
	defer secret.Close()
	files := map[string]string{
		"web.yaml": serviceOf("web", secret.Listener.Addr().(*net.TCPAddr).Port) + "---\n" + serviceOf("other", pod(t, "other")),
		"ingress.yaml": strings.Replace(ingressOf("web", "a.example", "/", "web"), "  namespace: default\n",
			"  namespace: default\n  annotations: {nginx.ingress.kubernetes.io/ssl-passthrough: \"true\"}\n", 1) +
			"---\n" + ingressOf("other", "b.example", "/", "other"),
	}
	s := serve(t, files, "--enable-ssl-passthrough")
	if a := s.get("https://a.example/"); a.body != "from the Pod itself" || !a.tls.PeerCertificates[0].Equal(secret.Certificate()) {
		t.Errorf("%d %q with a certificate for %v", a.status, a.body, a.tls.PeerCertificates[0].DNSNames)
	}
	if a := s.get("https://b.example/"); a.body != "this is other" || a.tls.PeerCertificates[0].Equal(secret.Certificate()) {
		t.Errorf("another host: %d %q", a.status, a.body)
	}
	s = serve(t, files)
	if a := s.get("https://a.example/"); a.tls.PeerCertificates[0].Equal(secret.Certificate()) {
		t.Errorf("without the option: %d %q from the Pod", a.status, a.body)
	}
	s.says(`InvalidAnnotation \(Ignored\).*--enable-ssl-passthrough`)
}

// A load balancer that is trusted says who its clients are.
func TestServeProxyProtocol(t *testing.T) {
	files := map[string]string{
		"web.yaml": serviceOf("web", podOf(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.WriteString(w, q.Header.Get("X-Real-Ip"))
		}))),
		"ingress.yaml": ingressOf("web", "a.example", "/", "web"),
	}
	for _, c := range []struct{ args, header, want string }{
		{"--use-proxy-protocol --proxy-protocol-trusted=127.0.0.1", "PROXY TCP4 203.0.113.7 198.51.100.1 5000 80\r\n", "200 203.0.113.7"},
		{"--use-proxy-protocol --trusted-proxies=127.0.0.0/8", "PROXY TCP6 2001:db8::7 2001:db8::1 5000 80\r\n", "200 2001:db8::7"},
		{"--use-proxy-protocol --proxy-protocol-trusted=10.0.0.0/8", "", "200 127.0.0.1"},
		{"--proxy-protocol-trusted=127.0.0.1", "", "200 127.0.0.1"},
	} {
		s := serve(t, files, strings.Fields(c.args)...)
		nc, err := net.Dial("tcp", s.http)
		must(t, err)
		_, err = io.WriteString(nc, c.header+"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
		must(t, err)
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		must(t, nc.Close())
		if got := fmt.Sprintf("%d %s", res.StatusCode, body); got != c.want {
			t.Errorf("%s: %s, want %s", c.args, got, c.want)
		}
	}
}
