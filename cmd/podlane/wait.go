package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"podlane.dev/podlane/cmd/podlane/replicas"
	"podlane.dev/podlane/config"
)

// The values of --for.
const (
	forApplied = "applied"
	forDeleted = "deleted"
)

// waitOptions are the options of `podlane wait`.
type waitOptions struct {
	source   *config.Source
	replicas *config.Replicas
	scope    *config.Scope
	output   *config.Output
	until    string
	files    []string
	timeout  time.Duration
}

// Title implements config.Group.
func (*waitOptions) Title() string { return "Wait" }

// AddFlags implements config.Group.
func (o *waitOptions) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.until, "for", o.until, "what to wait for: applied, or deleted: no replica serves it any more")
	fs.StringSliceVarP(&o.files, "filename", "f", nil, "`files` whose objects to wait for; - is the standard input")
	fs.DurationVar(&o.timeout, "timeout", o.timeout, "how long to wait; 0 looks once")
}

// Validate implements config.Group.
func (o *waitOptions) Validate() error {
	if o.until != forApplied && o.until != forDeleted {
		return fmt.Errorf("--for: %q is not known: write %s or %s", o.until, forApplied, forDeleted)
	}
	if o.timeout < 0 {
		return fmt.Errorf("--timeout: %s is negative: write 60s", o.timeout)
	}
	return nil
}

func newWait(p *process) *cobra.Command {
	o := &waitOptions{
		source: config.ClusterSource(), replicas: config.NewReplicas(), scope: config.SingleScope(), output: config.TableOutput(),
		until: forApplied, timeout: time.Minute,
	}
	cmd := &cobra.Command{
		Use:   "wait [--for=applied|deleted] (TYPE/NAME… | -f FILE)",
		Short: "Wait until every ready replica serves the present version of an object",
		Long: "Wait until every ready replica serves an Ingress, Service, Secret or ConfigMap in the version that the API server has now, or in a\n" +
			"newer one, so that every request from then on is answered by it. With an Ingress come the Services, endpoints, Secrets and\n" +
			"ConfigMaps that it names, as far as you may read them. An object that is not Podlane's, or is refused, is an error at once.\n\n" +
			"Exit code: 0 when it is so, 1 when it is not, or cannot be.",
		Example: "  podlane wait --for=applied ingress/shop -n web --timeout 30s\n" +
			"  kubectl apply -f shop.yaml && podlane wait -f shop.yaml\n" +
			"  podlane wait --for=deleted ingress/shop -n web\n" +
			"  podlane wait secret/shop-tls -n web -o json",
		RunE: func(cmd *cobra.Command, args []string) error { return runWait(cmd.Context(), p, o, args) },
	}
	cmd.ValidArgsFunction = completeTargets(o)
	bind(cmd, o, o.scope, o.source, o.replicas, o.output)
	completeFlags(cmd, o.source, o.scope)
	return cmd
}

// runWait returns nil once it is so.
func runWait(ctx context.Context, p *process, o *waitOptions, args []string) (err error) {
	if err := checkTargets(args, o.files); err != nil {
		return err
	}
	at, err := findContext(o.source.Kubeconfig, o.source.Context)
	if err != nil {
		return err
	}
	objects, err := newClusterObjects(at.config)
	if err != nil {
		return err
	}
	w := &waiting{objects: objects, asker: newAsker(), gone: o.until == forDeleted, progress: newProgress(p.stderr)}
	if err := w.choose(args, o.files, cmp.Or(o.scope.Namespace, at.namespace)); err != nil {
		return err
	}
	if w.finder, err = newFinder(o.source, o.replicas); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.finder.Close()) }()
	s, release := p.watchSignals(ctx, func() {})
	defer release()
	limit := o.timeout
	if limit == 0 {
		limit, w.once = askTimeout, true
	}
	limited, cancel := context.WithTimeout(s.term, limit)
	defer cancel()
	if err := w.wait(limited); err != nil {
		return err
	}
	return writeWaited(p.stdout, o.output, w)
}

// waiting is one run of `podlane wait`.
type waiting struct {
	objects  *clusterObjects
	finder   *replicas.Finder
	asker    *asker
	progress *progress
	targets  []*target
	// gone waits for the end of the targets; once looks only once.
	gone, once bool
	// doubtSince is since when nothing but doubts was left.
	doubtSince time.Time
	done       []waitedJSON
}

// waitedJSON is one replica's answer for one object that was asked for.
type waitedJSON struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	State     string `json:"state"`
	Replica   string `json:"replica"`
	Version   string `json:"version,omitempty"`
	Table     uint64 `json:"table"`
	// Warnings are Problems with parts that have no effect.
	Warnings []problemJSON `json:"warnings,omitempty"`
}

// choose sets the targets: those that the user names, the Ingresses first.
func (w *waiting) choose(args, files []string, namespace string) error {
	for _, written := range args {
		t, err := parseTarget(written, namespace)
		if err != nil {
			return err
		}
		w.targets = append(w.targets, t)
	}
	for _, file := range files {
		found, _, err := targetsIn(file, namespace)
		if err != nil {
			return err
		}
		w.targets = append(w.targets, found...)
	}
	if len(w.targets) == 0 && len(files) > 0 {
		return errors.New("--filename: there is no Ingress, Service, Secret or ConfigMap in it")
	}
	// What an Ingress names is judged by what the table has made of it, which must not be older.
	slices.SortStableFunc(w.targets, func(a, b *target) int { return cmp.Compare(rankOf(a), rankOf(b)) })
	return nil
}

// checkTargets finds what is wrong with the command line, which needs no cluster to be told.
func checkTargets(args, files []string) error {
	for _, written := range args {
		if _, err := parseTarget(written, ""); err != nil {
			return err
		}
	}
	if len(args)+len(files) == 0 {
		return errors.New("name what to wait for: podlane wait ingress/NAME, or -f FILE")
	}
	return nil
}

func rankOf(t *target) int {
	if t.kind == "Ingress" {
		return 0
	}
	return 1
}

// The pauses between two looks, the grace for what may be on its way, and how often the API server is asked what is gone.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
	doubtGrace = 3 * time.Second
	recheck    = time.Second
)

// wait returns nil once every ready replica has done with every target.
func (w *waiting) wait(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	checked := time.Now()
	for pause := firstPause; ; pause = min(pause*3/2, lastPause) {
		done, err := w.look(ctx)
		if done || err != nil && ctx.Err() == nil {
			return err
		}
		if w.once {
			return fmt.Errorf("not yet: %s", w.progress.last)
		}
		if time.Since(checked) > recheck {
			if err := w.recheck(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			checked = time.Now()
		}
		wait(ctx, pause)
		if errors.Is(ctx.Err(), context.Canceled) {
			return errors.New("stopped")
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not in time (--timeout): %s", cmp.Or(w.progress.last, "no replica was asked"))
		}
	}
}

// start reads what is to be waited for.
func (w *waiting) start(ctx context.Context) error {
	if w.gone {
		return nil
	}
	asked := w.targets
	for _, t := range asked {
		named, err := w.objects.fill(ctx, t)
		if err != nil {
			return err
		}
		if t.version == "" {
			return fmt.Errorf("there is no %s in the cluster: apply it first", t)
		}
		for _, n := range named {
			same := func(have *target) bool { return have.kind == n.kind && have.name == n.name }
			if slices.ContainsFunc(w.targets, same) {
				continue
			}
			// Who may not read a Secret waits for the Ingress alone.
			if _, err := w.objects.fill(ctx, n); err == nil && n.version != "" {
				w.targets = append(w.targets, n)
			}
		}
	}
	return nil
}

// recheck drops what is gone from the cluster in the meantime, and fails where that was asked for.
func (w *waiting) recheck(ctx context.Context) error {
	if w.gone {
		return nil
	}
	var left []*target
	for _, t := range w.targets {
		now := *t
		now.slices = nil
		if _, err := w.objects.fill(ctx, &now); err != nil {
			return err
		}
		if now.version == "" && !t.implied {
			return fmt.Errorf("%s was deleted while it was waited for", t)
		}
		if now.version == "" {
			continue
		}
		for name := range t.slices {
			if _, there := now.slices[name]; !there && now.slices != nil {
				delete(t.slices, name)
			}
		}
		left = append(left, t)
	}
	w.targets = left
	return nil
}

// look asks every ready replica once. done is true when all have answered that it is so, and no other was ready after the last answer.
func (w *waiting) look(ctx context.Context) (done bool, err error) {
	if w.gone {
		for _, t := range w.targets {
			if _, err := w.objects.fill(ctx, t); err != nil {
				return false, err
			}
			if t.version != "" {
				w.progress.say(t.String() + " is still in the cluster")
				return false, nil
			}
		}
	}
	found, err := w.finder.All(ctx)
	if err != nil {
		return false, err
	}
	answered := map[string]bool{}
	w.done = nil
	doubt := ""
	for i := range found {
		r := &found[i]
		if !r.Ready {
			continue
		}
		v := w.ask(ctx, r)
		switch {
		case v.refused != "":
			return false, fmt.Errorf("%s: %s", r, v.refused)
		case v.pending != "":
			w.progress.say(v.pending)
			w.doubtSince = time.Time{}
			return false, nil
		case v.doubtful != "":
			doubt = fmt.Sprintf("%s: %s", r, v.doubtful)
		}
		answered[identityOf(r)] = true
	}
	if doubt != "" {
		return false, w.doubt(doubt)
	}
	w.doubtSince = time.Time{}
	if len(answered) == 0 {
		w.progress.say("no replica of Podlane is ready")
		return false, nil
	}
	return w.confirm(ctx, answered)
}

// doubt waits a little for what may be a mistake, and then says so.
func (w *waiting) doubt(text string) error {
	w.progress.say(text)
	if w.doubtSince.IsZero() {
		w.doubtSince = time.Now()
	}
	if w.once || time.Since(w.doubtSince) > doubtGrace {
		return errors.New(text)
	}
	return nil
}

// confirm says whether no replica became ready since the others were asked.
func (w *waiting) confirm(ctx context.Context, answered map[string]bool) (bool, error) {
	found, err := w.finder.All(ctx)
	if err != nil {
		return false, err
	}
	for i := range found {
		if r := &found[i]; r.Ready && !answered[identityOf(r)] {
			w.progress.say(r.String() + " became ready")
			return false, nil
		}
	}
	return true, nil
}

// identityOf tells replicas apart: a Pod that is replaced may have the name of the old one.
func identityOf(r *replicas.Replica) string { return r.String() + " " + string(r.UID) }

// writeWaited writes what was waited for.
func writeWaited(out io.Writer, o *config.Output, w *waiting) error {
	if o.Form == config.OutputJSON {
		return writeJSON(out, w.done)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "OBJECT\tSTATE\tREPLICA\tTABLE")
	for _, d := range w.done {
		fmt.Fprintf(table, "%s %s/%s\t%s\t%s\t%d\n", d.Kind, d.Namespace, d.Name, d.State, d.Replica, d.Table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	warned := map[string]bool{}
	for _, d := range w.done {
		for _, p := range d.Warnings {
			line := fmt.Sprintf("! %s %s/%s %s: %s (%s)", d.Kind, d.Namespace, d.Name, p.Field, p.Message, p.Reason)
			if !warned[line] {
				fmt.Fprintln(out, line)
			}
			warned[line] = true
		}
	}
	return nil
}
