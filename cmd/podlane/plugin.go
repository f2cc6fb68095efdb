package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// The names under which kubectl finds the binary: as `kubectl podlane`, and to complete its command line.
const (
	pluginName    = "kubectl-podlane"
	completerName = "kubectl_complete-podlane"
)

// calledAs returns the name that this process was started by.
func calledAs(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return strings.TrimSuffix(filepath.Base(args[0]), ".exe")
}

// asPlugin makes the texts of root and its commands those of a plugin of kubectl's: what they say can be typed.
func asPlugin(root *cobra.Command) {
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl podlane"}
	for _, cmd := range root.Commands() {
		typed := "podlane " + cmd.Name()
		cmd.Example = strings.ReplaceAll(cmd.Example, typed, "kubectl "+typed)
	}
}
