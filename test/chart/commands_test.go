package chart_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/test/chart/render"
)

// documents are those that say how to install the chart.
var documents = []string{"chart/README.md", "README.md", "MOVING.md"}

// mention is how a document names an object of the release in a kubectl command.
var mention = regexp.MustCompile(`\b(?:svc|service|deployment|deploy)[ /](podlane[a-z0-9-]*)`)

// TestDocumentedCommands follows what the documents tell users to type: the chart takes the values of each helm command, and
// the objects that the kubectl commands name are there.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	for _, document := range documents {
		content, err := os.ReadFile(path(t, document))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(content), "\\\n", " ")
		var names []string
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "helm ") {
				names = append(names, checkCommand(t, document, strings.Fields(line))...)
			}
		}
		if len(names) == 0 {
			t.Errorf("%s does not say how to install the chart", document)
		}
		for _, m := range mention.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(names, m[1]) {
				t.Errorf("%s says %q, but the chart makes only %v", document, m[0], names)
			}
		}
	}
}

// checkCommand renders a helm command and returns the names of the objects.
func checkCommand(t *testing.T, document string, words []string) []string {
	t.Helper()
	r := render.Release{Namespace: "default"}
	var operands []string
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "--set":
			i++
			r.Set = append(r.Set, words[i])
		case "--namespace", "-n":
			i++
			r.Namespace = words[i]
		case "-f":
			i++ // a file that the user makes
		case "upgrade", "install", "--install", "--create-namespace", "--reuse-values", "--wait":
		default:
			operands = append(operands, words[i])
		}
	}
	if len(operands) != 2 || operands[1] != "./chart" {
		t.Fatalf("%s: cannot follow %q", document, words)
	}
	r.Name = operands[0]
	all := template(t, r)
	// Whoever names an image of a registry of theirs must get that one.
	image := podOf(t, all).Containers[0].Image
	for _, set := range r.Set {
		if _, value, _ := strings.Cut(set, "="); strings.Contains(set, "image") && strings.Contains(value, "/") && !strings.HasPrefix(image, value) {
			t.Errorf("%s: --set %s gives the image %s", document, set, image)
		}
	}
	var names []string
	for _, o := range all {
		names = append(names, accessor(t, o).GetName())
	}
	return names
}
