package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestServePodTLS: from the manifests to the Pod's certificate, and a Secret that changes and goes while everything runs.
func TestServePodTLS(t *testing.T) {
	start := func() (port int, authority string) {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.Proto) }))
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
		return s.Listener.Addr().(*net.TCPAddr).Port, base64.StdEncoding.EncodeToString(text)
	}
	port, authority := start()
	secret := func(key, value string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: pods, namespace: default}\ndata: {%s: %s}\n", key, value)
	}
	annotations := `nginx.ingress.kubernetes.io/backend-protocol: GRPCS, nginx.ingress.kubernetes.io/proxy-ssl-secret: default/pods, ` +
		`nginx.ingress.kubernetes.io/proxy-ssl-verify: "on", nginx.ingress.kubernetes.io/proxy-ssl-name: example.com`
	s := serve(t, map[string]string{
		"web.yaml": serviceOf("web", port), "pods.yaml": secret("ca.crt", authority),
		"ingress.yaml": strings.Replace(ingressOf("web", "web.example", "/", "web"), "  namespace: default\n", "  namespace: default\n  annotations: {"+annotations+"}\n", 1),
	})
	if a := s.get("http://web.example/"); a.status != 200 || a.body != "HTTP/2.0" {
		t.Errorf("verified: %d %q", a.status, a.body)
	}
	_, stranger := clientsOf(t, "stranger")
	other := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stranger.Certificate[0]}))
	s.write(t, "pods.yaml", secret("ca.crt", other))
	eventually(t, "nothing is sent to a Pod that does not pass", func() bool { return s.get("http://web.example/").status == 502 })
	s.write(t, "pods.yaml", secret("other.crt", authority))
	s.says(`SecretInvalid \(RouteDenied\).*ca\.crt: there is no certificate`)
	eventually(t, "the route is closed", func() bool { return s.get("http://web.example/").status == 503 })
	s.write(t, "pods.yaml", secret("ca.crt", authority))
	eventually(t, "the route is open again", func() bool { return s.get("http://web.example/").status == 200 })
}
