package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/migrate"
)

// migrateOptions are the options of `podlane migrate`.
type migrateOptions struct {
	source  *config.Source
	ingress *config.Ingress
	output  *config.Output
	failOn  string
}

// errFound ends a command whose report holds what it was asked to fail on. The report says all there is to say.
var errFound = errors.New("")

func newMigrate(p *process) *cobra.Command {
	o := &migrateOptions{source: config.NewSource(), ingress: config.MigrateIngress(), output: config.NewOutput(), failOn: "refused"}
	cmd := &cobra.Command{
		Use:   "migrate [--from DIR] [flags]",
		Short: "Tell what of an ingress-nginx installation works the same, differs, or is refused",
		Long: "Tell what of an ingress-nginx installation works the same, differs, or is refused: for each Ingress, each annotation and\n" +
			"each key of the ConfigMap. Nothing is written anywhere. It asks the same code as the controller, so its word is the\n" +
			"controller's.\n\n" +
			"Exit code: 0 when nothing is refused, 2 when something is (see --fail-on), 1 when the objects cannot be read.",
		Example: "  podlane migrate --configmap ingress-nginx/ingress-nginx-controller\n" +
			"  podlane migrate --from manifests -o json\n" +
			"  podlane migrate --from manifests --fail-on differs",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runMigrate(cmd.Context(), p.stdout, o) },
	}
	cmd.Flags().StringVar(&o.failOn, "fail-on", o.failOn, "what makes the exit code 2: refused, differs or never")
	bind(cmd, o.source, o.ingress, o.output)
	return cmd
}

func runMigrate(ctx context.Context, w io.Writer, o *migrateOptions) error {
	limits := map[string]migrate.Verdict{"refused": migrate.Refused, "differs": migrate.Differs, "never": migrate.Refused + 1}
	limit, ok := limits[o.failOn]
	if !ok {
		return fmt.Errorf("--fail-on: %q is not known: write refused, differs or never", o.failOn)
	}
	if o.source.From != "" && o.ingress.Class == config.MigrateIngress().Class {
		o.ingress.TakeEvery()
	}
	found, err := readSource(ctx, o.source, o.ingress.Options())
	if err != nil {
		return err
	}
	families := o.ingress.Families()
	_, problems := ingress.Build(found.snapshot, families)
	for i := range problems {
		problems[i] = found.locate(problems[i])
	}
	r := migrate.New(found.snapshot, families, problems, migrate.Options{Partial: o.source.From != ""})
	if o.output.Form == config.OutputJSON {
		err = writeJSON(w, r)
	} else {
		err = writeMigration(w, r, found.problems)
	}
	if err == nil && r.Worst() >= limit {
		return errFound
	}
	return err
}

// writeJSON writes v, indented.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeMigration writes the report for a person.
func writeMigration(w io.Writer, r *migrate.Report, unread []ingress.Problem) error {
	for _, p := range unread {
		fmt.Fprintln(w, "!", p)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VERDICT\tOBJECT\tKEYS\tNOTES")
	for _, i := range r.Items {
		fmt.Fprintf(table, "%s\t%s %s/%s\t%d\t%d\n", i.Verdict, i.Kind, i.Namespace, i.Name, i.Keys, len(i.Notes))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, i := range r.Items {
		if len(i.Notes) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s %s/%s\n", i.Kind, i.Namespace, i.Name)
		for _, n := range i.Notes {
			writeNote(w, n)
		}
	}
	fmt.Fprintf(w, "\nobjects: %d the same, %d differ, %d refused\nannotations and settings: %d the same, %d differ, %d refused\n",
		r.Objects.Same, r.Objects.Differs, r.Objects.Refused, r.Keys.Same, r.Keys.Differs, r.Keys.Refused)
	return nil
}

func writeNote(w io.Writer, n migrate.Note) {
	at := n.Field
	if n.Source != "" {
		at = n.Source + ": " + at
	}
	fmt.Fprintf(w, "  %-8s%s\n          %s\n", n.Verdict, at, n.Text)
	writeInstead(w, "          ", n.Instead, n.Left)
}

// writeInstead writes what to write in the place of a snippet, and what there is nothing for.
func writeInstead(w io.Writer, indent string, instead map[string]string, left []string) {
	for _, key := range slices.Sorted(maps.Keys(instead)) {
		fmt.Fprintf(w, "%sinstead: %s/%s: %s\n", indent, config.AnnotationPrefix, key, yamlText(instead[key]))
	}
	for _, line := range left {
		fmt.Fprintf(w, "%snothing instead of %s\n", indent, line)
	}
}

// yamlText returns text as YAML has it in one place: quoted where that is short, else as a block.
func yamlText(text string) string {
	if !strings.Contains(text, "\n") {
		return fmt.Sprintf("%q", text)
	}
	return "|\n            " + strings.ReplaceAll(text, "\n", "\n            ")
}
