package main

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

// TestServeHostCiphers: the annotation goes before the ConfigMap, and the ConfigMap before the flag, for the next handshake and for the host that has it
// alone; a list of which nothing can be offered is told of, and has no effect.
func TestServeHostCiphers(t *testing.T) {
	const gcm128, gcm256, chacha = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	own, _ := secretOf(t, "own", "own.example")
	other, _ := secretOf(t, "other", "other.example")
	ingressWith := func(annotations string) string {
		return strings.Replace(withTLS("own", "own.example", "web", "own"), "  namespace: default\n", "  namespace: default\n  annotations: {"+annotations+"}\n", 1)
	}
	settings := func(data string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {" + data + "}\n"
	}
	s := serve(t, map[string]string{
		"web.yaml": serviceOf("web", pod(t, "web")), "own.yaml": own, "other.yaml": other, "settings.yaml": settings(""),
		"ingress.yaml": ingressWith(""), "beside.yaml": withTLS("beside", "other.example", "web", "other"),
	}, "--configmap=default/settings", "--ssl-ciphers=ECDHE-ECDSA-AES128-GCM-SHA256")
	spoken := func(name string, version uint16) (suites []uint16) {
		for _, suite := range []uint16{gcm128, gcm256, chacha} {
			conn, err := tls.Dial("tcp", s.https, &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: version, CipherSuites: []uint16{suite}}) //nolint:gosec // the server's certificate is no matter here
			if err == nil {
				suites = append(suites, suite)
				_ = conn.Close()
			}
		}
		return suites
	}
	const all = 3
	for _, step := range []struct {
		settings, annotations string
		own, other            []uint16
		problem               string
	}{
		{"", "", []uint16{gcm128}, []uint16{gcm128}, ""},
		{"", "nginx.ingress.kubernetes.io/ssl-ciphers: ECDHE-ECDSA-AES256-GCM-SHA384", []uint16{gcm256}, []uint16{gcm128}, ""},
		{"ssl-ciphers: ECDHE-ECDSA-CHACHA20-POLY1305", "nginx.ingress.kubernetes.io/ssl-ciphers: ECDHE-ECDSA-AES256-GCM-SHA384", []uint16{gcm256}, []uint16{chacha}, ""},
		{"ssl-ciphers: ECDHE-ECDSA-CHACHA20-POLY1305", `nginx.ingress.kubernetes.io/ssl-ciphers: "DHE-RSA-AES256-GCM-SHA384:TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"`, []uint16{gcm128}, []uint16{chacha}, `CiphersUnknown \(Ignored\)[^\n]*"DHE-RSA-AES256-GCM-SHA384"`},
		{"ssl-ciphers: ECDHE-ECDSA-CHACHA20-POLY1305", "nginx.ingress.kubernetes.io/ssl-ciphers: DHE-RSA-AES256-GCM-SHA384", []uint16{chacha}, []uint16{chacha}, `InvalidAnnotation \(Ignored\)[^\n]*ssl-ciphers`},
		{"", `nginx.ingress.kubernetes.io/ssl-prefer-server-ciphers: "false"`, []uint16{gcm128}, []uint16{gcm128}, `RefusedAnnotation \(Notice\)[^\n]*ssl-prefer-server-ciphers`},
	} {
		s.write(t, "settings.yaml", settings(step.settings))
		s.write(t, "ingress.yaml", ingressWith(step.annotations))
		eventually(t, fmt.Sprintf("handshakes to obey %q and %q", step.settings, step.annotations), func() bool {
			return fmt.Sprint(spoken("own.example", tls.VersionTLS12)) == fmt.Sprint(step.own) && fmt.Sprint(spoken("other.example", tls.VersionTLS12)) == fmt.Sprint(step.other)
		})
		if got := len(spoken("own.example", tls.VersionTLS13)); got != all {
			t.Errorf("%s: TLS 1.3 is spoken with %d clients of %d", step.annotations, got, all)
		}
		if step.problem != "" {
			s.says(step.problem)
		}
	}
}
