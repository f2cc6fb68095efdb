package arch

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPage holds the table of layers to the table of folders in ARCHITECTURE.md: the same folders are in both.
func TestPage(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(content), "\n| folder |")
	table, _, _ = strings.Cut(table, "\n\n")
	if !found {
		t.Fatal("ARCHITECTURE.md has no table of folders")
	}
	name := regexp.MustCompile("`([a-z0-9/]+)`")
	var page []string
	for row := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, m := range name.FindAllStringSubmatch(first, -1) {
			page = append(page, m[1])
		}
	}
	for _, folder := range page {
		if _, ok := layerOf(folder); !ok && folder != "chart" && folder != "test" {
			t.Errorf("ARCHITECTURE.md lists %s, imports_test.go has no row for it", folder)
		}
	}
	for _, l := range layers {
		// A folder below one that is listed is part of it.
		if !slices.Contains(page, l.folder) && !slices.Contains(page, path.Dir(l.folder)) {
			t.Errorf("imports_test.go has a row for %s, ARCHITECTURE.md does not list it", l.folder)
		}
	}
}
