package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"podlane.dev/podlane/config"
)

// version and commit are set by the linker in releases: -X main.version=v1.2.3 -X main.commit=0123abc. Else the module's
// build information says them.
var version, commit string

func newVersion() *cobra.Command {
	output := config.NewOutput()
	cmd := &cobra.Command{
		Use:     "version [flags]",
		Short:   "Print the version, the commit and the Go version",
		Long:    "Print the version, the commit, the Go version and the platform of this program.",
		Example: "  podlane version\n  podlane version -o json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if output.Form == config.OutputJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]string{"version": b.version, "commit": b.commit, "goVersion": b.goVersion, "platform": b.platform})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), b)
			return err
		},
	}
	bind(cmd, output)
	return cmd
}

// thisBuild describes this program.
func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return buildOf(info)
}

// build says what this program was made of.
type build struct{ version, commit, goVersion, platform string }

// String returns one line.
func (b build) String() string {
	return fmt.Sprintf("podlane %s (commit %s, %s, %s)", b.version, b.commit, b.goVersion, b.platform)
}

// buildOf takes what the linker said, then what the Go command recorded.
func buildOf(info *debug.BuildInfo) build {
	b := build{version: version, commit: commit, goVersion: runtime.Version(), platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info.Main.Version != "(devel)" {
		b.version = cmp.Or(b.version, info.Main.Version)
	}
	var revision, modified string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	if revision != "" {
		b.commit = cmp.Or(b.commit, revision+modified)
	}
	b.version, b.commit = cmp.Or(b.version, "devel"), cmp.Or(b.commit, "unknown")
	return b
}
