package chart_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func kustomize(t *testing.T, dir string) objects {
	t.Helper()
	out, err := tools.Kustomize(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, out)
}

// TestKustomizeEqualsChart: the two ways to install Podlane differ in the labels that Helm adds, and in the Namespace.
func TestKustomizeEqualsChart(t *testing.T) {
	t.Parallel()
	chart, base := byID(t, template(t, standard())), byID(t, kustomize(t, "config/default"))
	const namespace = "Namespace /podlane-system"
	if base[namespace] == nil {
		t.Errorf("config/default makes no %s", namespace)
	}
	delete(base, namespace)
	if diff := cmp.Diff(chart, base); diff != "" {
		t.Errorf("the chart (-) and config/default (+) differ: %s", diff)
	}
}

// byID keys objects by kind, namespace and name, without the labels that are the installer's.
func byID(t *testing.T, all objects) map[string]runtime.Object {
	t.Helper()
	m := map[string]runtime.Object{}
	for _, o := range all {
		labels := accessor(t, o).GetLabels()
		for _, installer := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"} {
			delete(labels, installer)
		}
		accessor(t, o).SetLabels(labels)
		m[id(t, o)] = o
	}
	return m
}

// TestNamespaceEnforcesRestricted: the namespace refuses Pods that ask for more than ours do.
func TestNamespaceEnforcesRestricted(t *testing.T) {
	t.Parallel()
	ns := one[*corev1.Namespace](t, kustomize(t, "config/default"))
	if got := ns.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("pod-security.kubernetes.io/enforce is %q", got)
	}
}

// TestProject keeps kubebuilder's PROJECT to what the roles let the controllers read.
func TestProject(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(path(t, "PROJECT"))
	if err != nil {
		t.Fatal(err)
	}
	var project struct {
		Domain, ProjectName, Repo, Version string
		Layout                             []string
		Resources                          []struct {
			Controller, Core                   bool
			Domain, Group, Kind, Path, Version string
		}
	}
	if err := yaml.UnmarshalStrict(content, &project); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range project.Resources {
		if !r.Core || !r.Controller {
			t.Errorf("%s is not marked core and controller", r.Kind)
		}
		got[r.Kind] = r.Path
	}
	want := map[string]string{
		"Ingress": "k8s.io/api/networking/v1", "IngressClass": "k8s.io/api/networking/v1", "EndpointSlice": "k8s.io/api/discovery/v1",
		"Service": "k8s.io/api/core/v1", "Endpoints": "k8s.io/api/core/v1", "Secret": "k8s.io/api/core/v1", "ConfigMap": "k8s.io/api/core/v1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if project.Repo != "podlane.dev/podlane" || project.Version != "3" || len(project.Layout) != 1 || project.Layout[0] != "go.kubebuilder.io/v4" {
		t.Errorf("PROJECT is %+v", project)
	}
}
