package arch

import (
	"os"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/config"
)

// TestTheWholeSurfaceIsKnown: every annotation and ConfigMap key of ingress-nginx's belongs to a family, if only to the one that says why it has no
// effect. Nothing that moves here is met with "Podlane does not know".
func TestTheWholeSurfaceIsKnown(t *testing.T) {
	t.Parallel()
	settings, annotations := map[string]bool{}, map[string]bool{}
	for _, f := range config.Policies() {
		for _, k := range f.FamilyKeys() {
			if k.InConfigMap() {
				settings[k.SettingName()] = true
			}
			if k.InAnnotations() {
				annotations[k.Name] = true
				if k.Alias != "" {
					annotations[k.Alias] = true
				}
			}
		}
	}
	for _, surface := range []struct {
		file  string
		size  int
		known map[string]bool
	}{
		{"testdata/ingress-nginx-settings.txt", 192, settings},
		{"testdata/ingress-nginx-annotations.txt", 138, annotations},
	} {
		names := namesIn(t, surface.file)
		if len(names) != surface.size || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Errorf("%s: %d names, want %d, sorted and each once", surface.file, len(names), surface.size)
		}
		for _, name := range names {
			if !surface.known[name] {
				t.Errorf("%s: no family knows %s", surface.file, name)
			}
		}
	}
}

// namesIn returns the lines of a file without its comments.
func namesIn(t *testing.T, file string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			names = append(names, line)
		}
	}
	return names
}
