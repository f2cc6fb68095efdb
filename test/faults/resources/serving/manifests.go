package serving

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Folder makes a folder of manifests in which each host has a route to a Service with the given addresses.
func Folder(t testing.TB, hosts map[string][]string) string {
	t.Helper()
	dir := t.TempDir()
	for host, addresses := range hosts {
		Write(t, dir, host, addresses...)
	}
	return dir
}

// Write replaces the manifests of a host as an editor does: never half. The Service has the name of the host's first label.
func Write(t testing.TB, dir, host string, addresses ...string) {
	t.Helper()
	file := filepath.Join(dir, host+".yaml")
	temporary := filepath.Join(dir, "."+host+".tmp")
	if err := os.WriteFile(temporary, []byte(manifest(host, addresses)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, file); err != nil {
		t.Fatal(err)
	}
}

// Remove removes the manifests of a host.
func Remove(t testing.TB, dir, host string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, host+".yaml")); err != nil {
		t.Fatal(err)
	}
}

func manifest(host string, addresses []string) string {
	name, _, _ := strings.Cut(host, ".")
	var text strings.Builder
	fmt.Fprintf(&text, `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %[1]s, namespace: default}
spec:
  rules:
  - host: %[2]s
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: %[1]s, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: default}
spec: {ports: [{port: 80}]}
`, name, host)
	for i, address := range addresses {
		ip, port, _ := net.SplitHostPort(address)
		fmt.Fprintf(&text, `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-%[2]d, namespace: default, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: "", port: %[4]s}]
endpoints: [{addresses: [%[3]s], conditions: {ready: true}}]
`, name, i, ip, port)
	}
	return text.String()
}
