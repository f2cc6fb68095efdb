package main

import (
	"crypto/tls"
	"testing"
)

// What the ConfigMap says of TLS holds for the next handshake, without a restart, and the flags hold again without it.
func TestServeTLSByConfigMap(t *testing.T) {
	secret, _ := secretOf(t, "pair", "a.example")
	settings := func(data string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {" + data + "}\n"
	}
	s := serve(t, map[string]string{
		"web.yaml": serviceOf("web", pod(t, "web")), "ingress.yaml": withTLS("web", "a.example", "web", "pair"), "pair.yaml": secret,
		"settings.yaml": settings(""),
	}, "--configmap=default/settings")
	version := func(name string) uint16 {
		a, err := s.ask("https://" + name + "/")
		if err != nil {
			return 0
		}
		return a.tls.Version
	}
	for _, step := range []struct {
		data           string
		known, unknown uint16
	}{
		{"", tls.VersionTLS13, tls.VersionTLS13},
		{`ssl-protocols: TLSv1.2`, tls.VersionTLS12, tls.VersionTLS12},
		{`ssl-reject-handshake: "true"`, tls.VersionTLS13, 0},
		{`ssl-protocols: SSLv3`, tls.VersionTLS13, tls.VersionTLS13},
	} {
		s.write(t, "settings.yaml", settings(step.data))
		eventually(t, "handshakes to obey "+step.data, func() bool { return version("a.example") == step.known && version("b.example") == step.unknown })
	}
	s.says(`InvalidSetting \(Ignored\).*ssl-protocols`)
}
