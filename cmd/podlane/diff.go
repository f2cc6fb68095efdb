package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// diffOptions are the options of `podlane diff`.
type diffOptions struct {
	source  *config.Source
	ingress *config.Ingress
	scope   *config.Scope
	output  *config.Output
	files   []string
}

// Title implements config.Group.
func (*diffOptions) Title() string { return "Diff" }

// AddFlags implements config.Group.
func (o *diffOptions) AddFlags(fs *pflag.FlagSet) {
	fs.StringSliceVarP(&o.files, "filename", "f", nil, "`files` with the objects that would be applied; - is the standard input")
}

// Validate implements config.Group.
func (o *diffOptions) Validate() error {
	if len(o.files) == 0 {
		return errors.New("--filename is missing: write -f FILE, what would be applied")
	}
	return nil
}

func newDiff(p *process) *cobra.Command {
	o := &diffOptions{source: config.NewSource(), ingress: config.ControllerIngress(), scope: config.SingleScope(), output: config.TableOutput()}
	cmd := &cobra.Command{
		Use:   "diff -f FILE [--from DIR]",
		Short: "Tell what would change if manifests were applied",
		Long: "Tell what would change if manifests were applied to the cluster, or to a folder of manifests: routes, certificates, and mistakes. Nothing is\n" +
			"written. The cluster is read with your own rights, and the table is built by the controller's own code, so give the flags that it\n" +
			"has (--configmap, --ingress-class, …).\n\n" +
			"Exit code: 0 when nothing would change, 1 when something would, 2 when it cannot be told.",
		Example: "  podlane diff -f shop.yaml -n web\n" +
			"  podlane diff -f shop.yaml --from manifests\n" +
			"  helm template shop | podlane diff -f - -o json",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, release := p.watchSignals(cmd.Context(), func() {})
			defer release()
			return runDiff(s.term, p.stdout, o)
		},
	}
	bind(cmd, o, o.scope, o.source, o.ingress, o.output)
	completeFlags(cmd, o.source, o.scope)
	return cmd
}

func runDiff(ctx context.Context, w io.Writer, o *diffOptions) error {
	if o.source.From != "" && o.ingress.Class == config.ControllerIngress().Class {
		o.ingress.TakeEvery()
	}
	before, after, err := o.snapshots(ctx)
	if err != nil {
		return err
	}
	d := compare(before, after, o.ingress)
	if o.output.Form == config.OutputJSON {
		err = writeJSON(w, d)
	} else {
		err = d.write(paint(w))
	}
	if err == nil && !d.empty() {
		return errFound
	}
	return err
}

// snapshots returns what is, and what would be.
func (o *diffOptions) snapshots(ctx context.Context) (before, after ingress.Snapshot, err error) {
	if o.source.From != "" {
		c, err := readSource(ctx, o.source, o.ingress.Options())
		if err != nil {
			return before, after, err
		}
		set, err := readNew(o.files, o.scope.Namespace, os.Stdin)
		if err != nil {
			return before, after, err
		}
		return c.snapshot, overlay(c.snapshot, set.Snapshot, metav1.Now()), nil
	}
	at, err := findContext(o.source.Kubeconfig, o.source.Context)
	if err != nil {
		return before, after, err
	}
	namespace := at.namespace
	if o.scope.Namespace != "" {
		namespace = o.scope.Namespace
	}
	set, err := readNew(o.files, namespace, os.Stdin)
	if err != nil {
		return before, after, err
	}
	r, err := newClusterReader(o.source, o.ingress.Options())
	if err != nil {
		return before, after, err
	}
	if err := r.read(ctx); err != nil {
		return before, after, fmt.Errorf("cluster: %w", err)
	}
	before = r.out
	// What the new objects name may be in the cluster, and unused so far.
	r.out = overlay(before, set.Snapshot, metav1.Now())
	if err := r.readNamed(ctx); err != nil {
		return before, after, fmt.Errorf("cluster: %w", err)
	}
	return before, r.out, nil
}

// difference is what would change. Its JSON is an interface: fields may be added, not renamed.
type difference struct {
	Added   []routeJSON   `json:"added"`
	Removed []routeJSON   `json:"removed"`
	Changed []changedJSON `json:"changed"`
	Other   []string      `json:"other"`
	New     []problemJSON `json:"newProblems"`
	Gone    []problemJSON `json:"goneProblems"`
	lines   []string      // of routes, for people
}

// changedJSON is a route that stays, but not as it is. Was and Now are the parts that differ.
type changedJSON struct {
	Before routeJSON `json:"before"`
	After  routeJSON `json:"after"`
	Was    []string  `json:"was"`
	Now    []string  `json:"now"`
}

func (d *difference) empty() bool {
	return len(d.Added)+len(d.Removed)+len(d.Changed)+len(d.Other)+len(d.New)+len(d.Gone) == 0
}

// compare builds both and compares what came of it.
func compare(before, after ingress.Snapshot, o *config.Ingress) *difference {
	families := o.Families()
	tableBefore, problemsBefore := ingress.Build(before, families)
	tableAfter, problemsAfter := ingress.Build(after, families)
	d := &difference{Added: []routeJSON{}, Removed: []routeJSON{}, Changed: []changedJSON{}, Other: []string{}}
	d.routes(tableBefore, tableAfter)
	d.Other = append(d.Other, newScene(tableAfter, nil).certificateChanges(newScene(tableBefore, nil))...)
	d.Other = append(d.Other, settingChanges(tableBefore, tableAfter)...)
	d.Other = append(d.Other, contentChanges(before, after)...)
	d.New = without(describeProblems(problemsAfter), describeProblems(problemsBefore))
	d.Gone = without(describeProblems(problemsBefore), describeProblems(problemsAfter))
	return d
}

// routes compares the routes, in the order of the tables.
func (d *difference) routes(before, after *router.Table) {
	old := map[routeKey]*router.Route{}
	for _, r := range routes(before) {
		old[keyOf(r)] = r
	}
	kept := map[routeKey]bool{}
	for _, r := range routes(after) {
		was, known := old[keyOf(r)]
		kept[keyOf(r)] = true
		switch {
		case !known:
			d.Added = append(d.Added, describeRoute(r))
			d.lines = append(d.lines, "+ "+urlOf(r)+"  "+r.String())
		case urlOf(was) != urlOf(r) || was.String() != r.String():
			c := changedJSON{Before: describeRoute(was), After: describeRoute(r)}
			c.Was, c.Now = clauses(was), clauses(r)
			c.Was, c.Now = missingIn(c.Was, c.Now), missingIn(c.Now, c.Was)
			d.Changed = append(d.Changed, c)
			d.lines = append(d.lines, "~ "+urlOf(r))
			for _, line := range c.Was {
				d.lines = append(d.lines, "  - "+line)
			}
			for _, line := range c.Now {
				d.lines = append(d.lines, "  + "+line)
			}
		}
	}
	for _, r := range routes(before) {
		if !kept[keyOf(r)] {
			d.Removed = append(d.Removed, describeRoute(r))
			d.lines = append(d.lines, "- "+urlOf(r)+"  "+r.String())
		}
	}
}

// clauses are the parts of a route's text: where requests go, whose it is, and each policy.
func clauses(r *router.Route) []string {
	scheme, _, _ := strings.Cut(urlOf(r), "://")
	return append(strings.Split(r.String(), "; "), "by "+scheme)
}

// missingIn returns what of list is not in other.
func missingIn(list, other []string) []string {
	missing := []string{}
	for _, s := range list {
		if !slices.Contains(other, s) {
			missing = append(missing, s)
		}
	}
	return missing
}

// settingChanges compares what holds for the whole proxy.
func settingChanges(before, after *router.Table) []string {
	var was, now, lines []string
	for _, v := range before.Globals() {
		was = append(was, v.String())
	}
	for _, v := range after.Globals() {
		now = append(now, v.String())
	}
	for _, v := range missingIn(was, now) {
		lines = append(lines, "- setting "+v)
	}
	for _, v := range missingIn(now, was) {
		lines = append(lines, "+ setting "+v)
	}
	return lines
}

// contentChanges tells of Secrets that are named and would have another content: what policies make of that is not in their texts.
func contentChanges(before, after ingress.Snapshot) []string {
	old := map[string]map[string][]byte{}
	for _, s := range before.Secrets {
		old[s.Namespace+"/"+s.Name] = s.Data
	}
	named := map[string]bool{}
	for _, name := range ingress.SecretRefs(after) {
		named[name.String()] = true
	}
	var lines []string
	for _, s := range after.Secrets {
		name := s.Namespace + "/" + s.Name
		was, known := old[name]
		if known && named[name] && !sameData(was, s.Data) {
			lines = append(lines, "~ Secret "+name+": another content")
		}
	}
	slices.Sort(lines)
	return lines
}

func sameData(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		if other, ok := b[key]; !ok || string(other) != string(value) {
			return false
		}
	}
	return true
}

// without returns the Problems of list that other lacks, wherever the objects come from.
func without(list, other []problemJSON) []problemJSON {
	bare := func(p problemJSON) problemJSON {
		p.UID, p.Source = "", ""
		return p
	}
	have := map[problemJSON]bool{}
	for _, p := range other {
		have[bare(p)] = true
	}
	left := []problemJSON{}
	for _, p := range list {
		if !have[bare(p)] {
			left = append(left, p)
		}
	}
	return left
}

// write writes the difference for a person, each line by put.
func (d *difference) write(put func(line string) error) error {
	lines := slices.Concat(d.lines, d.Other)
	for _, p := range d.New {
		lines = append(lines, "! "+problemLine(&p))
	}
	for _, p := range d.Gone {
		lines = append(lines, "✓ solved: "+problemLine(&p))
	}
	lines = append(lines, fmt.Sprintf("%s added, %d removed, %d changed; %s new, %d solved",
		count(len(d.Added), "route"), len(d.Removed), len(d.Changed), count(len(d.New), "problem"), len(d.Gone)))
	for _, line := range lines {
		if err := put(line); err != nil {
			return err
		}
	}
	return nil
}

func problemLine(p *problemJSON) string {
	return fmt.Sprintf("%s %s/%s %s: %s (%s, %s)", p.Kind, p.Namespace, p.Name, p.Field, p.Message, p.Reason, p.Effect)
}

// paint returns what writes a line to w: in colour where that is a terminal, and NO_COLOR is not set.
func paint(w io.Writer) func(string) error {
	colours := map[string]string{"+": "32", "-": "31", "~": "33", "!": "31", "✓": "32"}
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" {
		colours = nil
	}
	return func(line string) error {
		sign, _, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		if colour := colours[sign]; colour != "" {
			line = "\x1b[" + colour + "m" + line + "\x1b[0m"
		}
		_, err := fmt.Fprintln(w, line)
		return err
	}
}

// isTerminal says whether a person reads w as it is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
