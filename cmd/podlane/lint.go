package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/migrate"
)

// lintOptions are the options of `podlane lint`.
type lintOptions struct {
	source  *config.Source
	ingress *config.Ingress
	output  *config.Output
}

func newLint(p *process) *cobra.Command {
	o := &lintOptions{source: config.NewSource(), ingress: config.ServeIngress(), output: config.NewOutput()}
	cmd := &cobra.Command{
		Use:   "lint --from DIR [flags]",
		Short: "Tell the mistakes in manifests, with file and line",
		Long: "Tell the mistakes in manifests, with file and line, before they are applied: what the controller would raise as Problems.\n" +
			"Services, Secrets and ConfigMaps that are not in the folder are taken to be in the cluster.\n\n" +
			"Exit code: 0 when there is no mistake, 2 when there is one, 1 when the objects cannot be read.",
		Example: "  podlane lint --from manifests\n" +
			"  podlane lint --from manifests --compat ingress-nginx -o json",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.source.From == "" {
				return errors.New("--from is missing: write --from DIR, a folder with manifests; podlane migrate reads a cluster")
			}
			return runLint(cmd.Context(), p.stdout, o)
		},
	}
	bind(cmd, o.source, o.ingress, o.output)
	return cmd
}

// mistake is a Problem as lint prints it.
type mistake struct {
	Severity string `json:"severity"`
	Source   string `json:"source,omitempty"`
	Object   string `json:"object"`
	Field    string `json:"field,omitempty"`
	Reason   string `json:"reason"`
	Message  string `json:"message"`
	// Instead are annotations that do what a refused snippet does, Left its directives for which there is none.
	Instead map[string]string `json:"instead,omitempty"`
	Left    []string          `json:"left,omitempty"`
}

func runLint(ctx context.Context, w io.Writer, o *lintOptions) error {
	found, err := readSource(ctx, o.source, o.ingress.Options())
	if err != nil {
		return err
	}
	_, problems := ingress.Build(found.snapshot, o.ingress.Families())
	all := slices.Clone(found.problems)
	for _, p := range problems {
		if !migrate.Missing(p.Reason) {
			all = append(all, found.locate(p))
		}
	}
	list := make([]mistake, 0, len(all))
	bad := 0
	for _, p := range all {
		m := mistake{Severity: "error", Source: p.Source, Object: p.Object.String(), Field: p.Field, Reason: string(p.Reason), Message: p.Message}
		m.Instead, m.Left = migrate.Instead(found.snapshot, p)
		if p.Effect == ingress.Notice {
			m.Severity = "notice"
		} else {
			bad++
		}
		list = append(list, m)
	}
	if o.output.Form == config.OutputJSON {
		err = writeJSON(w, list)
	} else {
		err = writeMistakes(w, list, bad)
	}
	if err == nil && bad > 0 {
		return errFound
	}
	return err
}

// writeMistakes writes a line for each mistake, as compilers do, and a last line that counts them.
func writeMistakes(w io.Writer, list []mistake, bad int) error {
	for _, m := range list {
		about := m.Object
		if m.Field != "" {
			about += " " + m.Field
		}
		if m.Source != "" {
			about = m.Source + ": " + about
		}
		if _, err := fmt.Fprintf(w, "%s: %s: %s (%s)\n", about, m.Severity, m.Message, m.Reason); err != nil {
			return err
		}
		writeInstead(w, "  ", m.Instead, m.Left)
	}
	_, err := fmt.Fprintf(w, "%s, %s\n", count(bad, "mistake"), count(len(list)-bad, "notice"))
	return err
}
