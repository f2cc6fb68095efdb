package peers

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"path/filepath"
)

// podlaneText is one Ingress. Beyond Podlane's defaults: bodies as large as the others take, and a connection limit that holds
// the idle clients. It also sets X-Forwarded-Scheme and X-Scheme, which the others are not asked for.
const podlaneText = `apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: podlane}
spec: {controller: podlane.dev/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: pods}
spec:
  ports: [{port: 80, targetPort: 8000}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: bench}
spec:
  ingressClassName: podlane
TLS  rules:
    - host: HOST
      http:
        paths: [{path: /, pathType: Prefix, backend: {service: {name: pods, port: {number: 80}}}}]
`

const podlaneSlice = `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: pods-INDEX
  labels: {kubernetes.io/service-name: pods}
addressType: IPv4
ports: [{port: PORT, protocol: TCP}]
endpoints:
  - addresses: [ADDRESS]
    conditions: {ready: true, serving: true, terminating: false}
    targetRef: {kind: Pod, name: pod-INDEX}
`

const podlaneTLS = `  tls:
    - hosts: [HOST]
      secretName: bench
`

const podlaneSecret = `---
apiVersion: v1
kind: Secret
metadata: {name: bench}
type: kubernetes.io/tls
data: {tls.crt: CHAIN, tls.key: KEY}
`

// Podlane is Podlane from an executable, under a name that tells it from others.
func Podlane(name, program string) Peer {
	return Peer{Name: name, Program: program, Version: []string{"version"}, Launch: launchPodlane}
}

func launchPodlane(s Site) Launch {
	slices := lines(s.Backends, func(i int, b netip.AddrPort) string {
		return render(podlaneSlice, "INDEX", fmt.Sprint(i+1), "PORT", fmt.Sprint(b.Port()), "ADDRESS", b.Addr().String())
	})
	log := s.AccessLog
	if log == "" {
		log = "off"
	}
	http, https, tls, secret := s.Address.String(), "off", "", ""
	if s.Mode != Plain {
		http, https, tls = https, http, render(podlaneTLS, "HOST", Host)
		secret = render(podlaneSecret, "CHAIN", base64.StdEncoding.EncodeToString(s.Certificate.Chain),
			"KEY", base64.StdEncoding.EncodeToString(s.Certificate.Key))
	}
	return Launch{
		Files: map[string]string{"manifests/bench.yaml": render(podlaneText, "HOST", Host, "TLS", tls) + slices + secret},
		Args: []string{
			"serve", "--from", filepath.Join(s.Dir, "manifests"), "--http-address", http, "--https-address", https,
			"--admin-address", "off", "--access-log", log, "--proxy-body-size", "16m", "--max-connections", "15000",
		},
		Env: []string{"GOMAXPROCS=1"},
	}
}
