package e2e_test

import (
	"fmt"
	"strings"

	"podlane.dev/podlane/test/cluster"
)

// A workload is a Deployment of the backend and a Service in front of it. The zero value of each field but Name is a good one.
type workload struct {
	Name     string
	Replicas int // 1
	// Image is cluster.BackendImage.
	Image string
	// Args are the program's flags.
	Args []string
	// Ports are the container's: "{name: http, containerPort: 8000}".
	Ports string
	// Probe is the readiness probe: an HTTP GET of /readyz each second; "none" for none.
	Probe string
	// Service is the spec of NAME-svc, without the selector: "ports: [{port: 80, targetPort: 8000}]"; "none" for none.
	Service string
}

// yaml is the manifest.
func (w workload) yaml() string {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&w.Image, cluster.BackendImage)
	set(&w.Ports, "{name: http, containerPort: 8000}")
	set(&w.Probe, "{httpGet: {path: /readyz, port: 8000}, periodSeconds: 1, failureThreshold: 1}")
	set(&w.Service, "ports: [{port: 80, targetPort: 8000}]")
	probe := ""
	if w.Probe != "none" {
		probe = "\n          readinessProbe: " + w.Probe
	}
	out := fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: web
          image: %[6]s:v1
          args: [%[3]s]
          ports: [%[4]s]%[5]s
---
`, w.Name, max(w.Replicas, 1), strings.Join(w.Args, ", "), w.Ports, probe, w.Image)
	if w.Service != "none" {
		out += fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %[1]s-svc}\nspec:\n  selector: {app: %[1]s}\n  %[2]s\n---\n", w.Name, w.Service)
	}
	return out
}

// ingress is an Ingress of class podlane with one rule, to port 80 of a Service.
func ingress(name, host, service string) string { return ingressOf("podlane", name, host, service) }

func ingressOf(class, name, host, service string) string {
	return fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %s}
spec:
  ingressClassName: %s
  rules:
    - host: %s
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: %s, port: {number: 80}}}
---
`, name, class, host, service)
}

// pod is a single backend Pod.
func pod(name, labels string, args ...string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {%s}}
spec:
  terminationGracePeriodSeconds: 5
  containers: [{name: web, image: podlane.dev/test/backend, args: [%s]}]
---
`, name, labels, strings.Join(args, ", "))
}
