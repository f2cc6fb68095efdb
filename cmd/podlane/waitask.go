package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"podlane.dev/podlane/cmd/podlane/replicas"
)

// maxQuery bounds the address of a page: admin servers read heads of 16 KiB.
const maxQuery = 8 << 10

// ask asks one replica about every target, and returns the worst of what that means. What is done is written down.
func (w *waiting) ask(ctx context.Context, r *replicas.Replica) verdict {
	if r.Err != nil {
		return verdict{pending: r.Err.Error()}
	}
	var worst verdict
	rest := w.targets
	for len(rest) > 0 {
		n, query := question(rest)
		var answer appliedJSON
		err := w.asker.read(ctx, r, "/debug/applied?"+query, &answer)
		if refused, ok := errors.AsType[*pageError](err); ok && refused.status == http.StatusNotFound {
			return verdict{refused: "it cannot tell: it is older than this command, or serves a folder"}
		}
		if err == nil && len(answer.Objects) != n {
			err = fmt.Errorf("%s: it answers about %d objects of %d", r, len(answer.Objects), n)
		}
		if err != nil {
			return verdict{pending: err.Error()}
		}
		for i, t := range rest[:n] {
			v := w.judge(r, t, &answer.Objects[i], answer.SyncedSecondsAgo)
			if v.refused != "" {
				return v
			}
			worst.pending, worst.doubtful = first(worst.pending, v.pending), first(worst.doubtful, v.doubtful)
		}
		rest = rest[n:]
	}
	return worst
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// question returns how many of the targets fit into one question, and its query.
func question(targets []*target) (int, string) {
	query := ""
	for n, t := range targets {
		next := query + "object=" + url.QueryEscape(t.kind+"/"+t.name.String()) + "&"
		if n > 0 && len(next) > maxQuery || n == maxAsked {
			return n, query[:len(query)-1]
		}
		query = next
	}
	return len(targets), query[:len(query)-1]
}

// judge judges one answer, and names the replica where it waits.
func (w *waiting) judge(r *replicas.Replica, t *target, o *appliedObjectJSON, lost float64) verdict {
	v := verdict{}
	state := "applied"
	switch {
	case w.gone && lost > 0:
		// It would not know of one that was made since, and taken away again.
		v.pending = fmt.Sprintf("it has lost the API server %.0f seconds ago", lost)
	case w.gone:
		v, state = t.judgeGone(o), "gone"
	default:
		v = t.judge(o)
	}
	if v.pending != "" {
		v.pending = fmt.Sprintf("%s: %s", r, v.pending)
	}
	if v == (verdict{}) && !t.implied {
		d := waitedJSON{Kind: t.kind, Namespace: t.name.Namespace, Name: t.name.Name, State: state, Replica: r.String(), Table: o.Table, Warnings: o.Problems}
		if o.Live != nil {
			d.Version = o.Live.ResourceVersion
		}
		w.done = append(w.done, d)
	}
	return v
}

// progress tells a person what is waited for, once that takes longer than a moment.
type progress struct {
	w     io.Writer
	since time.Time
	// last is what was said last, told or not; shown is what was told, at the time of toldAt.
	last, shown string
	toldAt      time.Time
}

// progressAfter is how long nothing is told, and how often it may change.
const progressAfter = 2 * time.Second

func newProgress(w io.Writer) *progress { return &progress{w: w, since: time.Now()} }

// say takes what is waited for now.
func (p *progress) say(text string) {
	p.last = oneLine(text)
	if time.Since(p.since) < progressAfter || time.Since(p.toldAt) < progressAfter || p.last == p.shown {
		return
	}
	p.shown, p.toldAt = p.last, time.Now()
	fmt.Fprintln(p.w, "waiting: "+p.last)
}
