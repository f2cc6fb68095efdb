// Package render owns Helm and kustomize for the tests: it builds both from the Go module in ../helm into the cache, runs
// them, and decodes what they print. It must not judge the objects, nor talk to a cluster.
package render

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"podlane.dev/podlane/test/cluster/assets"
)

// Tools are the programs. The zero value is of no use; see Build.
type Tools struct{ helm, kustomize string }

// Helm is the path of the program.
func (t Tools) Helm() string { return t.helm }

// Release is one `helm template`: the chart of this repository with some values.
type Release struct {
	Name, Namespace string
	// Values are paths of values files, later ones winning.
	Values []string
	// Set are values as --set takes them, "controller.replicaCount=3"; they win over files.
	Set []string
	// KubeVersion is the cluster's version that the templates see; Helm's own unless set.
	KubeVersion string
}

// Template renders the chart. The error holds what Helm says.
func (t Tools) Template(ctx context.Context, r Release) ([]byte, error) {
	chart, err := chartDir()
	if err != nil {
		return nil, err
	}
	return t.runHelm(ctx, append([]string{"template", r.Name, chart, "--namespace", r.Namespace}, r.flags()...))
}

// Lint runs `helm lint --strict` on the chart with the values of r.
func (t Tools) Lint(ctx context.Context, r Release) error {
	chart, err := chartDir()
	if err != nil {
		return err
	}
	_, err = t.runHelm(ctx, append([]string{"lint", "--strict", "--quiet", chart, "--namespace", r.Namespace}, r.flags()...))
	return err
}

// Notes returns what `helm install` prints for the user, without installing anything.
func (t Tools) Notes(ctx context.Context, r Release) (string, error) {
	chart, err := chartDir()
	if err != nil {
		return "", err
	}
	out, err := t.runHelm(ctx, append([]string{"install", r.Name, chart, "--namespace", r.Namespace, "--dry-run=client"}, r.flags()...))
	_, notes, found := bytes.Cut(out, []byte("\nNOTES:\n"))
	if err == nil && !found {
		err = errors.New("helm install prints no notes")
	}
	return string(notes), err
}

// Kustomize builds a folder of this repository, such as "config/default".
func (t Tools) Kustomize(ctx context.Context, dir string) ([]byte, error) {
	root, err := assets.ModuleRoot()
	if err != nil {
		return nil, err
	}
	return run(exec.CommandContext(ctx, t.kustomize, "build", filepath.Join(root, filepath.FromSlash(dir))))
}

// Decode decodes a YAML stream into Kubernetes' types, strictly: an unknown or repeated field is an error.
func Decode(stream []byte) ([]runtime.Object, error) {
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(stream)))
	var objects []runtime.Object
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if empty(doc) {
			continue
		}
		object, _, err := codecs.UniversalDeserializer().Decode(doc, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decode: %w\n%s", err, doc)
		}
		objects = append(objects, object)
	}
}

// empty reports whether a document holds nothing but comments and separators.
func empty(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

func (r Release) flags() []string {
	var flags []string
	for _, file := range r.Values {
		flags = append(flags, "--values", file)
	}
	for _, set := range r.Set {
		flags = append(flags, "--set", set)
	}
	if r.KubeVersion != "" {
		flags = append(flags, "--kube-version", r.KubeVersion)
	}
	return flags
}

func chartDir() (string, error) {
	root, err := assets.ModuleRoot()
	return filepath.Join(root, "chart"), err
}

// runHelm keeps Helm away from the user's clusters, plugins and repositories.
func (t Tools) runHelm(ctx context.Context, args []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, t.helm, args...)
	home := filepath.Join(filepath.Dir(t.helm), "helm-home")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+os.DevNull, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	return run(cmd)
}

func run(cmd *exec.Cmd) ([]byte, error) {
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(cmd.Path), cmd.Args[1], err, out.Bytes(), problems.Bytes())
	}
	return out.Bytes(), nil
}
