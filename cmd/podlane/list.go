package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"podlane.dev/podlane/cmd/podlane/replicas"
	"podlane.dev/podlane/config"
)

// listOptions are the options of the commands that print what is live.
type listOptions struct {
	source   *config.Source
	ingress  *config.Ingress
	replicas *config.Replicas
	scope    *config.Scope
	output   *config.Output
	every    bool
	// host and name restrict the list further; kind says what name is the name of.
	host, name string
	listing    *listing
}

// Title implements config.Group.
func (*listOptions) Title() string { return "List" }

// AddFlags implements config.Group.
func (o *listOptions) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.every, "all-replicas", o.every, "ask every ready replica, and tell where they disagree")
	if o.listing.hosts {
		fs.StringVar(&o.host, "host", o.host, "only what is about this `host`, as rules write it")
	}
	fs.StringVar(&o.name, o.listing.named, o.name, "only what is about the "+o.listing.named+" of this `name`")
}

// Validate implements config.Group.
func (o *listOptions) Validate() error {
	if o.source.From != "" && (o.every || len(o.replicas.Admin) > 0) {
		return errors.New("--from: it reads a folder: leave out --admin and --all-replicas, which are about running replicas")
	}
	return nil
}

// row is one line of a list.
type row struct {
	// namespace, hosts and name are what filters look at.
	namespace, name string
	hosts           []string
	cells           []string
	// same is what replicas must agree on: the cells, unless some of them are each replica's own.
	same  string
	value any
}

// listing is one command that prints what is live.
type listing struct {
	use, what, example string
	// columns is the head of the table.
	columns string
	// named is what --ingress or --service is about; hosts says that there is --host.
	named string
	hosts bool
	// live reads a page of a replica, folder what a folder says.
	live   func(context.Context, *asker, *replicas.Replica) ([]row, error)
	folder func(*contents, *config.Ingress) ([]row, error)
}

func newList(p *process, l *listing) *cobra.Command {
	o := &listOptions{
		source: config.NewSource(), ingress: config.ServeIngress(), replicas: config.NewReplicas(), scope: config.NewScope(), output: config.TableOutput(), listing: l,
	}
	cmd := &cobra.Command{
		Use:   l.use,
		Short: "Print the " + l.what,
		Long: "Print the " + l.what + ": of a ready replica in the cluster, of the one at --admin, or of what a folder of manifests would make.\n" +
			"Without -n and -A it is what belongs to the namespace of the kubeconfig's context; with --admin or --from everything.\n\n" +
			"Exit code: 0, or 2 when --all-replicas finds replicas that disagree, 1 when nothing can be read.",
		Example: l.example,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, release := p.watchSignals(cmd.Context(), func() {})
			defer release()
			return runList(s.term, p.stdout, o)
		},
	}
	bind(cmd, o, o.scope, o.source, o.ingress, o.replicas, o.output)
	completeFlags(cmd, o.source, o.scope)
	return cmd
}

// found is what was read, by who said it.
type found struct {
	from []string
	rows [][]row
}

func runList(ctx context.Context, w io.Writer, o *listOptions) error {
	all, err := readList(ctx, o)
	if err != nil {
		return err
	}
	namespace, err := o.namespace()
	if err != nil {
		return err
	}
	for i := range all.rows {
		all.rows[i] = slices.DeleteFunc(all.rows[i], func(r row) bool { return !o.wants(&r, namespace) })
	}
	return writeList(w, o, all)
}

// namespace returns the one that is asked for, "" for all.
func (o *listOptions) namespace() (string, error) {
	switch {
	case o.scope.All:
		return "", nil
	case o.scope.Namespace != "" || o.source.From != "" || len(o.replicas.Admin) > 0:
		return o.scope.Namespace, nil
	}
	at, err := findContext(o.source.Kubeconfig, o.source.Context)
	return at.namespace, err
}

func (o *listOptions) wants(r *row, namespace string) bool {
	return (namespace == "" || r.namespace == namespace) && (o.name == "" || r.name == o.name) &&
		(o.host == "" || slices.Contains(r.hosts, o.host))
}

// readList reads the list: once, or of each replica.
func readList(ctx context.Context, o *listOptions) (all found, err error) {
	if o.source.From != "" {
		c, err := readSource(ctx, o.source, o.ingress.Options())
		if err != nil {
			return found{}, err
		}
		rows, err := o.listing.folder(&c, o.ingress)
		return found{[]string{o.source.From}, [][]row{rows}}, err
	}
	finder, err := newFinder(o.source, o.replicas)
	if err != nil {
		return found{}, err
	}
	defer func() { err = errors.Join(err, finder.Close()) }()
	ask := newAsker()
	if !o.every {
		r, err := finder.Any(ctx)
		if err != nil {
			return found{}, err
		}
		rows, err := o.listing.live(ctx, ask, &r)
		return found{[]string{r.String()}, [][]row{rows}}, err
	}
	list, err := finder.All(ctx)
	if err != nil {
		return found{}, err
	}
	for i := range list {
		r := &list[i]
		if !r.Ready {
			continue
		}
		if r.Err != nil {
			return found{}, r.Err
		}
		rows, err := o.listing.live(ctx, ask, r)
		if err != nil {
			return found{}, err
		}
		all.from, all.rows = append(all.from, r.String()), append(all.rows, rows)
	}
	if len(all.from) == 0 {
		return found{}, fmt.Errorf("none of %s is ready", count(len(list), "replica"))
	}
	return all, nil
}

// sharedRow is a row with the replicas that have it.
type sharedRow struct {
	row
	on []string
}

// share joins the rows of all replicas, in the order of the first that has them.
func (f *found) share() (rows []sharedRow, disputed int) {
	index := map[string]int{}
	for i, list := range f.rows {
		for _, r := range list {
			at, known := index[r.same]
			if !known {
				at = len(rows)
				index[r.same] = at
				rows = append(rows, sharedRow{row: r})
			}
			if on := rows[at].on; len(on) == 0 || on[len(on)-1] != f.from[i] {
				rows[at].on = append(on, f.from[i])
			}
		}
	}
	for i := range rows {
		if len(rows[i].on) < len(f.from) {
			disputed++
		}
	}
	return rows, disputed
}

// writeList writes the rows; with --all-replicas also who has them, and ends with errFound where not all have the same.
func writeList(w io.Writer, o *listOptions, all found) error {
	rows, disputed := all.share()
	if o.output.Form == config.OutputJSON {
		if err := writeJSON(w, jsonOf(rows, o.every)); err != nil {
			return err
		}
	} else if err := writeRows(w, o, rows, len(all.from)); err != nil {
		return err
	}
	if !o.every {
		return nil
	}
	if o.output.Form != config.OutputJSON {
		fmt.Fprintf(w, "%s asked: %s\n", count(len(all.from), "replica"), strings.Join(all.from, ", "))
	}
	if disputed == 0 {
		return nil
	}
	if o.output.Form != config.OutputJSON {
		fmt.Fprintf(w, "! they disagree on %s: a change is on its way, or a replica has lost the API server (podlane wait, /debug/applied)\n", count(disputed, "line"))
	}
	return errFound
}

// jsonOf returns the values, and with replicas who has them.
func jsonOf(rows []sharedRow, replicas bool) any { //nolint:revive // flag-parameter: the form of the output, as the user asked for it
	list := make([]any, 0, len(rows))
	for i := range rows {
		if !replicas {
			list = append(list, rows[i].value)
			continue
		}
		list = append(list, struct {
			Replicas []string `json:"replicas"`
			Value    any      `json:"value"`
		}{rows[i].on, rows[i].value})
	}
	return list
}

func writeRows(w io.Writer, o *listOptions, rows []sharedRow, asked int) error {
	if len(rows) == 0 {
		hint := "nothing"
		if !o.scope.All {
			hint = "nothing here; -A shows all namespaces"
		}
		_, err := fmt.Fprintln(w, hint)
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	columns := o.listing.columns
	if o.every {
		columns += "\tREPLICAS"
	}
	fmt.Fprintln(table, columns)
	for i := range rows {
		r := &rows[i]
		cells := r.cells
		if o.every {
			cells = append(slices.Clone(cells), onText(r.on, asked))
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// onText names the replicas that have a row.
func onText(on []string, asked int) string {
	if len(on) == asked {
		return "all"
	}
	return "only " + strings.Join(on, ", ")
}
