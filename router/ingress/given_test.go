package ingress_test

import (
	"reflect"
	"slices"
	"testing"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

const givenManifests = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: podlane}
data: {limit-rps: "7", guards: dog, allow-cross-namespace-resources: "true"}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: annotated
  namespace: default
  annotations:
    nginx.ingress.kubernetes.io/limit-burst: "30"
    podlane.dev/limit-burst: "20"
    podlane.dev/watched-by: dog
spec:
  rules: [{host: a.example, http: {paths: [{path: /x, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: plain, namespace: default}
spec:
  rules: [{host: b.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: wrong
  namespace: default
  annotations: {podlane.dev/limit-burst: many}
spec:
  rules: [{host: c.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: younger, namespace: default, creationTimestamp: "2030-01-01T00:00:00Z"}
spec:
  rules: [{host: a.example, http: {paths: [{path: /x, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
`

// TestValuesTellWhoGaveThem: of each value its keys are known: the annotation that won, the ConfigMap, and ingress-nginx's default.
func TestValuesTellWhoGaveThem(t *testing.T) {
	t.Parallel()
	s := parseYAML(t, []byte(givenManifests))
	s.Options = testOptions()
	s.Options.Settings, s.Options.Compat = "podlane/settings", ingress.CompatNginx
	table, problems := ingress.Build(s, testFamilies())
	rate := policy.Given{By: policy.ByConfigMap, Name: "limit-rps", Value: "7", Object: "podlane/settings"}
	guard := policy.Given{By: policy.ByConfigMap, Name: "guards", Value: "dog", Object: "podlane/settings"}
	for host, want := range map[string]map[string][]policy.Given{
		"a.example": {
			"limit": {rate, {By: policy.ByAnnotation, Name: "podlane.dev/limit-burst", Value: "20"}},
			"guard": {{By: policy.ByAnnotation, Name: "podlane.dev/watched-by", Value: "dog"}},
		},
		"b.example": {"limit": {rate}, "guard": {guard}},
		"c.example": {"limit": {rate}, "guard": {guard}}, // what cannot be used has given nothing
	} {
		h, _ := table.Host(host)
		for _, v := range h.Routes()[0].Policies {
			if !reflect.DeepEqual(v.Given, want[v.Family]) {
				t.Errorf("%s: %s is given by %+v, want %+v", host, v.Family, v.Given, want[v.Family])
			}
		}
	}
	if g := table.Globals(); len(g) != 1 || len(g[0].Given) != 1 || g[0].Given[0].Name != "allow-cross-namespace-resources" {
		t.Errorf("globals %+v", g)
	}
	s.Options.Settings = ""
	table, _ = ingress.Build(s, testFamilies())
	h, _ := table.Host("b.example")
	if got := h.Routes()[0].Policies[0].Given; !slices.Equal(got, []policy.Given{{By: policy.ByCompat, Name: "limit-rps", Value: "5"}}) {
		t.Errorf("without a ConfigMap %+v", got)
	}
	lost := router.RouteID{Namespace: "default", Ingress: "younger", Host: "a.example", Path: "/x", Type: router.Prefix}
	if !slices.ContainsFunc(problems, func(p ingress.Problem) bool { return p.Reason == ingress.PathConflict && p.Route == lost }) {
		t.Errorf("no conflict about %+v in\n%s", lost, problemText(problems))
	}
}
