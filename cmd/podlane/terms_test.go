package main

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// settingsOf is the operator's ConfigMap.
func settingsOf(data string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {" + data + "}\n"
}

// What the ConfigMap says of TLS holds for the next handshake, without a restart, and the flags hold again without it.
func TestServeTLSByConfigMap(t *testing.T) {
	secret, _ := secretOf(t, "pair", "a.example")
	s := serve(t, map[string]string{
		"web.yaml": serviceOf("web", pod(t, "web")), "ingress.yaml": withTLS("web", "a.example", "web", "pair"), "pair.yaml": secret,
		"settings.yaml": settingsOf(""),
	}, "--configmap=default/settings")
	// handshake returns what a client of a name comes to, nil where it is refused.
	handshake := func(name string, most uint16, suites ...uint16) *tls.ConnectionState {
		c, err := tls.Dial("tcp", s.https, &tls.Config{ //nolint:gosec // it is not verified
			ServerName: name, InsecureSkipVerify: true, MaxVersion: most, CipherSuites: suites, NextProtos: []string{"h2", "http/1.1"},
		})
		if err != nil {
			return nil
		}
		state := c.ConnectionState()
		_ = c.Close()
		return &state
	}
	const host, stranger = "a.example", "b.example"
	const gcm128, gcm256 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	usual := func() bool {
		c := handshake(host, 0)
		return c != nil && c.Version == tls.VersionTLS13 && c.NegotiatedProtocol == "h2" && c.CurveID == tls.X25519MLKEM768 && handshake(stranger, 0) != nil &&
			handshake(host, tls.VersionTLS12, gcm128) != nil && handshake(host, tls.VersionTLS12, gcm256) != nil
	}
	for _, step := range []struct {
		data  string
		obeys func() bool
	}{
		{"", usual},
		{`ssl-protocols: TLSv1.2`, func() bool { c := handshake(host, 0); return c != nil && c.Version == tls.VersionTLS12 }},
		{`ssl-protocols: TLSv1.3`, func() bool { return handshake(host, 0) != nil && handshake(host, tls.VersionTLS12) == nil }},
		{`ssl-reject-handshake: "true"`, func() bool { return handshake(host, 0) != nil && handshake(stranger, 0) == nil }},
		{`ssl-ciphers: "ECDHE-ECDSA-AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384"`, func() bool {
			return handshake(host, tls.VersionTLS12, gcm128) == nil && handshake(host, tls.VersionTLS12, gcm256) != nil && handshake(host, 0) != nil
		}},
		{`ssl-ecdh-curve: "secp384r1:X448"`, func() bool { c := handshake(host, 0); return c != nil && c.CurveID == tls.CurveP384 }},
		{`use-http2: "false"`, func() bool { c := handshake(host, 0); return c != nil && c.NegotiatedProtocol == "http/1.1" }},
		{`ssl-protocols: SSLv3`, usual},
	} {
		s.write(t, "settings.yaml", settingsOf(step.data))
		eventually(t, "handshakes to obey "+step.data, step.obeys)
	}
	s.says(`InvalidSetting \(Ignored\).*ssl-protocols`)
	s.says(`InvalidSetting \(Ignored\).*DHE-RSA-AES256-GCM-SHA384.*the others are offered`)
}

// Sessions are resumed until the ConfigMap says that they are not.
func TestServeTicketsByConfigMap(t *testing.T) {
	secret, _ := secretOf(t, "pair", "secure.example")
	s := serve(t, map[string]string{
		"web.yaml": serviceOf("web", pod(t, "web")), "ingress.yaml": withTLS("web", "secure.example", "web", "pair"), "pair.yaml": secret, "settings.yaml": settingsOf(""),
	}, "--configmap=default/settings")
	sessions := &tls.Config{ServerName: "secure.example", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)} //nolint:gosec // it is not verified
	resumes := func() bool { return visit(t, s, sessions).tls.DidResume }
	eventually(t, "a session to be resumed", resumes)
	s.write(t, "settings.yaml", settingsOf(`ssl-session-tickets: "false"`))
	eventually(t, "no session to be resumed", func() bool {
		resumes() // whether or not, it leaves no session that can be resumed
		return !resumes()
	})
}

// Two replicas take each other's sessions with the key that the ConfigMap has, and without it they do not.
func TestServeTicketKeysByConfigMap(t *testing.T) {
	certificate, _ := secretOf(t, "tls", "secure.example")
	key := "ssl-session-ticket-key: " + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 80)))
	for _, data := range []string{key, ""} {
		config := &tls.Config{ServerName: "secure.example", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)} //nolint:gosec // it is not verified
		for i := range 2 {
			s := serve(t, map[string]string{
				"web.yaml": serviceOf("web", pod(t, "one")), "tls.yaml": certificate, "ingress.yaml": withTLS("web", "secure.example", "web", "tls"),
				"settings.yaml": settingsOf(data),
			}, "--configmap=default/settings")
			if a, want := visit(t, s, config), i == 1 && data != ""; a.status != http.StatusOK || a.tls.DidResume != want {
				t.Errorf("%q, replica %d: %d, resumed %v, want %v", data, i, a.status, a.tls.DidResume, want)
			}
		}
	}
}

// The ConfigMap says how long requests under way may take at the end, where the flag says an hour.
func TestServeShutdownByConfigMap(t *testing.T) {
	port, asked, _ := slowPod(t)
	s := serve(t, map[string]string{
		"all.yaml": serviceOf("web", port) + "---\n" + ingressOf("web", "a.example", "/", "web"), "settings.yaml": settingsOf(`worker-shutdown-timeout: 100ms`),
	}, "--configmap=default/settings", "--drain-delay=0", "--shutdown-timeout=1h")
	failed := make(chan error, 1)
	go func() {
		a, err := s.ask("http://a.example/slow")
		if err == nil {
			err = fmt.Errorf("it was answered: %d %q", a.status, a.body)
		} else {
			err = nil
		}
		failed <- err
	}()
	<-asked
	s.signals <- syscall.SIGTERM
	if code := s.wait(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
}
