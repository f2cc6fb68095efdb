package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// maxLines bounds what one change prints: a person reads no more, and /debug/routes has it all.
const maxLines = 40

// report tells a person at a terminal what is live and what changes. Its methods may be called concurrently.
type report struct {
	mu sync.Mutex
	w  io.Writer
	// told is whether the last broken load was reported, so that an editor that saves often does not repeat it.
	told bool
}

func (r *report) print(lines ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(r.w, strings.Join(lines, "\n"))
}

// started tells what is live at the beginning, where, and what to try.
func (r *report) started(from string, d *folder, f *front) {
	s := d.live
	lines := []string{fmt.Sprintf("podlane %s serves %s from %s", thisBuild().version, count(s.table.Len(), "route"), from)}
	for _, l := range f.http {
		lines = append(lines, "  http   http://"+l.Addr().String())
	}
	for _, l := range f.https {
		lines = append(lines, "  https  https://"+l.Addr().String())
	}
	for _, l := range f.adminSockets {
		lines = append(lines, "  admin  http://"+l.Addr().String()+"/debug/routes")
	}
	lines = append(lines, shorten(s.changesSince(scene{table: new(router.Table)}))...)
	if try := tryLine(s.table, f, f.alive()); try != "" {
		lines = append(lines, "try: "+try)
	}
	lines = append(lines, "following changes of "+from+"; Ctrl-C stops")
	r.print(lines...)
	r.problems(nil, d.current())
}

// changed tells what another load made of what was live, and how long after the change began.
func (r *report) changed(lines []string, routes int, took time.Duration) {
	r.mu.Lock()
	r.told = false
	r.mu.Unlock()
	if len(lines) == 0 {
		return
	}
	r.print(append(shorten(lines), fmt.Sprintf("= %s, live %s after the change", count(routes, "route"), took.Round(time.Millisecond)))...)
}

// shorten cuts a list that is too long for a person.
func shorten(lines []string) []string {
	if len(lines) <= maxLines {
		return slices.Clip(lines)
	}
	return append(slices.Clone(lines[:maxLines]), fmt.Sprintf("… and %d more", len(lines)-maxLines))
}

// kept tells, once until it is over, that what is live stays because of a broken file.
func (r *report) kept() {
	r.mu.Lock()
	told := r.told
	r.told = true
	r.mu.Unlock()
	if !told {
		r.print("! what is live stays as it is until every file can be read")
	}
}

// problems tells of those that are new, and how many are gone.
func (r *report) problems(before, now []ingress.Problem) {
	var lines []string
	for _, p := range now {
		if !slices.Contains(before, p) {
			lines = append(lines, "! "+p.String())
		}
	}
	gone := 0
	for _, p := range before {
		if !slices.Contains(now, p) {
			gone++
		}
	}
	if len(lines) > 0 {
		r.print(shorten(lines)...)
	}
	if gone > 0 {
		r.print(fmt.Sprintf("✓ %s solved", count(gone, "problem")))
	}
}

// failed tells of something that went wrong while following.
func (r *report) failed(err error) { r.print("! " + err.Error()) }
