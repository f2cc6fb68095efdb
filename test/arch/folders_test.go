package arch

import (
	"go/token"
	"path"
	"slices"
	"strings"
)

var folderRules = []rule{
	{"top-level", "the top level is the architecture's table of contents; its owner fixed it", checkTopLevel},
}

// topFolders are the folders that ARCHITECTURE.md lists, and two that .gitignore keeps out of the repository.
var topFolders = []string{"bin", "chart", "cmd", "config", "controllers", "dist", "proxy", "router", "test", "tls"}

// topFiles are the files that are neither documents nor hidden.
var topFiles = []string{"Dockerfile", "LICENSE", "Makefile", "PROJECT", "go.mod", "go.sum"}

func checkTopLevel(t *tree, found reporter) {
	for _, name := range t.folders {
		if !slices.Contains(topFolders, name) && name[0] != '.' {
			found(name, token.NoPos, "the folder %s is none of ARCHITECTURE.md", name)
		}
	}
	for _, name := range t.others {
		document := path.Ext(name) == ".md" && name == strings.ToUpper(strings.TrimSuffix(name, ".md"))+".md"
		built := slices.Contains([]string{".test", ".out", ".prof"}, path.Ext(name)) // kept out by .gitignore
		if !slices.Contains(topFiles, name) && name[0] != '.' && !document && !built {
			found(name, token.NoPos, "the file %s does not belong at the top level", name)
		}
	}
}
