package chart_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"podlane.dev/podlane/test/chart/render"
)

// exampleFacts are what each example is for: lines that describe has to say about it.
var exampleFacts = map[string][]string{
	"aws-nlb":                {"podlane LoadBalancer"},
	"aws-nlb-proxy-protocol": {"podlane LoadBalancer", "--proxy-protocol-trusted=10.0.0.0/16", "--use-proxy-protocol=true"},
	"gke":                    {"podlane LoadBalancer Local", "podlane-internal LoadBalancer Local"},
	"aks":                    {"podlane LoadBalancer Local", "podlane-internal LoadBalancer Local"},
	"digitalocean":           {"podlane LoadBalancer Local", "--proxy-protocol-trusted=10.110.0.0/20", "--use-proxy-protocol=true"},
	"metallb":                {"podlane LoadBalancer Local"},
	"nodeport":               {"podlane NodePort Local", "--publish-status-address=192.0.2.10"},
	"hostport":               {"DaemonSet", "port 80 of the node", "port 443 of the node", "--publish-node-addresses=true"},
	"from-ingress-nginx":     {"podlane LoadBalancer Local", "podlane-metrics ClusterIP", "--default-ssl-certificate=ingress/wildcard-tls"},
}

// describe says what a rendering has that others have not.
func describe(t *testing.T, all objects) []string {
	t.Helper()
	var facts []string
	w := workloadOf(t, all)
	if w.Kind != "Deployment" {
		facts = append(facts, w.Kind)
	}
	for _, s := range of[*corev1.Service](all) {
		facts = append(facts, strings.TrimSpace(s.Name+" "+string(s.Spec.Type)+" "+string(s.Spec.ExternalTrafficPolicy)))
	}
	for _, p := range w.Template.Spec.Containers[0].Ports {
		if p.HostPort != 0 {
			facts = append(facts, "port "+itoa(p.HostPort)+" of the node")
		}
	}
	for _, arg := range w.Template.Spec.Containers[0].Args {
		for _, prefix := range []string{"--proxy-protocol", "--use-proxy", "--publish-status", "--publish-node", "--default-ssl"} {
			if strings.HasPrefix(arg, prefix) {
				facts = append(facts, arg)
			}
		}
	}
	return facts
}

// TestExamples renders every example, finds it sound, and does what it is for; chart/README.md names them all.
func TestExamples(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(path(t, "chart/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path(t, "chart/examples/*.yaml"))
	if err != nil || len(files) != len(exampleFacts) {
		t.Fatalf("%d examples, and %d of them are known here: %v", len(files), len(exampleFacts), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := template(t, render.Release{Name: "podlane", Namespace: "podlane-system", Values: []string{file}})
			checkIdentity(t, all, "podlane-system")
			checkReferences(t, all)
			pod := podOf(t, all)
			checkShutdown(t, pod)
			checkProbes(t, pod)
			checkFlags(t, pod.Containers[0].Args)
			if found := breaches(pod); len(found) > 0 && name != "hostport" {
				t.Errorf("against the restricted standard: %q", found)
			}
			want, got := slices.Sorted(slices.Values(exampleFacts[name])), slices.Sorted(slices.Values(describe(t, all)))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what it is for: %s", diff)
			}
			if !strings.Contains(string(readme), "examples/"+name+".yaml") {
				t.Errorf("chart/README.md does not name examples/%s.yaml", name)
			}
		})
	}
}
