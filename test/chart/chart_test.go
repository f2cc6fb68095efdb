package chart_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"podlane.dev/podlane/test/chart/render"
	"podlane.dev/podlane/test/cluster/assets"
)

var tools render.Tools

func TestMain(m *testing.M) {
	var err error
	if tools, err = render.Build(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "chart tests:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// path is a file of this repository.
func path(t *testing.T, name string) string {
	t.Helper()
	root, err := assets.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, filepath.FromSlash(name))
}

// template renders the chart and decodes it.
func template(t *testing.T, r render.Release) objects {
	t.Helper()
	out, err := tools.Template(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, out)
}

func decode(t *testing.T, stream []byte) objects {
	t.Helper()
	list, err := render.Decode(stream)
	if err != nil {
		t.Fatal(err)
	}
	return objects(list)
}

// standard is the release that config/default equals.
func standard(set ...string) render.Release {
	return render.Release{Name: "podlane", Namespace: "podlane-system", Set: set}
}

// releases are the chart with each of its ci/*-values.yaml, by the file's name.
func releases(t *testing.T) map[string]render.Release {
	t.Helper()
	files, err := filepath.Glob(path(t, "chart/ci/*-values.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("found only %v: %v", files, err)
	}
	found := map[string]render.Release{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), "-values.yaml")
		found[name] = render.Release{Name: "podlane", Namespace: "podlane-system", Values: []string{file}}
	}
	return found
}

func TestLint(t *testing.T) {
	for name, r := range releases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := tools.Lint(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
}

// unrestricted are the values files that ask for more than the restricted Pod Security Standard gives, and for what.
var unrestricted = map[string][]string{
	"hostport":    {"port http: uses the host's port 80", "port https: uses the host's port 443"},
	"hostnetwork": {"the Pod shares a namespace with its host"},
}

// TestObjectsAreSound checks, with every values file, what holds for any values.
func TestObjectsAreSound(t *testing.T) {
	for name, r := range releases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := template(t, r)
			namespace := r.Namespace
			if strings.Contains(r.Values[0], "full") {
				namespace = "edge-system"
			}
			checkIdentity(t, all, namespace)
			checkReferences(t, all)
			pod := podOf(t, all)
			if diff := cmp.Diff(unrestricted[name], breaches(pod)); diff != "" {
				t.Errorf("against the restricted standard: %s", diff)
			}
			checkShutdown(t, pod)
			checkProbes(t, pod)
			checkFlags(t, pod.Containers[0].Args)
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		release string
		set     []string
		want    string
	}{
		{"podlane", nil, "podlane"},
		{"edge", nil, "edge-podlane"},
		{"my-podlane-2", nil, "my-podlane-2"},
		{"edge", []string{"nameOverride=lane"}, "edge-lane"},
		{"edge", []string{"fullnameOverride=front"}, "front"},
		// 63 characters is the limit of a Service's name, and a name must not end in a dash.
		{"r", []string{"nameOverride=" + strings.Repeat("a-23456789", 7)}, "r-" + strings.Repeat("a-23456789", 6) + "a"},
	} {
		all := template(t, render.Release{Name: c.release, Namespace: "n", Set: c.set})
		if got := workloadOf(t, all).Name; got != c.want {
			t.Errorf("release %s, %v: named %s, want %s", c.release, c.set, got, c.want)
		}
	}
}

// The notes say where a budget lets no Pod go, and only there.
func TestNotesOfBudgets(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"controller.minAvailable=1":            "",
		"controller.minAvailable=50%":          "",
		"controller.maxUnavailable=1":          "",
		"controller.minAvailable=2":            "controller.minAvailable is 2 of 2 replicas",
		"controller.minAvailable=100%":         "controller.minAvailable is 100% of 2 replicas",
		"controller.maxUnavailable=0%":         "controller.maxUnavailable is 0%",
		"controller.autoscaling.enabled=true":  "",
		"controller.autoscaling.minReplicas=1": "",
	} {
		notes, err := tools.Notes(t.Context(), render.Release{Name: "edge", Namespace: "podlane", Set: []string{set}})
		if err != nil {
			t.Fatal(err)
		}
		const told = "no Pod may be evicted then"
		if strings.Contains(notes, told) != (want != "") || !strings.Contains(notes, want) {
			t.Errorf("%s: want %q in\n%s", set, want, notes)
		}
	}
}

func TestNotes(t *testing.T) {
	for name, r := range releases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			notes, err := tools.Notes(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"kubectl create ingress web", "curl -H 'Host: www.example.com' http://127.0.0.1:8080/", "/debug/problems"} {
				if !strings.Contains(notes, want) {
					t.Errorf("the notes lack %q:\n%s", want, notes)
				}
			}
			if strings.Contains(notes, "<no value>") || strings.Contains(notes, "%!") {
				t.Errorf("the notes have holes:\n%s", notes)
			}
		})
	}
}
